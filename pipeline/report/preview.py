"""What augmentation does to some images: contact sheets for a look, and for each run in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline import augment as augmentation
from pipeline.augment import Draws
from pipeline.augment.boxes import crop_boxes, cutout, random_erasing, resized_crop
from pipeline.augment.mix import blend, paste
from pipeline.augment.randaugment import MAGNITUDES, OPERATIONS, apply_plan, draw_plan
from pipeline.augment.views import move
from pipeline.data.rows import read_rows
from pipeline.data.shards import column_labels, iter_shards, read_manifest
from pipeline.data.tensors import decode_images, stored_shape
from pipeline.evaluate.corruptions import SEVERITIES, corruption_names
from pipeline.evaluate.robustness import corrupted
from pipeline.params import AugmentParams
from pipeline.report.contact_sheet import SheetRow, draw_sheet, save_sheet

SAMPLES = 10
TITLES = {
    "labeled": "labelled images as training sees them",
    "pseudo_labeled": "pseudo-labelled images as training sees them: label and confidence",
}
PSEUDO_COLUMNS = ["shard", "row", "label", "confidence", "repeats"]
STRONG_VIEWS = 4
MAGNITUDES_SHOWN = (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


def preview_rows(
    images: Tensor, labels: Sequence[str], augment: AugmentParams, seed: int
) -> list[SheetRow]:
    """The views of `images` (n, C, S, S) float under `augment`, then each of its parts alone."""
    rows = view_rows(images, labels, augment, seed)
    kinds = ("mixup", "cutmix") if augment.mix == "both" else (augment.mix,)
    rows += [_mixed_row(images, labels, kind, augment, seed) for kind in kinds if kind != "none"]
    if augment.num_ops:
        levels = torch.full((len(images),), augment.magnitude / MAGNITUDES)
        levels[1::2] *= -1
        for name in dict.fromkeys(augment.operations):
            shown = one_operation(images, name, levels, seed)
            rows.append(SheetRow(f"{name} {augment.magnitude:g}", shown))
    if augment.cutout:
        square = cutout(images, _draws(seed, images), side=augment.cutout)
        rows.append(SheetRow(f"cutout {augment.cutout:g}", square))
    if augment.erasing:
        erased = random_erasing(images, _draws(seed, images), chance=augment.erasing)
        rows.append(SheetRow(f"erasing {augment.erasing:g}", erased))
    return rows


def view_rows(
    images: Tensor, captions: Sequence[str], augment: AugmentParams, seed: int
) -> list[SheetRow]:
    """`images` (n, C, S, S) float as they are, and as training sees them: weak, strong views."""
    weak = augmentation.weak(images, _draws(seed, images), augment)
    rows = [SheetRow("original", images, captions), SheetRow("weak", weak)]
    for number in range(1, STRONG_VIEWS + 1):
        draws = _draws(seed + number, images)
        strong = augmentation.strong(images, draws, augment)
        rows.append(SheetRow(f"strong, draw {number}", strong))
    return rows


def _mixed_row(
    images: Tensor, labels: Sequence[str], kind: Any, augment: AugmentParams, seed: int
) -> SheetRow:
    """The originals mixed, with the share that each keeps of its own target."""
    targets, draws = torch.eye(len(images)), _draws(seed, images)
    mixed, shares = augmentation.mix(images, targets, draws, kind=kind, alpha=augment.mix_alpha)
    own = zip(shares.diagonal().tolist(), labels, strict=True)
    return SheetRow(kind, mixed, [f"{share:.0%} {label}" for share, label in own])


def every_operation_rows(images: Tensor, seed: int) -> list[SheetRow]:
    """Everything there is, at rising strengths, on the middle one of images (n, C, S, S) float.

    Operations of RandAugment at magnitudes both ways; what mixes takes the last image as partner.
    """
    captions = ("original", *(f"{value:+g}" for value in MAGNITUDES_SHOWN))
    first = images[len(images) // 2 :][:1]
    levels = torch.tensor(MAGNITUDES_SHOWN) / MAGNITUDES
    same = first.expand(len(levels), -1, -1, -1)
    rows: list[SheetRow] = []
    for name in OPERATIONS:
        changed = one_operation(same, name, levels, seed, same_extras=True)
        rows.append(SheetRow(name, torch.cat((first, changed)), () if rows else captions))
    return rows + list(_other_rows(same, images[-1:].expand_as(same), seed))


def _other_rows(same: Tensor, other: Tensor, seed: int) -> Iterator[SheetRow]:
    """Crops, erasing and mixing at the strengths SHARES; same, other: (6, C, S, S)."""
    side, shares, first = same.shape[-1], torch.tensor(SHARES), same[:1]

    def row(name: str, *images: Tensor, captions: Sequence[str] = ()) -> SheetRow:
        return SheetRow(name, torch.cat((first, *images)), captions)

    def draws() -> Draws:
        return _draws(seed, first)

    shift, flip = (shares * side / 2).round().long(), torch.ones(len(same), dtype=torch.bool)
    captions = ("original", *(f"{share:.0%}" for share in SHARES))
    moved = move(same, shift, shift, flip, padding="zeros")
    yield row("mirror and shift", moved, captions=captions)
    boxes = [crop_boxes(draws(), side, side, (s, s), (0.75, 4 / 3)) for s in SHARES]
    yield row("resized crop to", resized_crop(same, torch.cat(boxes)))
    yield row("cutout", *(cutout(first, draws(), side=s) for s in SHARES))
    yield row("erasing", *(random_erasing(first, draws(), chance=1, area=(s, s)) for s in SHARES))
    targets = torch.zeros(len(same), 1)
    pair, others = (same, targets), (other, targets)
    yield row("mixup", blend(pair, others, 1 - shares)[0])
    width = (shares.sqrt() * side).long()
    start = (side - width) // 2
    squares = torch.stack((start, start, start + width, start + width), dim=1)
    yield row("cutmix", paste(pair, others, squares)[0])


def corruption_rows(image: Tensor, seed: int) -> list[SheetRow]:
    """One image (1, C, S, S) uint8 under each corruption, as it is and at severities 1 to 5."""
    captions = ("original", *(f"severity {severity}" for severity in SEVERITIES))
    rows: list[SheetRow] = []
    for name in corruption_names(image.shape[1]):
        views = [image, *(corrupted(image, name, severity, seed=seed) for severity in SEVERITIES)]
        rows.append(SheetRow(name.replace("_", " "), torch.cat(views), () if rows else captions))
    return rows


def one_operation(
    images: Tensor, name: str, levels: Tensor, seed: int, *, same_extras: bool = False
) -> Tensor:
    """One operation at signed `levels` (n,) in [-1, 1]; a tensor like `images`.

    `same_extras`: what an operation draws beside its level is the same for all images.
    """
    only = AugmentParams(operations=(name,), num_ops=1, magnitude=0.0)
    plan = draw_plan(_draws(seed, images), only)
    plan = replace(plan, levels=levels[:, None])
    if same_extras:
        first = {
            key: value[:1].expand_as(value)
            for key in ("knots", "corners", "colours")
            if (value := getattr(plan, key)) is not None
        }
        plan = replace(plan, **first)
    return apply_plan(images, plan)


def _draws(seed: int, images: Tensor) -> Draws:
    return Draws(seed, len(images))


def choose_images(labels: Tensor, count: int) -> Tensor:
    """Rows of `count` images, the classes in turn: the first of each, then the second, …

    labels: (N,) int64, -1 where unknown; fewer rows where there are fewer images.
    """
    order = labels.argsort(stable=True)
    if not len(order):
        return order
    ranked = labels[order]
    first = torch.searchsorted(ranked, ranked)
    turn = torch.arange(len(labels)) - first
    return order[(turn * (int(ranked.max()) + 2) + ranked + 1).argsort()[:count]]


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
    sheets = {"labeled": labeled_samples(prepared / "labeled", classes)}
    if pseudo_labels is not None:
        unlabeled = prepared / "unlabeled"
        sheets["pseudo_labeled"] = pseudo_labeled_samples(pseudo_labels, unlabeled, classes)
    paths = []
    for name, (images, captions) in sheets.items():
        if captions:
            rows = view_rows(images.float() / 255, captions, augment, seed)
            paths.append(folder / f"samples_{name}.png")
            save_sheet(draw_sheet(TITLES[name], rows), paths[-1])
    return paths


def labeled_samples(folder: Path, classes: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Images (n, C, S, S) uint8 of the first shard, the classes in turn, and their classes."""
    labels = torch.tensor(column_labels(next(iter_shards(folder, ["label"]))))
    rows = choose_images(labels, SAMPLES)
    return _decoded(folder, rows.tolist()), [classes[label] for label in labels[rows].tolist()]


def pseudo_labeled_samples(
    pseudo_labels: Path, unlabeled: Path, classes: Sequence[str]
) -> tuple[Tensor, list[str]]:
    """Images of the first shard that has any, the classes in turn; label and confidence of each.

    No images where none counts.
    """
    selected: list[dict[str, Any]] = []
    for table in iter_shards(pseudo_labels, PSEUDO_COLUMNS):
        table = table.filter(pc.greater(table.column("repeats"), 0))
        labels = torch.tensor(column_labels(table))
        selected = table.take(choose_images(labels, SAMPLES).numpy()).to_pylist()
        if selected:
            break
    starts = np.cumsum([0, *(entry.rows for entry in read_manifest(unlabeled).shards)])
    rows = [int(starts[image["shard"]]) + image["row"] for image in selected]
    captions = [f"{classes[image['label']]} {image['confidence']:.0%}" for image in selected]
    return _decoded(unlabeled, rows), captions


def _decoded(folder: Path, rows: Sequence[int]) -> Tensor:
    """The images of these rows of a folder, (n, C, S, S) uint8."""
    files = read_rows(folder, rows, ["image"]).column("image").to_pylist()
    return decode_images(files, stored_shape(folder, read_manifest(folder)), folder)
