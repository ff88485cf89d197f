"""What short trainings choose first: RandAugment's numbers, or a classifier against a network.

A classifier on a frozen body and a network are compared out of fold: a body that has seen such
images needs no change, another needs it most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.data.tensors import read_dataset
from pipeline.errors import DataError, counted
from pipeline.evaluate.checkpoints import evidence_of
from pipeline.evaluate.views import predict
from pipeline.files import read_json, write_json
from pipeline.models.passes import resolve_device
from pipeline.models.pretrained import Weights
from pipeline.models.spec import ModelSpec
from pipeline.params import SearchParams, Training, TransferParams
from pipeline.progress import Advance
from pipeline.tasks import Task, open_task
from pipeline.tasks.metrics import correct, negative_log_likelihood
from pipeline.train.head import choose_l2, fit_labeled, stratified_folds
from pipeline.train.inputs import model_spec, training_data
from pipeline.train.run import sampled_units, train_network
from pipeline.train.training_data import TrainingData
from pipeline.train.worker import Worker

FOLDS = 3


@dataclass(frozen=True)
class PolicyTrial:
    """What training with `num_ops` operations at `magnitude` came to on the validation images."""

    num_ops: int
    magnitude: float
    score: float
    nll: float

    def figures(self, task: Task) -> dict[str, float]:
        """By name, as choices.json has them."""
        pair: dict[str, float] = {"num_ops": self.num_ops, "magnitude": self.magnitude}
        return pair | {task.score: self.score, "nll": self.nll}

    def describe(self, pairs: int, task: Task) -> str:
        """The best of so many pairs in words."""
        shown = f"{self.num_ops} operations at {self.magnitude:g}, the best of {pairs} pairs"
        return f"{shown}: validation {task.score_words} {self.score:.2%}, NLL {self.nll:.4f}"


@dataclass(frozen=True)
class ModeTrial:
    """How many of so many labelled images each has right that it was not trained on."""

    images: int
    head: int
    network: int

    @property
    def mode(self) -> str:
        """The transfer.mode to train by; of equals the network, which pseudo-labels help more."""
        return "layerwise" if self.network >= self.head else "head"

    def describe(self, steps: int) -> str:
        """The outcome in words; steps: of the network."""
        won = "fine-tuned networks" if self.mode == "layerwise" else "classifiers on features"
        return (
            f"students are {won}: of {counted(self.images, 'label')} out of fold the network has "
            f"{self.network} right after {counted(steps, 'step')}, the classifier {self.head}"
        )


def best_policy(trials: Sequence[PolicyTrial]) -> PolicyTrial:
    """The one with the highest score; of equals the one with the least NLL, then the first."""
    return min(trials, key=lambda trial: (-trial.score, trial.nll))


@dataclass(frozen=True)
class Trials:
    """Short trainings of the network of `spec` on the labelled images of `data` alone.

    What is finished is kept in `folder` and not repeated; `advance` is called after each trial.
    """

    data: TrainingData
    spec: ModelSpec
    training: Training
    seed: int
    folder: Path
    advance: Advance = lambda amount=1, note="": None

    @classmethod
    def of_prepared(
        cls, prepared: Path, training: Training, *, seed: int, folder: Path, advance: Advance
    ) -> Trials:
        """The same on a prepared folder."""
        train = training.train
        torch.set_num_threads(train.threads)
        data = training_data(prepared, None, threads=train.threads, cache_gib=train.cache_gib)
        spec = model_spec(read_dataset(prepared), training.model.network, generation="0")
        return cls(data, spec, training, seed, folder, advance)

    def search_policy(self, search: SearchParams) -> list[PolicyTrial]:
        """Train with each pair of numbers and measure it: means over the same seeds for each.

        A grid search (Cubuk et al. 2020, sec. 3.2). Raises DataError without validation images.
        """
        if self.data.validation_images is None:
            raise DataError(
                "augment.search: no validation images to choose on; raise data.labels or "
                "data.validation_fraction, or set augment.search: null"
            )
        seeds = np.random.SeedSequence([self.seed, 3]).generate_state(search.seeds) >> 1
        trials = []
        for num_ops, magnitude in search.pairs:
            changes = {"num_ops": num_ops, "magnitude": magnitude}
            training = self.training.model_copy(
                update={
                    "train": self.training.train.model_copy(update={"steps": search.steps}),
                    "augment": self.training.augment.model_copy(update=changes),
                    "transfer": TransferParams(),
                }
            )
            runs = []
            for seed in seeds.tolist():
                state = self.folder / f"{num_ops}_{magnitude}_{seed}"
                path = state.with_name(f"{state.name}.json")
                if not path.exists():
                    write_json(path, asdict(self._policy_trial(training, seed, state)))
                runs.append(PolicyTrial(**read_json(path)))
                self.advance(1, f"{num_ops} operations at {magnitude}: {runs[-1].score:.4f}")
            score = float(np.mean([run.score for run in runs]))
            nll = float(np.mean([run.nll for run in runs]))
            trials.append(PolicyTrial(num_ops, magnitude, score, nll))
        return trials

    def _policy_trial(self, training: Training, seed: int, state: Path) -> PolicyTrial:
        images, labels = self.data.validation_images, self.data.validation_labels
        assert images is not None
        assert labels is not None
        network, spec = self._trained(self.data, training, seed, state)
        evidence = evidence_of(network, images, labels, spec)
        nll = negative_log_likelihood(*sampled_units(network, images, labels, spec))
        augment, score = training.augment, self.data.task.scores(evidence).score
        return PolicyTrial(augment.num_ops, augment.magnitude, score, nll)

    def compare_modes(self, features: NDArray[np.float16], weights: Weights) -> ModeTrial:
        """Cross-validate a head on `features` (N, F) and the network on the same labels.

        The network starts from `weights` and trains for transfer.trial_steps steps.
        """
        transfer, train = self.training.transfer, self.training.train
        short = {
            "steps": transfer.trial_steps,
            "batch_size": train.images_a_step(taught=True),
            "finetune_steps": 0,
        }
        training = self.training.model_copy(
            update={
                "train": train.model_copy(update=short),
                "transfer": transfer.model_copy(update={"mode": "layerwise"}),
            }
        )
        labels, classes = self.data.labels.numpy(), len(self.spec.classes)
        fold = stratified_folds(labels, FOLDS, self.seed)
        l2 = choose_l2(features, labels, classes, seed=self.seed).l2
        head = network = 0
        for number in range(FOLDS):
            held_out = fold == number
            if not held_out.any():
                continue
            fitted = fit_labeled(features[~held_out], labels[~held_out], classes, l2=l2)
            head += int(correct(fitted.log_probs(features[held_out]), labels[held_out]).sum())
            path = self.folder / f"fold_{number}.json"
            if not path.exists():
                images, rest = self.data.images, ~held_out
                part = replace(self.data, images=images[rest], labels=self.data.labels[rest])
                trained, spec = self._trained(
                    part, training, self.seed, path.with_suffix(""), weights
                )
                log_probs = predict(
                    trained,
                    images[held_out],
                    open_task(spec.task),
                    mean=spec.mean,
                    std=spec.std,
                    device=next(trained.parameters()).device,
                )
                write_json(path, {"right": int(correct(log_probs, labels[held_out]).sum())})
            network += int(read_json(path)["right"])
            self.advance(1, f"head {head}, network {network} right")
        return ModeTrial(int((fold >= 0).sum()), head, network)

    def _trained(
        self,
        data: TrainingData,
        training: Training,
        seed: int,
        state: Path,
        weights: Weights | None = None,
    ) -> tuple[nn.Module, ModelSpec]:
        """The network and its spec after training on the labelled images of `data`."""
        device = resolve_device(training.train.device)
        alone = replace(
            data,
            unlabeled_images=None,
            unlabeled_rows=None,
            unlabeled_targets=None,
            validation_images=None,
            validation_labels=None,
        )
        return train_network(
            self.spec,
            alone,
            training,
            seed=seed,
            weights=weights,
            worker=Worker(device=device),
            state_folder=state,
        )
