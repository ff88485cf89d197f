"""The batches of a run: which images, and the views of them, as a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from pipeline import augment as augmentation
from pipeline.errors import ParameterError
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.sampling import sample_images, sample_rows, sample_views
from pipeline.train.training_data import (
    TrainingData,
    count_classes,
    has_pseudo_labels,
    normalized,
)
from pipeline.train.worker import Worker

View = Literal["none", "weak", "strong"]


class Batch(NamedTuple):
    """What one worker sees in one step.

    noised: unlabelled images as they are trained on, (m, C, S, S) normalised, None without any.
    Either their stored pseudo-labels `targets`, (m, K) probabilities, or the `weak` view of the
    same images, for an online teacher to label. second: another noised view of the same images,
    where views are contrasted.
    """

    labeled: LabeledBatch
    noised: Tensor | None = None
    targets: Tensor | None = None
    weak: Tensor | None = None
    second: Tensor | None = None


def step_batch(
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    worker: Worker,
    *,
    online: bool = False,
) -> Batch:
    """This worker's part of global batch `step`; `online`: for an online teacher."""
    how = (data, train, augment, seed, step, worker)
    labeled = labeled_batch(*how)
    if not has_pseudo_labels(data) or not train.unlabeled_ratio:
        return Batch(labeled)
    if online:
        weak, noised, second = unlabeled_views(*how)
        return Batch(labeled, noised, weak=weak, second=second)
    noised, targets, second = pseudo_labeled_batch(*how)
    return Batch(labeled, noised, targets, second=second)


class LabeledBatch(NamedTuple):
    """images: (n, C, S, S) normalised; labels: (n,), or (n, K) probabilities where images are
    mixed; taught: the teacher's probabilities (n, K), None where none are distilled."""

    images: Tensor
    labels: Tensor
    taught: Tensor | None


def labeled_batch(
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    worker: Worker,
) -> LabeledBatch:
    """This worker's labelled images of global batch `step`.

    Raises ParameterError for an odd number of images to mix.
    """
    if data.labeled_stream is not None:
        how = (seed, step, train.batch_size, worker)
        images, rows, _ = sample_images(data.labeled_stream, "labeled", *how)
    else:
        rows = sample_rows("labeled", seed, step, train.batch_size, len(data.images), worker)
        images = data.images[rows]
    draws = sample_views("labeled", seed, step, train.batch_size, worker)
    view = _view(images, draws, train.labeled_augment, augment, data, train)
    labels, taught = data.labels[rows], None if data.taught is None else data.taught[rows]
    if augment.mix == "none":
        return LabeledBatch(view, labels, taught)
    targets = _probabilities(labels, data)
    both = targets if taught is None else torch.cat([targets, taught], dim=1)
    view, both = _mixed(view, both, draws, train.labeled_augment, augment, train)
    count = targets.shape[1]
    return LabeledBatch(view, both[:, :count], None if taught is None else both[:, count:])


