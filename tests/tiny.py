"""The smallest real networks, data and models that the tests of training and labelling share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.sources import Row
from pipeline.models.build import build_network
from pipeline.models.checkpoint import network_of, save_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.params import AugmentParams, TrainParams
from pipeline.tasks import open_task
from pipeline.train.batch import LabeledBatch, step_batch
from pipeline.train.training_data import TrainingData
from tests.data.helpers import ListSource, encoded, run_prepare

TASK = open_task("classification")
CLASSES = ("left", "middle", "right")
SIDE = 8
PLAIN = AugmentParams(shift=0.0, num_ops=0)
STRONG = AugmentParams(num_ops=2, operations=("rotate", "brightness", "posterize"), cutout=0.3)


def tiny_network(seed: int = 0, num_classes: int = 3, **options: Any) -> nn.Module:
    """A residual network of width 4 for grey 8×8 images."""
    return build_network(
        "resnet_small",
        **{
            "num_classes": num_classes,
            "channels": 1,
            "image_size": SIDE,
            "seed": seed,
            "width": 4,
            **options,
        },
    )


def striped(labels: Tensor, seed: int, noise: int = 90) -> Tensor:
    """Images (N, 1, 8, 8) uint8 of noise with a bright stripe at the left, middle or right."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(
        0, noise, (len(labels), 1, SIDE, SIDE), generator=generator, dtype=torch.uint8
    )
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, :, label * 3 : label * 3 + 2] += 120
    return images


def stripe_data(labeled: int, unlabeled: int = 0, seed: int = 0, **changes: Any) -> TrainingData:
    """Stripes to learn; the pseudo-labels, one for each unlabelled image, are the truth."""
    labels = torch.arange(labeled) % 3
    values: dict[str, Any] = {
        "images": striped(labels, seed),
        "labels": labels,
        "mean": (0.3,),
        "std": (0.25,),
    }
    if unlabeled:
        truth = torch.arange(unlabeled) % 3
        values |= {
            "unlabeled_images": striped(truth, seed + 1),
            "unlabeled_rows": torch.arange(unlabeled),
            "unlabeled_targets": torch.eye(3)[truth],
        }
    return TrainingData(**(values | changes))


def train_params(**changes: Any) -> TrainParams:
    """A short training run."""
    defaults: dict[str, Any] = {
        "steps": 8,
        "batch_size": 6,
        "unlabeled_ratio": 2,
        "learning_rate": 0.01,
        "threads": 1,
        "device": "cpu",
        "log_every": 1,
    }
    return TrainParams(**(defaults | changes))


def same_tensors(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether both hold the same names and, bit for bit, the same values."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) for key, value in first.items()
    )


def accuracy(network: nn.Module, weights: dict[str, Tensor], data: TrainingData) -> float:
    """Accuracy of `weights` on fresh stripes."""
    network.load_state_dict(weights)
    labels = torch.arange(90) % 3
    pixels = (striped(labels, 99).float() / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        return float((network.eval()(pixels).argmax(dim=1) == labels).float().mean())


def prepared_stripes(out: Path, count: int = 90, **changes: Any) -> Path:
    """A prepared folder of stripes: 24 labels, the others unlabelled, shards of 16 rows."""
    labels = torch.arange(count) % 3
    images = striped(labels, seed=5).permute(0, 2, 3, 1).numpy()
    rows = [
        Row(f"image_{number}", encoded(np.asarray(image)), int(label))
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    source = ListSource(rows, CLASSES)
    run_prepare(source, out, **({"labels": 24, "near_duplicate_distance": 0.0} | changes))
    return out


def tiny_spec(**changes: Any) -> ModelSpec:
    """The description of tiny_network for the stripes."""
    values: dict[str, Any] = {
        "network": {"name": "resnet_small", "width": 4},
        "classes": list(CLASSES),
        "image_size": SIDE,
        "channels": 1,
        "mean": [0.3],
        "std": [0.25],
        "generation": "0",
    }
    return ModelSpec(**(values | changes))


def save_model(folder: Path, seed: int = 0, **changes: Any) -> ModelSpec:
    """Write an untrained model to `folder`; returns its spec."""
    spec = tiny_spec(**changes)
    save_checkpoint(folder, network_of(spec, seed).state_dict(), spec)
    return spec


def labeled_batch(*params: Any) -> LabeledBatch:
    """The labelled images of a step, as step_batch takes its parameters."""
    return step_batch(*params).labeled


def pseudo_labeled_batch(*params: Any) -> tuple[Tensor, Tensor]:
    """The noised images of a step and their targets."""
    batch = step_batch(*params)
    assert batch.noised is not None
    assert batch.targets is not None
    return batch.noised, batch.targets


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
