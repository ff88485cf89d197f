"""Read the source once; write the labelled, unlabelled, validation and test images as shards."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from pipeline.data.preparation.prepare import prepare as prepare_images
from pipeline.data.sources import ColumnNames, open_source
from pipeline.data.storage import open_storage
from pipeline.data.trees.tree import is_remote, local_path
from pipeline.files import file_digest, write_json
from pipeline.ray.map_shards import in_ray_tasks
from pipeline.tasks import open_task
from pipeline.workflow.scratch import only_scratch
from pipeline.workflow.source import source_check
from pipeline.workflow.stage import Stage, result_line, run_stage

CORRECTED = ("corrected", "excluded", "corrections_unused")


def prepare(stage: Stage) -> None:
    """Turn the source into prepared/."""
    data, seed, workers = stage.params.data, stage.params.seed, stage.params.run.prepare_workers
    storage = open_storage(stage.params.storage.url)
    columns, pattern = ColumnNames(**data.columns), data.group_pattern
    digest, check_source = source_check(stage.root, data)
    path, task = data.path and local_path(data.path), stage.params.task
    if path and workers and not is_remote(path):
        path = str(Path(path).absolute())  # a worker may have another folder of its own
    source = open_source(
        data.source, path, seed=seed, columns=columns, group_pattern=pattern, task=task
    )
    corrections = Path(data.corrections) if data.corrections else None
    inputs = {"source": digest}
    if corrections is not None and corrections.is_file():
        inputs["corrections"] = file_digest(corrections)
    parameters = {"data": data.model_dump(mode="json"), "seed": seed}
    fingerprint = stage.fingerprint(inputs, parameters | {"task": task})
    with (
        only_scratch(stage, fingerprint, storage) as scratch,
        in_ray_tasks(workers, stored=storage is not None, title=stage.title, reads=path)
        if workers
        else nullcontext() as map_items,
    ):
        prepared_images = prepare_images(
            source,
            stage.layout.prepared,
            data,
            task=open_task(task),
            seed=seed,
            scratch=scratch.folder,
            place_of=scratch.place_of,
            map_items=map_items,
            corrections=corrections,
            check_source=check_source,
        )
    counts = asdict(prepared_images)
    if data.corrections is None:
        counts = {name: count for name, count in counts.items() if name not in CORRECTED}
    write_json(stage.layout.metrics("prepare"), counts)
    digests = stage.layout.data_digests("labeled", "unlabeled", "validation", "test")
    with stage.run(digests, parameters) as run:
        run.tracker.metrics(counts)
        run.images = len(source)
    result_line(stage, str(prepared_images))


if __name__ == "__main__":
    run_stage("prepare", prepare)
