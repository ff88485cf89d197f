"""Read the source once; write the labelled, unlabelled, validation and test images as shards."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pipeline.data.preparation.listing import list_source
from pipeline.data.preparation.prepare import prepare as prepare_images
from pipeline.data.sources import ColumnNames, open_source
from pipeline.data.storage import open_storage
from pipeline.errors import SourceError
from pipeline.files import stage_json, write_json
from pipeline.tasks import open_task
from pipeline.workflow.stage import Stage, result_line, run_stage

CORRECTED = ("corrected", "excluded", "corrections_unused")


def prepare(stage: Stage) -> None:
    """Turn the source into prepared/."""
    data, seed = stage.params.data, stage.params.seed
    storage = open_storage(stage.params.storage.url)
    columns, pattern = ColumnNames(**data.columns), data.group_pattern
    check_source = _source_check(stage)
    task = stage.params.task
    source = open_source(
        data.source, data.path, seed=seed, columns=columns, group_pattern=pattern, task=task
    )
    corrections = Path(data.corrections) if data.corrections else None
    prepared = stage.layout.prepared
    prepared_images = prepare_images(
        source,
        prepared,
        data,
        task=open_task(task),
        seed=seed,
        storage=storage,
        corrections=corrections,
        check_source=check_source,
    )
    counts = asdict(prepared_images)
    if data.corrections is None:
        counts = {name: count for name, count in counts.items() if name not in CORRECTED}
    write_json(stage.layout.metrics("prepare"), counts)
    parameters = {"data": data.model_dump(mode="json"), "seed": seed}
    digests = stage.layout.data_digests("labeled", "unlabeled", "validation", "test")
    with stage.run(digests, parameters) as run:
        run.tracker.metrics(counts)
        run.images = len(source)
    result_line(stage, str(prepared_images))


def _source_check(stage: Stage) -> Callable[[], None]:
    """What raises SourceError where the source's files are not those that scan has seen, or, where
    it did not run, not those of now."""
    path, layout = stage.params.data.path, stage.layout
    if path is None:
        return lambda: None
    listed = partial(list_source, path, layout.listing(path), project=stage.root)
    facts = stage_json(layout.source) if layout.source.exists() else {"digest": listed().digest}

    def check() -> None:
        if not isinstance(facts, dict) or facts.get("digest") != listed().digest:
            raise SourceError(f"{path}: files changed while they were read; selftrain run again")

    return check


if __name__ == "__main__":
    run_stage("prepare", prepare)
