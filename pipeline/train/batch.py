"""The batches of a run: which images, and the views of them, as a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.augment import Draws, Warp, strong, weak
from pipeline.data.streamed import ShardStream
from pipeline.errors import ParameterError
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.training_data import TrainingData
from pipeline.train.worker import Worker

View = Literal["none", "weak", "strong"]
Stream = Literal["labeled", "unlabeled", "weak", "second"]
# Each stream of a run has seeds of its own, so that one is the same whatever the others do; 2 is
# the network's noise.
STREAMS: dict[Stream, int] = {"labeled": 0, "unlabeled": 1, "weak": 3, "second": 4}


# Images and several targets of them to the same, in pairs.
Mix = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


class LabeledBatch(NamedTuple):
    """images: (n, C, S, S) normalised; labels: (n, …), the task's targets as the images show them;
    taught: the teacher's pseudo-labels (n, …), None where none are distilled."""

    images: Tensor
    labels: Tensor
    taught: Tensor | None = None


class Batch(NamedTuple):
    """What one worker sees in one step.

    noised: unlabelled images as they are trained on, (m, C, S, S) normalised, None without any.
    Either their stored pseudo-labels `targets`, (m, …), or the `weak` view of the same images, for
    an online teacher to label, and how its pixels come to the noised one; mix: what mixes the
    noised images with what it says, None where nothing is mixed. second: another noised view of the
    same images, where views are contrasted.
    """

    labeled: LabeledBatch
    noised: Tensor | None = None
    targets: Tensor | None = None
    weak: Tensor | None = None
    move: Warp | None = None
    mix: Mix | None = None
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
    """This worker's part of global batch `step`; `online`: for an online teacher.

    Images are mixed as `augment.mix` says, labelled ones and pseudo-labelled ones each among each
    other. Raises ParameterError for an odd number of images to mix.
    """
    sampler = _Sampler(data, train, augment, seed, step, worker)
    labeled = sampler.labeled()
    if not data.has_pseudo_labels or not train.unlabeled_ratio:
        return Batch(labeled)
    return sampler.online(labeled) if online else sampler.pseudo_labeled(labeled)


