"""Put everything that was measured on one page, and a table on the terminal."""

import sys
from contextlib import nullcontext
from dataclasses import replace

from pipeline.files import write_text
from pipeline.progress import say
from pipeline.ray.map_shards import in_ray_tasks
from pipeline.report.gather import as_written, gather_report
from pipeline.report.originals import shown_pictures
from pipeline.report.page import render_report, render_times
from pipeline.report.summary import headline, render_note, render_table
from pipeline.tracking.tracker import drain
from pipeline.workflow.stage import Stage, result_line, run_stage
from pipeline.workflow.times import read_times, stage_names

DRAIN_SECONDS = 60.0


def report(stage: Stage) -> None:
    """Write report/index.html, and beside it times.html, which is no output of DVC's."""
    layout, params = stage.layout, stage.params
    keys, stored = params.all_models, params.storage.url is not None
    by_class = params.generations and stage.task.image_classes  # galleries of unlabelled images
    workers = params.run.select_workers if by_class else 0
    layout.remove_leftovers(keys)
    inputs = {f"evaluation.{key}": layout.evaluation_digest(key) for key in keys}
    with stage.run(inputs, {"report": {}}) as run:
        page = layout.report / "index.html"
        with (
            in_ray_tasks(workers, stored=stored, title=stage.title, grouped=True)
            if workers
            else nullcontext() as map_items,
            as_written(stage.root),
        ):
            data = gather_report(layout, params, map_items)
            data = replace(data, pictures=shown_pictures(data.shown_images, params.data))
            html, note, figures = render_report(data), render_note(data), headline(data)
            by_generation = [part.test.score for part in data.generations]
            table = render_table(data, color=sys.stdout.isatty())
        write_text(page, html)
        run.tracker.artifact(page)
        run.tracker.headline(figures)
        for step, score in enumerate(by_generation):
            run.tracker.headline({f"test/{stage.task.score}/generations": score}, step)
        run.tracker.tags({"mlflow.note.content": note}, lineage=True)
    names = stage_names(params.model_keys[1:], params.seed_keys, params.control_keys)
    write_text(layout.report / "times.html", render_times(read_times(stage.root, names)))
    print(table, flush=True)
    left = drain(stage.root, DRAIN_SECONDS)
    if left:
        say(f"MLflow has yet to get {left} runs; the next stage sends them")
    result_line(
        stage, f"open {page.relative_to(stage.root)}; `selftrain ui` shows every run in MLflow"
    )


if __name__ == "__main__":
    run_stage("report", report)
