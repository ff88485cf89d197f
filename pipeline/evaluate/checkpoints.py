"""What saved models say of images, each looking at them as it was trained to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor, nn

from pipeline.data.shards import read_manifest
from pipeline.data.sliced import ShardSlices
from pipeline.data.tensors import Images, decoding_pool
from pipeline.evaluate.guard import NOTHING, ValidationCounts, count_evidence
from pipeline.evaluate.measure import read_targets
from pipeline.evaluate.views import CENTRE, iter_log_probs, num_views, packed, predict
from pipeline.models.checkpoint import Checkpoint, load_checkpoint
from pipeline.models.head import refuse_answers
from pipeline.models.passes import Passes, choose_passes, has_bfloat16, runs_in_bfloat16
from pipeline.models.spec import ModelSpec, read_spec
from pipeline.params import ViewParams
from pipeline.params.errors import shortened
from pipeline.progress import Advance
from pipeline.tasks import Task, open_task
from pipeline.tasks.significance import BOOTSTRAP
from pipeline.tasks.task import Array


def checkpoint_predictions(
    checkpoint: Checkpoint,
    images: Images,
    views: ViewParams = CENTRE,
    *,
    seed: int = 0,
    alike: bool = False,
    passes: Passes | None = None,
    advance: Advance | None = None,
) -> Array:
    """A model's calibrated predictions of `images` (N, C, S, S) uint8, (N, …), on its device; see
    views.How.

    The normalisation and temperature are those of its own spec, so that models that differ in them
    can stand side by side. Raises CheckpointError for what is not finite.
    """
    spec = checkpoint.spec
    task = open_task(spec.task)
    log_probs = iter_log_probs(
        checkpoint.network,
        images,
        task,
        mean=spec.mean,
        std=spec.std,
        temperature=spec.temperature,
        views=views,
        seed=seed,
        alike=alike,
        passes=passes,
        device=checkpoint.device,
        advance=advance,
    )
    return packed(
        _checked(log_probs, f"the model of generation {shortened(spec.generation)!r}"), task
    )


def _checked(batches: Iterable[Tensor], whose: str) -> Iterator[Tensor]:
    """The same; CheckpointError once all are through where some are no numbers."""
    wrong = count = 0
    for log_probs in batches:
        wrong += int((~log_probs.isfinite()).flatten(1).any(dim=1).sum())
        count += len(log_probs)
        yield log_probs
    refuse_answers(wrong, count, whose)


def checkpoint_passes(
    checkpoint: Checkpoint, count: int, views: ViewParams, *, precision: str
) -> Passes:
    """How the model, on its device, predicts `count` images, whatever part of them at a time.

    precision: float32, bfloat16, or auto: bfloat16 where the machine has instructions for it and
    the model was as accurate in it on its validation images.
    """
    spec = checkpoint.spec
    agrees = precision == "auto" and spec.bfloat16_agrees and has_bfloat16(checkpoint.device)
    return choose_passes(
        checkpoint.network,
        (spec.channels, spec.image_size, spec.image_size),
        count * num_views(views),
        most=views.batch_size,
        bfloat16=agrees or precision == "bfloat16",
    )


def bfloat16_agrees(network: nn.Module, images: Tensor, targets: Tensor, spec: ModelSpec) -> bool:
    """Whether bfloat16 changes the score on these images by no more than its interval.

    The network is in evaluation mode; images: (N, C, S, S) uint8; targets: (N, …). False where
    there are none, and where the network's device has no instructions for it, so that trying would
    take long, or one of its layers no kernel.
    """
    device = next(network.parameters()).device
    if not len(images) or not runs_in_bfloat16(network, images.shape[1:]):
        return False
    task, truth = open_task(spec.task), targets.cpu().numpy()
    full, half = (
        task.evidence(
            predict(
                network, images, task, mean=spec.mean, std=spec.std, passes=passes, device=device
            ),
            truth,
            len(spec.classes),
        )
        for passes in (Passes(channels_last=True), Passes(channels_last=True, bfloat16=True))
    )
    return task.compare(full, half, BOOTSTRAP).verdict not in ("better", "worse")


def count_on_validation(
    student: Path,
    teacher: Path | None,
    validation: Path,
    task: Task,
    *,
    threads: int,
    device: str,
) -> ValidationCounts:
    """Compare the model folders `student` and `teacher`, one centre view an image."""
    if not read_manifest(validation).rows:
        return NOTHING
    targets = read_targets(validation, task, read_spec(student).image_size)
    with decoding_pool(threads) as pool:
        images = ShardSlices(validation, pool)

        def evidence(folder: Path) -> Array:
            checkpoint = load_checkpoint(folder)
            checkpoint.network.to(device)
            predictions = checkpoint_predictions(checkpoint, images)
            return task.evidence(predictions, targets, len(checkpoint.spec.classes))

        return count_evidence(
            task, evidence(student), None if teacher is None else evidence(teacher)
        )
