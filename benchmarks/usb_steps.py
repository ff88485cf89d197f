"""Unlabelled images a second of USB's own training steps, in USB's own environment.

PYTHON benchmarks/usb_steps.py ALGORITHM STEPS LABELED RATIO SIDE

Run by benchmarks/usb.py with the interpreter of an environment that has semilearn 0.3.2. semilearn
sends every batch to a GPU and imports libraries for sound and two trackers that images can be
trained without: here "to the GPU" stays where it is, and what is missing is an empty module. Data,
transforms, loader, network, loss, optimizer and average of the weights are its own; only the loop
around them is written out, since its own measures time with CUDA events. Seconds are the process's
own, all of its threads together.
"""

from __future__ import annotations

import sys
import time
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from typing import Any

import numpy as np
import torch

CLASSES, IMAGES, SEED = 10, 4096, 0
NOT_NEEDED = ("aim", "wandb", "torchaudio")


def without_gpu() -> None:
    """Let semilearn be imported, and train images, without what it only claims to need."""
    for name in NOT_NEEDED:
        if find_spec(name) is None:
            sys.modules[name] = module_from_spec(ModuleSpec(name, None))
    tensors: Any = torch.Tensor
    tensors.cuda = lambda self, *_, **__: self


def loaders(config: Any, transforms: dict[str, Any]) -> tuple[Any, Any]:
    """semilearn's loaders of random labelled and unlabelled images."""
    from semilearn import get_data_loader
    from semilearn.datasets.cv_datasets.datasetbase import BasicDataset

    draw = np.random.default_rng(SEED)
    shape = (IMAGES, config.img_size, config.img_size, 3)
    pixels = draw.integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(IMAGES) % CLASSES

    def loader(batch: int, *, unlabeled: bool) -> Any:
        images = BasicDataset(
            config.algorithm,
            pixels,
            labels,
            CLASSES,
            transforms["weak"],
            unlabeled,
            transforms["strong"],
        )
        return get_data_loader(config, images, batch, num_workers=0)

    small = config.batch_size
    return loader(small, unlabeled=False), loader(small * config.uratio, unlabeled=True)


def cifar_transforms(side: int) -> dict[str, Any]:
    """The transforms that semilearn gives CIFAR-10."""
    from semilearn.datasets.augmentation import RandAugment
    from torchvision import transforms as t

    start = [t.Resize(side), t.RandomCrop(side, padding=side // 8, padding_mode="reflect")]
    start.append(t.RandomHorizontalFlip())
    end = [t.ToTensor(), t.Normalize([0.5] * 3, [0.25] * 3)]
    return {"weak": t.Compose(start + end), "strong": t.Compose([*start, RandAugment(3, 5), *end])}


def seconds_of(algorithm: Any, labeled: Any, unlabeled: Any, steps: int) -> float:
    """Seconds of so many training steps, after a first one."""
    from semilearn.core.hooks import EMAHook, ParamUpdateHook

    update, average = ParamUpdateHook(), EMAHook()
    algorithm.model.train()
    average.before_run(algorithm)
    begun = 0.0
    for number, (some, others) in enumerate(zip(labeled, unlabeled, strict=True)):
        if number == 1:
            begun = time.process_time()
        batch = algorithm.process_batch(**some, **others)
        algorithm.out_dict, algorithm.log_dict = algorithm.train_step(**batch)
        update.after_train_step(algorithm)
        average.after_train_step(algorithm)
        algorithm.it += 1
        if number == steps:
            return time.process_time() - begun
    raise AssertionError("the loaders have ended early")


def main() -> None:
    """Print unlabelled images a second."""
    name = sys.argv[1]
    steps, batch, ratio, side = map(int, sys.argv[2:])
    torch.set_num_threads(1)
    without_gpu()
    from semilearn import get_algorithm, get_config, get_net_builder

    config = get_config(
        {
            "algorithm": name,
            "net": "wrn_28_2",
            "dataset": "none",  # the loaders are made here
            "num_classes": CLASSES,
            "batch_size": batch,
            "uratio": ratio,
            "img_size": side,
            "num_train_iter": steps + 1,
            "epoch": 1,
            "num_workers": 0,
            "distributed": False,
        }
    )
    algorithm = get_algorithm(config, get_net_builder(config.net, from_name=False), None, None)
    labeled, unlabeled = loaders(config, cifar_transforms(side))
    print(steps * batch * ratio / seconds_of(algorithm, labeled, unlabeled, steps))


if __name__ == "__main__":
    main()
