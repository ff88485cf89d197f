"""Measure a generation's model on validation and test, and against the generations before it."""

from pipeline.data.shards import read_manifest
from pipeline.evaluate.measure import measure_head, measure_network
from pipeline.evaluate.run import (
    ModelResult,
    compare_with,
    images_seen,
    load_result,
    save_result,
    write_confusion,
)
from pipeline.files import publish_folder, write_json
from pipeline.labels.predict import predict_folder
from pipeline.models.head import reads_features
from pipeline.models.spec import model_digest, read_spec
from pipeline.progress import Advance, progress
from pipeline.report.figures import write_evaluation_figures
from pipeline.workflow.stage import Stage, result_line, run_stage


def evaluate(stage: Stage) -> None:
    """Write evaluations/ and metrics/evaluate/ of the stage's generation."""
    layout, model, how = stage.layout, stage.model, stage.params.evaluate
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
        result = _measured(stage, advance)
        if before:
            first, teacher = (load_result(layout.evaluation(name)) for name in before)
            result = compare_with(result, first, teacher, **bootstrap)
        out, classes = run.scratch / "evaluation", layout.classes
        save_result(out, result)
        predict_folder(
            layout.model(model),
            layout.prepared / "labeled",
            out / "labeled",
            features=layout.features("labeled"),
            advance=advance,
            **how.model_dump(include={"threads", "batch_size", "device"}),
        )
        publish_folder(out, layout.evaluation(model))
        write_json(layout.metrics("evaluate", model), result.metrics)
        write_confusion(layout.confusion(model), result, classes)
        run.tracker.metrics(result.metrics)
        run.images = len(result.test_labels) + len(result.validation_labels)
        test, folder = result.test, run.scratch / "figures"
        write_evaluation_figures(folder, test, generation=model, classes=classes)
        run.tracker.artifact(folder)
    against = result.against_teacher
    verdict = f"; against its teacher: {against.verdict}" if against else ""
    shown = f"test accuracy {test.accuracy:.2%} ({test.low:.2%} to {test.high:.2%})"
    result_line(stage, shown + verdict)


def _measured(stage: Stage, advance: Advance) -> ModelResult:
    """The model's figures: of a head from stored features, of a network from the images."""
    layout, how = stage.layout, stage.params.evaluate
    folder = layout.model(stage.model)
    centre = how.views == "centre" and how.knn is None and how.robustness_images is None
    if centre and reads_features(read_spec(folder)):
        features = layout.features("test").parent
        return measure_head(folder, layout.prepared, features, interval=how.interval)
    given = how.model_dump(exclude={"bootstrap_samples"}) | {"seed": stage.params.seed}
    return measure_network(folder, layout.prepared, **given, advance=advance)


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
