"""Some labelled and pseudo-labelled images of a run, as training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.data.predictions import targets_of
from pipeline.data.rows import read_rows
from pipeline.data.shards import column_labels, iter_shards, read_manifest
from pipeline.data.tensors import decode_images, stored_shape
from pipeline.params import AugmentParams
from pipeline.report.contact_sheet import draw_sheet, save_sheet
from pipeline.report.preview import Overlay, choose_images, view_rows
from pipeline.tasks import Task

SAMPLES = 10
TITLES = {
    "labeled": "labelled images as training sees them",
    "pseudo_labeled": "pseudo-labelled images as training sees them: label and confidence",
}
PSEUDO_COLUMNS = ["shard", "row", "label", "confidence", "repeats"]
Samples = tuple[Tensor, list[str], Overlay | None]


def write_samples(
    folder: Path,
    prepared: Path,
    pseudo_labels: Path | None,
    classes: Sequence[str],
    augment: AugmentParams,
    seed: int,
    task: Task,
) -> list[Path]:
    """Draw labelled images, and pseudo-labelled ones with their confidence; returns the PNGs.

    Of the first shards alone, so that it takes no longer for a million images.
    """
    sheets = {"labeled": labeled_samples(prepared / "labeled", classes, task)}
    if pseudo_labels is not None:
        unlabeled = prepared / "unlabeled"
        sheets["pseudo_labeled"] = pseudo_labeled_samples(pseudo_labels, unlabeled, classes, task)
    paths = []
    for name, (images, captions, overlay) in sheets.items():
        if captions:
            rows = view_rows(images.float() / 255, captions, augment, seed, overlay)
            paths.append(folder / f"samples_{name}.png")
            save_sheet(draw_sheet(TITLES[name], rows), paths[-1])
    return paths


def labeled_samples(folder: Path, classes: Sequence[str], task: Task) -> Samples:
    """Images (n, C, S, S) uint8 of the first shard, the classes in turn, their captions and what
    is drawn over them."""
    side = stored_shape(folder, read_manifest(folder))[-1]
    column = next(iter_shards(folder, [task.target.name])).column(task.target.name)
    if task.image_classes:
        labels = torch.from_numpy(task.load(column, side))
        rows = choose_images(labels, SAMPLES)
        captions = [classes[label] for label in labels[rows].tolist()]
        return _decoded(folder, rows.tolist()), captions, None
    targets = torch.from_numpy(task.load(column[:SAMPLES], side))
    overlay = Overlay(task, targets, len(classes))
    return _decoded(folder, range(len(targets))), [""] * len(targets), overlay


def pseudo_labeled_samples(
    pseudo_labels: Path, unlabeled: Path, classes: Sequence[str], task: Task
) -> Samples:
    """Images of the first shard that has any, the classes in turn; label and confidence of each.

    No images where none counts.
    """
    selected: list[dict[str, Any]] = []
    overlay, count, manifest = None, len(classes), read_manifest(pseudo_labels)
    names = [] if task.image_classes else task.pseudo_label_schema(count).names
    for table in iter_shards(pseudo_labels, list(dict.fromkeys([*PSEUDO_COLUMNS, *names]))):
        table = table.filter(pc.greater(table.column("repeats"), 0))
        labels = torch.tensor(column_labels(table))
        table = table.take(choose_images(labels, SAMPLES).numpy())
        selected = table.select(PSEUDO_COLUMNS).to_pylist()
        if selected:
            if not task.image_classes:
                targets = targets_of(pseudo_labels, manifest, table, task)
                overlay = Overlay(task, torch.from_numpy(targets), count)
            break
    starts = np.cumsum([0, *(entry.rows for entry in read_manifest(unlabeled).shards)])
    rows = [int(starts[image["shard"]]) + image["row"] for image in selected]
    captions = [f"{classes[image['label']]} {image['confidence']:.0%}" for image in selected]
    return _decoded(unlabeled, rows), captions, overlay


def _decoded(folder: Path, rows: Sequence[int]) -> Tensor:
    """The images of these rows of a folder, (n, C, S, S) uint8."""
    files = read_rows(folder, rows, ["image"]).column("image").to_pylist()
    return decode_images(files, stored_shape(folder, read_manifest(folder)), folder)
