"""Read the source once; write the labelled, unlabelled, validation and test images as shards."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pipeline.data.preparation.listing import list_source
from pipeline.data.preparation.prepare import prepare as prepare_images
from pipeline.data.sources import ColumnNames, open_source
from pipeline.data.storage import StoredFolder, open_storage
from pipeline.data.stored_shards import stored_prefix
from pipeline.errors import SourceError
from pipeline.files import file_digest, stage_json, write_json
from pipeline.ray.map_shards import in_ray_tasks
from pipeline.tasks import open_task
from pipeline.workflow.scratch import only_scratch
from pipeline.workflow.stage import Stage, result_line, run_stage

CORRECTED = ("corrected", "excluded", "corrections_unused")


def prepare(stage: Stage) -> None:
    """Turn the source into prepared/."""
    data, seed, workers = stage.params.data, stage.params.seed, stage.params.run.prepare_workers
    storage = open_storage(stage.params.storage.url)
    columns, pattern = ColumnNames(**data.columns), data.group_pattern
    digest, check_source = _source_check(stage)
    task = stage.params.task
    source = open_source(
        data.source, data.path, seed=seed, columns=columns, group_pattern=pattern, task=task
    )
    corrections = Path(data.corrections) if data.corrections else None
    inputs = {"source": digest}
    if corrections is not None and corrections.is_file():
        inputs["corrections"] = file_digest(corrections)
    parameters = {"data": data.model_dump(mode="json"), "seed": seed}
    fingerprint = stage.fingerprint(inputs, parameters | {"task": task})
    with only_scratch(stage.root, stage.title, fingerprint) as scratch:

        def place_of(kind: str) -> Path | StoredFolder:
            if storage is None:
                return scratch / kind
            prefix = stored_prefix(storage, kind, fingerprint)
            stage.marks.add(prefix)
            return prefix

        with (
            in_ray_tasks(workers, stored=storage is not None, title=stage.title)
            if workers
            else nullcontext()
        ) as map_items:
            prepared_images = prepare_images(
                source,
                stage.layout.prepared,
                data,
                task=open_task(task),
                seed=seed,
                scratch=scratch,
                place_of=place_of,
                map_items=map_items,
                corrections=corrections,
                check_source=check_source,
            )
        if storage is not None:
            stage.marks.remove(stored_prefix(storage, "slices", fingerprint))
    counts = asdict(prepared_images)
    if data.corrections is None:
        counts = {name: count for name, count in counts.items() if name not in CORRECTED}
    write_json(stage.layout.metrics("prepare"), counts)
    digests = stage.layout.data_digests("labeled", "unlabeled", "validation", "test")
    with stage.run(digests, parameters) as run:
        run.tracker.metrics(counts)
        run.images = len(source)
    result_line(stage, str(prepared_images))


def _source_check(stage: Stage) -> tuple[str, Callable[[], None]]:
    """The digest of the source's files, and what raises SourceError where they are not those that
    scan has seen, or, where it did not run, not those of now."""
    path, layout = stage.params.data.path, stage.layout
    if path is None:
        return "", lambda: None
    listed = partial(list_source, path, layout.listing(path), project=stage.root)
    facts = stage_json(layout.source) if layout.source.exists() else {"digest": listed().digest}
    known = facts.get("digest") if isinstance(facts, dict) else None

    def check() -> None:
        if known != listed().digest:
            raise SourceError(f"{path}: files changed while they were read; selftrain run again")

    return str(known), check


if __name__ == "__main__":
    run_stage("prepare", prepare)
