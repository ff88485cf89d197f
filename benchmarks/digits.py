"""Handwritten digits with 50 labels: our generations beside scikit-learn's, seed by seed.

python -m benchmarks.digits [--params presets/digits_50.yaml] [--seeds 10] [--processes 2]

The protocol: halves by seed, stratified; 50 labels in all, the rest of the half unlabelled, the
other half tested on; no validation images; every parameter the same for all seeds.
Finished seeds are kept under .selftrain/benchmarks, so that a run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runs import side_by_side
from pipeline.files import value_digest, write_json
from pipeline.params import Params, load_params
from pipeline.progress import say
from pipeline.runtime.stage import code_digest

ROOT = Path(__file__).parents[1]
PRESET = ROOT / "presets" / "digits_50.yaml"
RESULTS = ROOT / "benchmarks" / "results"
KEPT = ROOT / ".selftrain" / "benchmarks"
NUM_LABELS = 50
Accuracies = dict[str, float]


def protocol(params: Params, seed: int) -> Params:
    """The parameters of one seed, without validation images."""
    data = params.data.model_copy(update={"labels": NUM_LABELS, "validation_fraction": 0.0})
    train = params.train.model_copy(update={"threads": 1})
    return params.model_copy(update={"data": data, "train": train, "seed": seed})


def run_seed(seed: int, params: Params) -> Accuracies:
    """Test accuracy of every method on one split; kept and found again by parameters and code."""
    params = protocol(params, seed)
    name = value_digest({"params": params.model_dump(mode="json"), "code": code_digest()})
    path = KEPT / f"digits-{name[:16]}-{seed}.json"
    if not path.exists():
        write_json(path, _ours(params) | _peers(seed))
    accuracies: Accuracies = json.loads(path.read_text())
    return accuracies


def main() -> None:
    """Run the seeds, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.digits")
    parser.add_argument("--params", type=Path, default=PRESET, help="parameters of a run")
    parser.add_argument("--seeds", type=int, default=10, help="splits, numbered from 0")
    parser.add_argument("--processes", type=int, default=2, help="seeds at work at once")
    given = parser.parse_args()
    params = load_params(given.params)
    rows: list[Accuracies] = []
    with side_by_side(given.processes) as pool:
        for row in pool.map(partial(run_seed, params=params), range(given.seeds)):
            rows.append(row)
            shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in row.items())
            say(f"seed {len(rows) - 1}: {shown}")
    result = summary(rows, params)
    suffix = "" if given.params == PRESET else f"_{given.params.stem}"
    write_json(RESULTS / f"digits{suffix}.json", result)
    say(table(result))


def summary(rows: list[Accuracies], params: Params) -> dict[str, Any]:
    """Mean, standard deviation and every seed's accuracy by method, and the gain of the last."""
    methods = {name: _spread([row[name] for row in rows]) for name in rows[0]}
    last = f"generation {len(params.generations)}"
    gains = [row[last] - row["generation 0"] for row in rows]
    return {
        "protocol": f"digits, {NUM_LABELS} labels, {len(rows)} seeds, no validation images",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "methods": methods,
        "gain over the teacher": _spread(gains),
    }


def table(result: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = ["| method | test accuracy | worst seed |", "|---|---|---|"]
    for name, value in result["methods"].items():
        lines.append(
            f"| {name} | {100 * value['mean']:.1f} ± {100 * value['std']:.1f} "
            f"| {100 * min(value['seeds']):.1f} |"
        )
    gain = result["gain over the teacher"]
    lines.append(f"\nGain over the teacher: {100 * gain['mean']:.1f} ± {100 * gain['std']:.1f}")
    return "\n".join(lines)


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "seeds": values,
    }


def _ours(params: Params) -> Accuracies:
    from benchmarks.digits_data import digits
    from benchmarks.in_process import self_train
    from pipeline.evaluate.ensemble import average_log_probs

    images = digits(params.seed, NUM_LABELS, params.data.image_size)
    results = self_train(images, params)
    ours = {f"generation {key}": part.test_accuracy for key, part in enumerate(results)}
    together = average_log_probs([part.log_probs for part in results])
    right = together.argmax(axis=1) == images.test_labels.numpy()
    return ours | {"ensemble of all": float(right.mean())}


def _peers(seed: int) -> Accuracies:
    """scikit-learn's methods on the pixels as they come, with their defaults where not said."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
    from sklearn.svm import SVC

    from benchmarks.digits_data import split_digits

    bases = {
        "SVC": SVC(probability=True, random_state=seed),
        "logistic regression": LogisticRegression(max_iter=2000),
        "random forest": RandomForestClassifier(random_state=seed),
        "5 nearest neighbours": KNeighborsClassifier(5),
    }
    split = split_digits(seed, NUM_LABELS)
    pixels = split.pixels / 16
    known = np.concatenate([split.labels[split.labeled], np.full(len(split.unlabeled), -1)])
    train = pixels[np.concatenate([split.labeled, split.unlabeled])]

    def accuracy(model: Any, images: NDArray[Any], labels: NDArray[Any]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = model.fit(images, labels).predict(pixels[split.test])
        return float((predicted == split.labels[split.test]).mean())

    spreading = LabelSpreading(kernel="knn", n_neighbors=7, max_iter=100)
    peers = {"LabelSpreading": accuracy(spreading, train, known)}
    for name, base in bases.items():
        peers[f"supervised {name}"] = accuracy(
            base, pixels[split.labeled], split.labels[split.labeled]
        )
        peers[f"SelfTrainingClassifier, {name}"] = accuracy(
            SelfTrainingClassifier(base), train, known
        )
    return peers


if __name__ == "__main__":
    main()
