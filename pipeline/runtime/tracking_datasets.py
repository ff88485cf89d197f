"""The data sets that a run uses, as MLflow lists them: name, digest, images, and what for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.runtime.layout import Layout

CONTEXTS = {
    "labeled": "training",
    "unlabeled": "self-training",
    "predictions": "selection",
    "pseudo_labels": "training",
    "validation": "validation",
    "test": "testing",
}
DIGEST_CHARACTERS = 36


def used_datasets(
    layout: Layout, source: str, generation: str, inputs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Those of a stage's `inputs` (digests by name) that are images, or say something of each.

    source: the name of the data set; counts are those of the manifests.
    """
    return list(_described(layout, source, generation, inputs))


def _described(
    layout: Layout, source: str, generation: str, inputs: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    from pipeline.data.shards import read_manifest  # pyarrow takes a while to import

    for part, context in CONTEXTS.items():
        if part not in inputs:
            continue
        folder = _folder(layout, part, generation)
        yield {
            "name": f"{source}/{folder.relative_to(layout.root).as_posix()}",
            "digest": inputs[part][:DIGEST_CHARACTERS],
            "context": context,
            "source": folder.relative_to(layout.root).as_posix(),
            "rows": read_manifest(folder).rows,
        }


def _folder(layout: Layout, part: str, generation: str) -> Path:
    if part == "predictions":
        return layout.predictions(generation)
    if part == "pseudo_labels":
        return layout.pseudo_labels(generation)
    return layout.prepared / part