@dataclass(frozen=True)
class _Sampler:
    """One worker's part of one global batch."""

    data: TrainingData
    train: TrainParams
    augment: AugmentParams
    seed: int
    step: int
    worker: Worker

    def labeled(self) -> LabeledBatch:
        data, kind = self.data, self.train.labeled_augment
        if data.labeled_stream is not None:
            images, rows, labels = self._streamed(data.labeled_stream, "labeled")
            assert labels is not None
        else:
            rows = self._rows("labeled", len(data.images))
            images, labels = data.images[rows], data.labels[rows]
        targets = [labels] if data.taught is None else [labels, data.taught[rows]]
        view, targets = self._shown(images, targets, self._draws("labeled"), kind)
        return LabeledBatch(view, *targets)

    def pseudo_labeled(self, labeled: LabeledBatch) -> Batch:
        data, kind = self.data, self.train.unlabeled_augment
        if data.unlabeled_stream is not None:
            images, _, targets = self._streamed(data.unlabeled_stream, "unlabeled")
            assert targets is not None
        else:
            assert data.unlabeled_images is not None
            assert data.unlabeled_rows is not None
            assert data.unlabeled_targets is not None
            rows = self._rows("unlabeled", len(data.unlabeled_rows))
            images = data.unlabeled_images[data.unlabeled_rows[rows]]
            targets = data.unlabeled_targets[rows]
        view, shown = self._shown(images, [targets], self._draws("unlabeled"), kind)
        return Batch(labeled, view, shown[0], second=self._second_view(images))

    def online(self, labeled: LabeledBatch) -> Batch:
        """Of all unlabelled images, whether they were selected or not."""
        data = self.data
        if data.unlabeled_stream is not None:
            images, *_ = self._streamed(data.unlabeled_stream.every_image, "unlabeled")
        else:
            assert data.unlabeled_images is not None
            images = data.unlabeled_images[self._rows("unlabeled", len(data.unlabeled_images))]
        kind, draws = self.train.unlabeled_augment, self._draws("unlabeled")
        view, there = self._view(images, draws, kind)
        seen, here = self._view(images, self._draws("weak"), "weak")
        return Batch(
            labeled,
            view,
            weak=seen,
            move=here.inverse().then(there),
            mix=None
            if self.augment.mix == "none"
            else partial(self._mixed, draws=draws, view=kind),
            second=self._second_view(images),
        )

    def _size(self, stream: Stream) -> int:
        """Images in the global batch."""
        ratio = 1 if stream == "labeled" else self.train.unlabeled_ratio
        return self.train.batch_size * ratio

    def _streamed(
        self, images: ShardStream, stream: Stream
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images, their rows and targets, on the worker's device."""
        device, worker = self.worker.device, self.worker
        batch = images.batch(
            self.step, self._size(stream), stream_seed(stream, self.seed), worker.rows
        )
        targets = None if batch.targets is None else batch.targets.to(device)
        return batch.images.to(device), batch.rows.to(device), targets

    def _rows(self, stream: Stream, count: int) -> Tensor:
        """Rows of `count` images in memory, on the worker's device."""
        seed = stream_seed(stream, self.seed)
        rows = batch_rows(self.step, self._size(stream), count, seed)[self.worker.rows]
        return torch.from_numpy(rows).to(self.worker.device)

    def _draws(self, stream: Stream) -> Draws:
        seed, worker = stream_seed(stream, self.seed, self.step), self.worker
        return Draws(seed, self._size(stream), worker.rows)

    def _second_view(self, images: Tensor) -> Tensor | None:
        """A noised view of the images with draws of its own; None where no views are contrasted."""
        if self.train.contrastive_weight == 0:
            return None
        return self._view(images, self._draws("second"), self.train.unlabeled_augment)[0]

    def _shown(
        self, images: Tensor, targets: Sequence[Tensor], draws: Draws, kind: View
    ) -> tuple[Tensor, list[Tensor]]:
        """The view `kind`, mixed, and the targets as they are in it."""
        view, warp = self._view(images, draws, kind)
        return self._mixed(view, [self.data.task.warp(each, warp) for each in targets], draws, kind)

    def _view(self, images: Tensor, draws: Draws, kind: View) -> tuple[Tensor, Warp]:
        """(n, C, S, S) uint8 → the view `kind` of it, normalised float32, with `train.image_size`
        pixels a side, and how the stored pixels moved."""
        pixels, warp = images.float() / 255, Warp.of(images)
        if kind == "weak":
            pixels = weak(pixels, draws, self.augment, warp)
        elif kind == "strong":
            pixels = strong(pixels, draws, self.augment, warp)
        if self.train.image_size is not None:
            side = (self.train.image_size, self.train.image_size)
            pixels = nn.functional.interpolate(pixels, side, mode="bilinear", antialias=True)
        pixels = self.data.normalized(pixels).contiguous(memory_format=torch.channels_last)
        return pixels, warp

    def _mixed(
        self, images: Tensor, targets: list[Tensor], draws: Draws, view: View
    ) -> tuple[Tensor, list[Tensor]]:
        """Pairs of images and their targets mixed; none in the view "none"."""
        augment, kind = self.augment, self.augment.mix
        if kind == "none":
            return images, targets
        if view == "none":
            augment = augment.model_copy(update={"mix": "none"})
        elif len(images) % 2:
            raise ParameterError(
                f"train.batch_size = {self.train.batch_size}: augment.mix = {kind} pairs the "
                "images of each worker, so it must be a multiple of 2 × train.workers"
            )
        images, targets = self.data.task.mix(images, targets, draws, augment, self.data.class_count)
        return images.contiguous(memory_format=torch.channels_last), targets


def stream_seed(stream: Stream, *numbers: int) -> int:
    """The seed of a stream, from that of the run and perhaps the step."""
    sequence = np.random.SeedSequence([STREAMS[stream], *numbers])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def batch_rows(step: int, batch_size: int, count: int, seed: int) -> NDArray[np.int64]:
    """The rows of global batch `step`: (batch_size,) int64 in [0, count).

    Batches cut one endless row of seeded permutations of range(count), so each row comes once an
    epoch, whatever batch_size; a batch may reach over the end of an epoch, or over several.
    """
    if count < 1 or batch_size < 1 or step < 0:
        raise ValueError(f"no batch for step={step}, batch_size={batch_size}, count={count}")
    start = step * batch_size
    rows = np.empty(batch_size, dtype=np.int64)
    filled = 0
    while filled < batch_size:
        epoch, offset = divmod(start + filled, count)
        piece = _permutation(count, seed, epoch)[offset : offset + batch_size - filled]
        rows[filled : filled + len(piece)] = piece
        filled += len(piece)
    return rows


@lru_cache(maxsize=8)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.setflags(write=False)
    return order


Key = TypeVar("Key")
Made = TypeVar("Made")


def prefetched(
    make: Callable[[Key], Made], keys: Iterable[Key]
) -> Generator[tuple[Key, Made], None, None]:
    """Each of `keys` with what `make` makes of it, in order; the next one is being made meanwhile.

    torch leaves the interpreter's lock while it computes, so both use a core each. What `make`
    raises is raised here, when it is that key's turn. Close the generator to end its thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        pending: tuple[Key, Future[Made]] | None = None
        for key in keys:
            following = (key, thread.submit(make, key))
            if pending is not None:
                yield pending[0], pending[1].result()
            pending = following
        if pending is not None:
            yield pending[0], pending[1].result()
