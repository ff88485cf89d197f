"""Handwritten digits with 50 labels: our generations beside scikit-learn's, seed by seed.

python -m benchmarks.digits [--params presets/digits_50.yaml] [--seeds 10] [--processes 2]

The protocol: halves by seed, stratified; 50 labels in all, the rest of the half unlabelled, the
other half tested on; no validation images; every parameter the same for all seeds.
Finished seeds are kept under .selftrain/benchmarks, so that a run goes on where it stopped.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import digits, split_digits
from benchmarks.runs import RESULTS, ROOT, arguments, kept, percent, result_of, side_by_side
from pipeline.files import write_json
from pipeline.params import Params, load_params
from pipeline.progress import say
from pipeline.self_training.loop import self_train
from pipeline.tasks.mixtures import average_log_probs

PRESET = ROOT / "presets" / "digits_50.yaml"
NUM_LABELS = 50
Accuracies = dict[str, float]


def main() -> None:
    """Run the seeds, print the table and write the results."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--params", type=Path, default=PRESET, help="parameters of a run")
    parser.add_argument("--seeds", type=int, default=10, help="splits, numbered from 0")
    parser.add_argument("--processes", type=int, default=2, help="seeds at work at once")
    given = parser.parse_args()
    params = load_params(given.params)
    rows: list[Accuracies] = []
    with side_by_side(given.processes) as pool:
        for row in pool.map(partial(run_seed, params=params), range(given.seeds)):
            rows.append(row)
            say(f"seed {len(rows) - 1}: {percent(row)}")
    result = summary(rows, params)
    suffix = "" if given.params == PRESET else f"_{given.params.stem}"
    write_json(RESULTS / f"digits{suffix}.json", result)
    say(table(result))


def run_seed(seed: int, params: Params) -> Accuracies:
    """Test accuracy of every method on one split."""
    params = protocol(params, seed)
    what = params.model_dump(mode="json")
    found: Accuracies = kept(Path(__file__), str(seed), what, lambda: ours(params) | peers(seed))
    return found


def protocol(params: Params, seed: int) -> Params:
    """The parameters of one seed, without validation images."""
    data = params.data.model_copy(update={"labels": NUM_LABELS, "validation_fraction": 0.0})
    train = params.train.model_copy(update={"threads": 1})
    return params.model_copy(update={"data": data, "train": train, "seed": seed})


def ours(params: Params) -> Accuracies:
    """Test accuracy of each generation, and of all together."""
    images = digits(params.seed, NUM_LABELS, params.data.image_size)
    results = self_train(images, params)
    found = {f"generation {key}": part.test_accuracy for key, part in enumerate(results)}
    together = average_log_probs([part.log_probs for part in results])
    right = together.argmax(axis=1) == images.test_labels.numpy()
    return found | {"ensemble of all": float(right.mean())}


def peers(seed: int) -> Accuracies:
    """scikit-learn's methods on the pixels as they come, with their defaults where not said."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
    from sklearn.svm import SVC

    bases = {
        "SVC": SVC(probability=True, random_state=seed),
        "logistic regression": LogisticRegression(max_iter=2000),
        "random forest": RandomForestClassifier(random_state=seed),
        "5 nearest neighbours": KNeighborsClassifier(5),
    }
    split = split_digits(seed, NUM_LABELS)
    pixels = split.pixels / 16
    few, known = pixels[split.labeled], split.labels[split.labeled]
    train = np.concatenate([few, pixels[split.unlabeled]])
    partly = np.concatenate([known, np.full(len(split.unlabeled), -1)])

    def accuracy(model: Any, images: NDArray[Any], labels: NDArray[Any]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = model.fit(images, labels).predict(pixels[split.test])
        return float((predicted == split.labels[split.test]).mean())

    spreading = LabelSpreading(kernel="knn", n_neighbors=7, max_iter=100)
    found = {"LabelSpreading": accuracy(spreading, train, partly)}
    for name, base in bases.items():
        found[f"supervised {name}"] = accuracy(base, few, known)
        taught = SelfTrainingClassifier(base)
        found[f"SelfTrainingClassifier, {name}"] = accuracy(taught, train, partly)
    return found


def summary(rows: list[Accuracies], params: Params) -> dict[str, Any]:
    """Mean, standard deviation and every seed's accuracy by method, and the gain of the last."""
    last = f"generation {len(params.generations)}"
    return result_of(
        __doc__,
        methods={name: _spread([row[name] for row in rows]) for name in rows[0]},
        **{"gain over the teacher": _spread([row[last] - row["generation 0"] for row in rows])},
    )


def table(result: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = ["| method | test accuracy | worst seed |", "|---|---|---|"]
    for name, value in result["methods"].items():
        worst = 100 * min(value["seeds"])
        lines.append(f"| {name} | {_percent(value)} | {worst:.1f} |")
    lines.append(f"\nGain over the teacher: {_percent(result['gain over the teacher'])}")
    return "\n".join(lines)


def _percent(value: dict[str, Any]) -> str:
    return f"{100 * value['mean']:.1f} ± {100 * value['std']:.1f}"


def _spread(values: list[float]) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "seeds": values}


if __name__ == "__main__":
    main()
