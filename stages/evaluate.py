"""Measure a generation's model on validation and test, and against the generations before it."""

from pipeline.data.shards import read_manifest
from pipeline.evaluate.measure import best_views, images_predicted, measure_model
from pipeline.evaluate.result import compare_with, load_result, save_result, write_confusion
from pipeline.files import publish_folder, write_json
from pipeline.labels.predict import predict_folder
from pipeline.models.spec import model_digest
from pipeline.progress import progress
from pipeline.report.figures import write_evaluation_figures
from pipeline.tasks.significance import Bootstrap
from pipeline.workflow.shipping import shipped_views
from pipeline.workflow.stage import Stage, result_line, run_stage


def evaluate(stage: Stage) -> None:
    """Write evaluations/ and metrics/evaluate/ of the stage's generation."""
    layout, params, seed = stage.layout, stage.params.evaluate, stage.params.seed
    task = stage.task
    model, labeled = layout.model(stage.model), layout.prepared / "labeled"
    before = [] if stage.key == "0" else ["0", stage.params.generations[stage.key].teacher]
    read = before if stage.model == "0" else [*before, "0"]
    inputs = layout.data_digests("labeled", "validation", "test")
    inputs |= {"model": model_digest(model)}
    inputs |= {f"evaluation.{name}": layout.evaluation_digest(name) for name in read}
    fingerprint = {"evaluate": params.model_dump(mode="json"), "seed": seed}
    with stage.run(inputs, fingerprint) as run:
        views = shipped_views(layout, stage.params)
        if params.views == "auto" and stage.model == "0":
            views = best_views(model, layout.prepared, params, task, seed=seed, title=stage.title)
        count = images_predicted(model, layout.prepared, params, task, views)
        with progress(stage.title, read_manifest(labeled).rows + count) as advance:
            result = measure_model(
                model,
                layout.prepared,
                layout.features("test").parent,
                params,
                task,
                views=views,
                seed=seed,
                advance=advance,
            )
            if before:
                first, teacher = (load_result(layout.evaluation(name), task) for name in before)
                result = compare_with(task, result, first, teacher, Bootstrap.of(params, seed))
            out, features = run.scratch / "evaluation", layout.features("labeled")
            save_result(out, result, task)
            predict_folder(
                model, labeled, out / "labeled", params, features=features, advance=advance
            )
        publish_folder(out, layout.evaluation(stage.model))
        metrics = result.metrics(task)
        write_json(layout.metrics("evaluate", stage.model), metrics)
        write_confusion(layout.confusion(stage.model), result, layout.classes, task)
        run.tracker.metrics(metrics)
        run.images = len(result.test_targets) + len(result.validation_targets)
        test, folder = result.test, run.scratch / "figures"
        write_evaluation_figures(folder, task, test, generation=stage.model, classes=layout.classes)
        run.tracker.artifact(folder)
    against = result.against_teacher
    verdict = f"; against its teacher: {against.verdict}" if against else ""
    shown = f"test {task.score_words} {test.score:.2%} ({test.low:.2%} to {test.high:.2%})"
    result_line(stage, shown + verdict)


if __name__ == "__main__":
    run_stage("evaluate", evaluate, models="all")
