"""What augmentation parameters do to some images: the rows of a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline import augment as augmentation
from pipeline.augment import Draws
from pipeline.augment.boxes import crop_boxes, cutout, random_erasing, resized_crop
from pipeline.augment.mix import blend, paste
from pipeline.augment.randaugment import MAGNITUDES, OPERATIONS, apply_plan, draw_plan
from pipeline.augment.views import move
from pipeline.evaluate.corruptions import SEVERITIES, corruption_names
from pipeline.evaluate.robustness import corrupted
from pipeline.params import AugmentParams
from pipeline.report.contact_sheet import SheetRow

STRONG_VIEWS = 4
MAGNITUDES_SHOWN = (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


def preview_rows(
    images: Tensor, labels: Sequence[str], augment: AugmentParams, seed: int
) -> list[SheetRow]:
    """The views of `images` (n, C, S, S) float under `augment`, then each of its parts alone."""
    rows = view_rows(images, labels, augment, seed)
    rows += _mixed_rows(images, labels, augment, seed)
    if augment.num_ops:
        level = augment.magnitude / MAGNITUDES
        signs = torch.tensor([1.0, -1.0]).repeat(len(images))[: len(images)]
        for name in dict.fromkeys(augment.operations):
            shown = one_operation(images, name, signs * level, seed)
            rows.append(SheetRow(f"{name} {augment.magnitude:g}", shown))
    return rows + list(_erased_rows(images, augment, seed))


def view_rows(
    images: Tensor, captions: Sequence[str], augment: AugmentParams, seed: int
) -> list[SheetRow]:
    """`images` (n, C, S, S) float as they are, and as training sees them: weak, strong views."""
    rows = [SheetRow("original", images, captions)]
    rows += [SheetRow("weak", augmentation.weak(images, _draws(seed, images), augment))]
    for number in range(STRONG_VIEWS):
        draws = _draws(seed + 1 + number, images)
        view = augmentation.strong(images, draws, augment)
        rows.append(SheetRow(f"strong, draw {number + 1}", view))
    return rows


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
    side, shares = same.shape[-1], torch.tensor(SHARES)
    shown = ("original", *(f"{share:.0%}" for share in SHARES))

    def row(name: str, images: Tensor, captions: Sequence[str] = ()) -> SheetRow:
        return SheetRow(name, torch.cat((same[:1], images)), captions)

    moved = (shares * side / 2).round().long()
    mirrored = torch.ones(len(same), dtype=torch.bool)
    yield row("mirror and shift", move(same, moved, moved, mirrored, padding="zeros"), shown)
    boxes = [crop_boxes(_draws(seed, same[:1]), side, side, (s, s), (0.75, 4 / 3)) for s in SHARES]
    yield row("resized crop to", resized_crop(same, torch.cat(boxes)))
    yield row(
        "cutout", torch.cat([cutout(same[:1], _draws(seed, same[:1]), side=s) for s in SHARES])
    )
    erased = [
        random_erasing(same[:1], _draws(seed, same[:1]), chance=1, area=(s, s)) for s in SHARES
    ]
    yield row("erasing", torch.cat(erased))
    targets = torch.zeros(len(same), 1)
    pair, others = (same, targets), (other, targets)
    yield row("mixup", blend(pair, others, 1 - shares)[0])
    reach = (shares.sqrt() * side).long()
    corner = (side - reach) // 2
    boxes_cut = torch.stack((corner, corner, corner + reach, corner + reach), dim=1)
    yield row("cutmix", paste(pair, others, boxes_cut)[0])


def corruption_rows(image: Tensor, seed: int) -> list[SheetRow]:
    """One image (1, C, S, S) uint8 under each corruption, as it is and at severities 1 to 5."""
    captions = ("original", *(f"severity {severity}" for severity in SEVERITIES))
    rows: list[SheetRow] = []
    for name in corruption_names(image.shape[1]):
        seen = [image, *(corrupted(image, name, severity, seed=seed) for severity in SEVERITIES)]
        rows.append(SheetRow(name.replace("_", " "), torch.cat(seen), () if rows else captions))
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


def _mixed_rows(
    images: Tensor, labels: Sequence[str], augment: AugmentParams, seed: int
) -> Iterator[SheetRow]:
    """The originals mixed, with the share that each keeps of its own target."""
    kinds = {"none": (), "mixup": ("mixup",), "cutmix": ("cutmix",), "both": ("mixup", "cutmix")}
    for kind in kinds[augment.mix]:
        targets = torch.eye(len(images))
        draws = _draws(seed, images)
        mixed, shares = augmentation.mix(
            images,
            targets,
            draws,
            kind=kind,  # type: ignore[arg-type]
            alpha=augment.mix_alpha,
        )
        own = shares.diagonal().tolist()
        captions = [f"{share:.0%} {label}" for share, label in zip(own, labels, strict=True)]
        yield SheetRow(kind, mixed, captions)


def _erased_rows(images: Tensor, augment: AugmentParams, seed: int) -> Iterator[SheetRow]:
    if augment.cutout:
        square = cutout(images, _draws(seed, images), side=augment.cutout)
        yield SheetRow(f"cutout {augment.cutout:g}", square)
    if augment.erasing:
        yield SheetRow(
            f"erasing {augment.erasing:g}",
            random_erasing(images, _draws(seed, images), chance=augment.erasing),
        )


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
