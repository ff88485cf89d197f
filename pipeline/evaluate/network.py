"""Measure a network on the prepared images, as its model folder describes it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from pipeline.data.sliced import LabeledImages
from pipeline.evaluate.checkpoints import checkpoint_log_probs
from pipeline.evaluate.knn import network_knn_accuracy
from pipeline.evaluate.metrics import Floats
from pipeline.evaluate.run import ModelResult, measure
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.device import resolve_device
from pipeline.progress import Advance


def measure_network(
    model: Path,
    prepared: Path,
    *,
    views: str,
    jitter_views: int,
    batch_size: int,
    threads: int,
    device: str,
    knn: int | None,
    robustness_images: int | None,
    interval: float,
    seed: int,
    advance: Advance,
) -> ModelResult:
    """Measure the network in the folder `model`; the other arguments are those of `evaluate`."""
    torch.set_num_threads(threads)
    checkpoint, place = load_checkpoint(model), resolve_device(device)
    checkpoint.network.to(place)

    def predict(images: LabeledImages, view: str) -> Floats:
        return checkpoint_log_probs(
            checkpoint,
            images.images,
            view=view,
            jitter_views=jitter_views,
            batch_size=batch_size,
            seed=seed,
            device=str(place),
            advance=advance,
        )

    nearest = knn and partial(
        network_knn_accuracy,
        checkpoint.network,
        mean=checkpoint.spec.mean,
        std=checkpoint.spec.std,
        neighbors=knn,
        batch_size=batch_size,
    )
    return measure(
        predict,
        prepared,
        view=views,
        nearest=nearest or None,
        robustness_images=robustness_images,
        threads=threads,
        interval=interval,
        seed=seed,
    )
