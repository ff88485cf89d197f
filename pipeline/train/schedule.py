"""The learning rate over a run."""

from __future__ import annotations

import math

from pipeline.params import TrainParams


def warmup_cosine(step: int, steps: int, warmup_fraction: float) -> float:
    """Factor of the learning rate at `step` in [0, steps): linear warm-up, then half a cosine to 0.

    Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def phase(train: TrainParams, step: int) -> tuple[TrainParams, float]:
    """The parameters in force at `step` and its learning rate.

    The last `train.finetune_steps` are on un-augmented labelled images at the stored size
    (Touvron et al. 2019, sec. 4: fine-tuning at test resolution).
    """
    main = train.steps - train.finetune_steps
    if step < main:
        return train, train.learning_rate * warmup_cosine(step, main, train.warmup_fraction)
    plain = {"labeled_augment": "none", "unlabeled_ratio": 0, "image_size": None}
    rate = train.finetune_learning_rate * warmup_cosine(step - main, train.finetune_steps, 0.0)
    return train.model_copy(update=plain), rate