def pseudo_labeled_batch(
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    worker: Worker,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """This worker's pseudo-labelled images of global batch `step`, probabilities (n, K), and a
    second view of the same images where views are contrasted.

    Mixed among each other where `augment.mix` says so, not with the labelled ones.
    """
    batch_size = train.batch_size * train.unlabeled_ratio
    how = (seed, step, batch_size, worker)
    images, targets = _pseudo_labeled(data, *how)
    draws = sample_views("unlabeled", *how)
    view = _view(images, draws, train.unlabeled_augment, augment, data, train)
    view, targets = _mixed(view, targets, draws, train.unlabeled_augment, augment, train)
    return view, targets, _second_view(images, data, train, augment, *how)


def _pseudo_labeled(
    data: TrainingData, seed: int, step: int, batch_size: int, worker: Worker
) -> tuple[Tensor, Tensor]:
    """Images as they are, and their targets."""
    if data.unlabeled_stream is not None:
        drawn = sample_images(data.unlabeled_stream, "unlabeled", seed, step, batch_size, worker)
        assert drawn.targets is not None
        return drawn.images, drawn.targets
    assert data.unlabeled_images is not None
    assert data.unlabeled_rows is not None
    assert data.unlabeled_targets is not None
    rows = sample_rows("unlabeled", seed, step, batch_size, len(data.unlabeled_rows), worker)
    return data.unlabeled_images[data.unlabeled_rows[rows]], data.unlabeled_targets[rows]


def unlabeled_views(
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    worker: Worker,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weak and noised view of this worker's unlabelled images of global batch `step`, and a second
    noised one where views are contrasted.

    (n, C, S, S) each, of the same images; from all there are, whether they were selected or not.
    """
    batch_size = train.batch_size * train.unlabeled_ratio
    how = (seed, step, batch_size, worker)
    if data.unlabeled_stream is not None:
        images = sample_images(data.unlabeled_stream.every_image, "unlabeled", *how).images
    else:
        assert data.unlabeled_images is not None
        images = data.unlabeled_images[
            sample_rows("unlabeled", *how[:3], len(data.unlabeled_images), worker)
        ]
    noised, weak = sample_views("unlabeled", *how), sample_views("weak", *how)
    return (
        _view(images, weak, "weak", augment, data, train),
        _view(images, noised, train.unlabeled_augment, augment, data, train),
        _second_view(images, data, train, augment, *how),
    )


def _second_view(
    images: Tensor,
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    batch_size: int,
    worker: Worker,
) -> Tensor | None:
    """A noised view of the images with draws of its own; None where no views are contrasted."""
    if train.contrastive_weight == 0:
        return None
    draws = sample_views("second", seed, step, batch_size, worker)
    return _view(images, draws, train.unlabeled_augment, augment, data, train)


def _view(
    images: Tensor,
    draws: augmentation.Draws,
    kind: View,
    augment: AugmentParams,
    data: TrainingData,
    train: TrainParams,
) -> Tensor:
    """(n, C, S, S) uint8 → the view `kind` of it, normalised float32, with `train.image_size`
    pixels a side."""
    pixels = images.float() / 255
    if kind == "weak":
        pixels = augmentation.weak(pixels, draws, augment)
    elif kind == "strong":
        pixels = augmentation.strong(pixels, draws, augment)
    if train.image_size is not None:
        side = (train.image_size, train.image_size)
        pixels = nn.functional.interpolate(pixels, side, mode="bilinear", antialias=True)
    return normalized(pixels, data).contiguous(memory_format=torch.channels_last)


def _mixed(
    images: Tensor,
    targets: Tensor,
    draws: augmentation.Draws,
    view: View,
    augment: AugmentParams,
    train: TrainParams,
) -> tuple[Tensor, Tensor]:
    """Pairs of images and their probabilities mixed as `augment` says; none in the view "none"."""
    if augment.mix == "none" or view == "none":
        return images, targets
    if len(images) % 2:
        raise ParameterError(
            f"train.batch_size = {train.batch_size}: augment.mix = {augment.mix} pairs the images "
            f"of each worker, so it must be a multiple of 2 × train.workers"
        )
    images, targets = augmentation.mix(
        images, targets, draws, kind=augment.mix, alpha=augment.mix_alpha
    )
    return images.contiguous(memory_format=torch.channels_last), targets


def _probabilities(labels: Tensor, data: TrainingData) -> Tensor:
    """Labels (n,) as rows with one 1: (n, K) float32."""
    return nn.functional.one_hot(labels, count_classes(data)).float()


Key = TypeVar("Key")
Made = TypeVar("Made")


def prefetched(
    make: Callable[[Key], Made], keys: Iterable[Key]
) -> Generator[tuple[Key, Made], None, None]:
    """Each of `keys` with what `make` makes of it, in order; the next one is being made meanwhile.

    torch leaves the interpreter's lock while it computes, so both use a core each. What `make`
    raises is raised here, when it is that key's turn. Close the generator to end its thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting: tuple[Key, Future[Made]] | None = None
        for key in keys:
            following = (key, thread.submit(make, key))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()
