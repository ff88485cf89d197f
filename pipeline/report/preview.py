"""What augmentation does to some images: contact sheets for a look, and for each run in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import augment as augmentation
from pipeline.augment import Draws, Warp
from pipeline.augment.boxes import crop_boxes, cutout, random_erasing, resized_crop
from pipeline.augment.mix import blend, paste
from pipeline.augment.randaugment import MAGNITUDES, OPERATIONS, apply_plan, draw_plan
from pipeline.augment.views import move
from pipeline.evaluate.corruptions import SEVERITIES, corruption_names
from pipeline.evaluate.robustness import corrupted
from pipeline.params import AugmentParams
from pipeline.report.contact_sheet import SheetRow
from pipeline.tasks import Task

STRONG_VIEWS = 4
MAGNITUDES_SHOWN = (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Overlay:
    """Targets (n, …) of images, true ones or pseudo-labels, to be drawn over them as they move.

    None in its place: the task has one class an image, and a caption says it.
    """

    task: Task
    targets: Tensor
    num_classes: int

    def draw(self, images: Tensor, targets: Tensor) -> Tensor:
        """Images (n, C, S, S) float with targets over them: (n, 3, S, S) uint8."""
        pixels = (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        pairs = zip(pixels, targets.numpy(), strict=True)
        drawn = [self.task.draw(image, target, self.num_classes) for image, target in pairs]
        return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)

    def moved(self, images: Tensor, warp: Warp) -> Tensor:
        """The same of a view of the images."""
        return self.draw(images, self.task.warp(self.targets, warp))

    def mixed(self, images: Tensor, augment: AugmentParams, draws: Draws) -> Tensor:
        """The same of the images mixed."""
        count = self.num_classes
        images, (targets,) = self.task.mix(images, [self.targets], draws, augment, count)
        return self.draw(images, targets)


def preview_rows(
    images: Tensor,
    labels: Sequence[str],
    augment: AugmentParams,
    seed: int,
    overlay: Overlay | None = None,
) -> list[SheetRow]:
    """The views of `images` (n, C, S, S) float under `augment`, then each of its parts alone."""
    rows = view_rows(images, labels, augment, seed, overlay)
    kinds = ("mixup", "cutmix") if augment.mix == "both" else (augment.mix,)
    rows += [
        _mixed_row(images, labels, kind, augment, seed, overlay) for kind in kinds if kind != "none"
    ]
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
    images: Tensor,
    captions: Sequence[str],
    augment: AugmentParams,
    seed: int,
    overlay: Overlay | None = None,
) -> list[SheetRow]:
    """`images` (n, C, S, S) float as they are, and as training sees them: weak, strong views."""

    def row(name: str, view: Tensor, warp: Warp, captions: Sequence[str] = ()) -> SheetRow:
        return SheetRow(name, view if overlay is None else overlay.moved(view, warp), captions)

    warp = Warp.of(images)
    rows = [row("original", images, warp, captions)]
    rows.append(row("weak", augmentation.weak(images, _draws(seed, images), augment, warp), warp))
    for number in range(1, STRONG_VIEWS + 1):
        warp = Warp.of(images)
        strong = augmentation.strong(images, _draws(seed + number, images), augment, warp)
        rows.append(row(f"strong, draw {number}", strong, warp))
    return rows


def _mixed_row(
    images: Tensor,
    labels: Sequence[str],
    kind: Any,
    augment: AugmentParams,
    seed: int,
    overlay: Overlay | None,
) -> SheetRow:
    """The originals mixed, with the share that each keeps of its own target."""
    if overlay is not None:
        augment = augment.model_copy(update={"mix": kind})
        return SheetRow(kind, overlay.mixed(images, augment, _draws(seed, images)))
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
