"""A classifier on stored features: one product of matrices, without torch.

Its model folder is that of a whole network, the body's weights in it, so that it is used on images
like any other; beside that its classifier alone can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.features import check_finite
from pipeline.errors import CheckpointError
from pipeline.files import written_whole
from pipeline.memory import joined
from pipeline.models.spec import SPEC, WEIGHTS, ModelSpec, model_digest, read_spec
from pipeline.models.tensor_files import read_safetensors, read_weights, write_model

Floats = NDArray[np.float32]

ROWS_AT_ONCE = 1024
CLASSIFIER = "classifier"  # the note in a body's spec: its classifier's name in the network
FOLDS = "folds.safetensors"
BODY = "body"  # the generation that a body's spec names


@dataclass(frozen=True)
class LinearHead:
    """weight: (K, F), bias: (K,): logits of raw features, any standardisation folded in."""

    weight: Floats
    bias: Floats

    def log_probs(self, features: NDArray[Any], temperature: float = 1.0) -> Floats:
        """log softmax(logits / temperature) of features (N, F): (N, K) float32.

        Raises DataError for features that are not finite, CheckpointError where the result is not.
        """
        starts = range(0, max(len(features), 1), ROWS_AT_ONCE)
        result = joined(
            self._log_probs(features[start : start + ROWS_AT_ONCE], temperature) for start in starts
        )
        check_answers(result)
        return result

    def _log_probs(self, features: NDArray[Any], temperature: float) -> Floats:
        """The same of few, unchecked."""
        part = features.astype(np.float32, copy=False)
        check_finite(part)
        with np.errstate(over="ignore", invalid="ignore"):
            logits: Floats = (part @ self.weight.T + self.bias) / np.float32(temperature)
            logits -= logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits


def check_answers(log_probs: Floats, whose: str = "a head") -> None:
    """Raise CheckpointError where a model's log-probabilities (N, K) are not finite."""
    starts, count = range(0, len(log_probs), ROWS_AT_ONCE), len(log_probs)
    parts = (log_probs[start : start + ROWS_AT_ONCE] for start in starts)
    finite = sum(int(np.isfinite(part).all(axis=1).sum()) for part in parts)
    refuse_answers(count - finite, count, whose)


def refuse_answers(wrong: int, count: int, whose: str) -> None:
    """Raise CheckpointError where so many of a model's answers to `count` images are no numbers."""
    if wrong:
        raise CheckpointError(
            f"the answers of {whose} to {wrong} of {count} images are not numbers: its weights are "
            "too large; train it anew, or take another"
        )


def reads_features(spec: ModelSpec) -> bool:
    """Whether a model is a classifier on stored features."""
    return spec.body is not None


def read_head(folder: Path) -> LinearHead:
    """The classifier in the model folder of a head; raises CheckpointError."""
    spec, path = read_spec(folder), folder / WEIGHTS
    name, classes = _classifier_name(folder, spec), len(spec.classes)
    names = f"{name}.weight", f"{name}.bias"
    weight, bias = read_weights(folder, spec, "numpy", names=names).values()
    fits = weight.shape[:1] == bias.shape == (classes,) and weight.ndim > 1 and weight.size
    if not fits or not weight.dtype == bias.dtype == np.float32:
        raise CheckpointError(f"{path}: not a classifier of {classes} classes")
    return LinearHead(weight.reshape(classes, -1), bias)


def save_head(
    folder: Path,
    head: LinearHead,
    body: Path,
    *,
    generation: str,
    classes: Sequence[str],
    temperature: float = 1.0,
    teacher: str | None = None,
    notes: dict[str, Any] | None = None,
) -> None:
    """Write the whole network to `folder`, whole or not at all: that of `body`, with this head."""
    from safetensors.numpy import save_file

    spec = read_spec(body)
    if spec.classes != list(classes):
        raise CheckpointError(f"{body}: of other classes than the images; run the stage embed")
    name = _classifier_name(body, spec)
    weights = read_weights(body, spec, "numpy")
    weights[f"{name}.weight"] = head.weight.reshape(weights[f"{name}.weight"].shape)
    weights[f"{name}.bias"] = head.bias
    described = replace(
        spec,
        generation=generation,
        temperature=temperature,
        teacher=teacher,
        body=model_digest(body),
        notes=spec.notes | (notes or {}),
    )
    write_model(folder, described, partial(save_file, weights))


def _classifier_name(folder: Path, spec: ModelSpec) -> str:
    name = spec.notes.get(CLASSIFIER)
    if not isinstance(name, str):
        raise CheckpointError(f"{folder / SPEC}: not a body that features were made with")
    return name


@dataclass(frozen=True)
class Folds:
    """The heads of a cross-validation, each fitted without the images that it is to judge.

    fold: (N,) the number of the head that has not seen a labelled image, -1 where all have;
    log_probs: (N, K) what that head says of it, of no meaning where all have seen it.
    """

    heads: tuple[LinearHead, ...]
    fold: NDArray[np.int64]
    log_probs: Floats

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Which labelled images a head judges that has not seen them, (N,)."""
        judged: NDArray[np.bool_] = self.fold >= 0
        return judged


def save_folds(folder: Path, folds: Folds) -> None:
    """Write `folds` into the model folder of the head that was fitted on all of the images."""
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[Any]] = {
        "weight": np.stack([head.weight for head in folds.heads]),
        "bias": np.stack([head.bias for head in folds.heads]),
        "fold": folds.fold.astype(np.int64),
        "log_probs": folds.log_probs.astype(np.float32),
    }
    with written_whole(folder / FOLDS) as partial:
        save_file(arrays, partial)


def read_folds(folder: Path) -> Folds | None:
    """What save_folds wrote; None where the model was not cross-validated."""
    path = folder / FOLDS
    if not path.exists():
        return None
    names = ("weight", "bias", "fold", "log_probs")
    weight, bias, fold, log_probs = read_safetensors(path, "numpy", names=names).values()
    fits = weight.ndim == 3 and weight.shape[:2] == bias.shape and fold.ndim == 1
    fits = fits and log_probs.shape == (len(fold), bias.shape[1]) and fold.dtype == np.int64
    if not fits or not -1 <= fold.min(initial=-1) <= fold.max(initial=-1) < len(weight):
        raise CheckpointError(f"{path}: not as training writes it; selftrain run")
    heads = tuple(LinearHead(*pair) for pair in zip(weight, bias, strict=True))
    return Folds(heads, fold, log_probs)
