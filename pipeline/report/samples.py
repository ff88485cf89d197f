"""A few images as training sees them, with their labels: a sheet for each run in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.data.shards import check_shard, iter_shards, read_manifest, read_shard
from pipeline.data.tensors import decode_images, stored_shape
from pipeline.params import AugmentParams
from pipeline.report.contact_sheet import SheetRow, draw_sheet, save_sheet
from pipeline.report.preview import choose_images, view_rows

SAMPLES = 10
PSEUDO_COLUMNS = ["shard", "row", "label", "confidence", "repeats"]


def write_samples(
    folder: Path,
    prepared: Path,
    pseudo_labels: Path | None,
    classes: Sequence[str],
    augment: AugmentParams,
    seed: int,
) -> list[Path]:
    """Draw labelled images, and pseudo-labelled ones with their confidence; returns the PNGs.

    Of the first shards alone, so that it takes no longer for a million images.
    """
    images, captions = labeled_samples(prepared / "labeled", classes)
    drawn = {"labeled": ("labelled images as training sees them", images, captions)}
    found = pseudo_labels and pseudo_labeled_samples(pseudo_labels, prepared / "unlabeled", classes)
    if found:
        images, captions = found
        title = "pseudo-labelled images as training sees them: label and confidence"
        drawn["pseudo_labeled"] = (title, images, captions)
    paths = []
    for name, (title, pixels, texts) in drawn.items():
        rows: list[SheetRow] = view_rows(pixels.float() / 255, texts, augment, seed)
        paths.append(folder / f"samples_{name}.png")
        save_sheet(draw_sheet(title, rows), paths[-1])
    return paths


def labeled_samples(folder: Path, classes: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Images (n, C, S, S) uint8 of the first shard, the classes in turn, and their classes."""
    table = next(iter_shards(folder, ["image", "label"]))
    labels = torch.from_numpy(table.column("label").to_numpy().copy())
    rows = choose_images(labels, SAMPLES).tolist()
    return _decoded(folder, table, rows), [classes[label] for label in labels[rows].tolist()]


def pseudo_labeled_samples(
    pseudo_labels: Path, unlabeled: Path, classes: Sequence[str]
) -> tuple[Tensor, list[str]] | None:
    """Images of the first shard that has any, the classes in turn; label and confidence of each.

    None where no image counts.
    """
    for table in iter_shards(pseudo_labels, PSEUDO_COLUMNS):
        kept = table.filter(pc.greater(table.column("repeats"), 0))
        if kept.num_rows:
            break
    else:
        return None
    number = kept.column("shard")[0].as_py()
    kept = kept.filter(pc.equal(kept.column("shard"), number))
    labels = torch.from_numpy(kept.column("label").to_numpy().copy())
    chosen = kept.take(choose_images(labels, SAMPLES).tolist()).to_pydict()
    entry = read_manifest(unlabeled).shards[number]
    table = read_shard(check_shard(unlabeled, entry), ["image"])
    captions = [
        f"{classes[label]} {confidence:.0%}"
        for label, confidence in zip(chosen["label"], chosen["confidence"], strict=True)
    ]
    return _decoded(unlabeled, table, chosen["row"]), captions


def _decoded(folder: Path, table: Any, rows: Sequence[int]) -> Tensor:
    files = table.column("image").take(rows).to_pylist()
    return decode_images(files, stored_shape(folder, read_manifest(folder)), folder)
