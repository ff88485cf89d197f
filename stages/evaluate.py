"""Measure a generation's model on validation and test, and against the generations before it."""

from functools import partial

import torch

from pipeline.data.shards import read_manifest
from pipeline.data.tensors import ImageSet
from pipeline.evaluate.checkpoints import checkpoint_log_probs
from pipeline.evaluate.knn import network_knn_accuracy
from pipeline.evaluate.metrics import Floats
from pipeline.evaluate.run import (
    RESULT_FILE,
    compare_with,
    images_seen,
    load_result,
    measure,
    save_result,
    write_confusion,
)
from pipeline.files import publish_folder, write_json
from pipeline.labels.predict import predict_folder
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.spec import model_digest, read_spec
from pipeline.progress import progress
from pipeline.runtime.stage import Stage, result_line, run_stage


def evaluate(stage: Stage) -> None:
    """Write evaluations/ and metrics/evaluate/ of the stage's generation."""
    layout, model, how = stage.layout, stage.model, stage.params.evaluate
    torch.set_num_threads(how.threads)
    before = [] if stage.key == "0" else ["0", stage.params.generations[stage.key].teacher]
    inputs = layout.data_digests("labeled", "validation", "test")
    inputs |= {"model": model_digest(layout.model(model))}
    inputs |= {f"evaluation.{name}": layout.evaluation_digest(name) for name in before}
    parameters = {"evaluate": how.model_dump(mode="json"), "seed": stage.params.seed}
    bootstrap = how.model_dump(include={"bootstrap_samples", "interval"})
    bootstrap["seed"] = stage.params.seed
    with (
        stage.run(inputs, parameters) as run,
        progress(stage.title, _images_seen(stage)) as advance,
    ):
        checkpoint = load_checkpoint(layout.model(model))
        classes = checkpoint.spec.classes

        drawn = how.model_dump(include={"jitter_views", "batch_size"})
        drawn["seed"] = stage.params.seed

        def predict(images: ImageSet, view: str) -> Floats:
            return checkpoint_log_probs(
                checkpoint, images.images, view=view, advance=advance, **drawn
            )

        nearest = how.knn and partial(
            network_knn_accuracy,
            checkpoint.network,
            mean=checkpoint.spec.mean,
            std=checkpoint.spec.std,
            neighbors=how.knn,
            batch_size=how.batch_size,
        )
        options = how.model_dump(include={"threads", "cache_gib", "robustness_images"}) | bootstrap
        options |= {"view": how.views, "nearest": nearest}
        result = measure(predict, layout.prepared, **options)
        if before:
            first, teacher = (load_result(layout.evaluation(name)) for name in before)
            result = compare_with(result, first, teacher, **bootstrap)
        out = run.scratch / "evaluation"
        save_result(out, result)
        labeled = layout.prepared / "labeled"
        batches = how.model_dump(include={"threads", "batch_size"})
        predict_folder(layout.model(model), labeled, out / "labeled", advance=advance, **batches)
        publish_folder(out, layout.evaluation(model))
        write_json(layout.metrics("evaluate", model), result.metrics)
        write_confusion(layout.confusion(model), result, classes)
        run.tracker.metrics(result.metrics)
        run.images = len(result.test_labels) + len(result.validation_labels)
        about = {"generation": model, "classes": classes}
        run.tracker.drawn("evaluation", layout.evaluation(model) / RESULT_FILE, about)
    test, against = result.test, result.against_teacher
    verdict = f"; against its teacher: {against.verdict}" if against else ""
    shown = f"test accuracy {test.accuracy:.2%} ({test.low:.2%} to {test.high:.2%})"
    result_line(stage, shown + verdict)


def _images_seen(stage: Stage) -> int:
    """How many images the stage predicts, each time it does."""
    layout, how = stage.layout, stage.params.evaluate
    parts = ("test", "validation", "labeled")
    test, validation, labeled = (read_manifest(layout.prepared / part).rows for part in parts)
    return labeled + images_seen(
        test,
        validation,
        channels=read_spec(layout.model(stage.model)).channels,
        view=how.views,
        robustness_images=how.robustness_images,
    )


if __name__ == "__main__":
    run_stage("evaluate", evaluate, models="all")
