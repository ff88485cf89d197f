"""Read the source once; write the labelled, unlabelled, validation and test images as shards."""

from dataclasses import asdict
from pathlib import Path

from pipeline.data.preparation.prepare import prepare as prepare_images
from pipeline.data.sources import ColumnNames, open_source
from pipeline.data.storage import open_storage
from pipeline.files import write_json
from pipeline.workflow.stage import Stage, result_line, run_stage

CORRECTED = ("corrected", "excluded", "corrections_unused")


def prepare(stage: Stage) -> None:
    """Turn the source into prepared/."""
    data, seed = stage.params.data, stage.params.seed
    storage = open_storage(stage.params.storage.url)
    columns, pattern = ColumnNames(**data.columns), data.group_pattern
    source = open_source(data.source, data.path, seed=seed, columns=columns, group_pattern=pattern)
    corrections = Path(data.corrections) if data.corrections else None
    prepared = stage.layout.prepared
    counts = asdict(
        prepare_images(source, prepared, data, seed=seed, storage=storage, corrections=corrections)
    )
    if data.corrections is None:
        counts = {name: count for name, count in counts.items() if name not in CORRECTED}
    write_json(stage.layout.metrics("prepare"), counts)
    parameters = {"data": data.model_dump(mode="json"), "seed": seed}
    digests = stage.layout.data_digests("labeled", "unlabeled", "validation", "test")
    with stage.run(digests, parameters) as run:
        run.tracker.metrics(counts)
        run.images = len(source)
    shown = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    result_line(stage, shown)


if __name__ == "__main__":
    run_stage("prepare", prepare)
