"""Photographs and pictures from above, few labels: our generations beside other methods.

python -m benchmarks.photos --data FOLDER [--processes 2]

The protocol: labels balanced over the classes, drawn by split from the training images; all other
training images unlabelled; accuracy on the test images; no validation images; every method but
`from scratch` on features of, or from, the same ImageNet weights (EfficientNet-Lite0). EuroSAT:
10 land covers at 64 pixels, 5,000 training and 2,000 test images; photos: 12 classes of Caltech-101
at 128 pixels, 776 and 240; CIFAR-10: the first 5,250 training and 5,000 test images at 32 pixels.
`control` is the network fine-tuned on the labels alone, for as many steps as all generations.
Parameters are those of presets/photographs.yaml, and from scratch of presets/folder_small.yaml.
Each finished part of a run is kept under .selftrain/benchmarks, by its parameters and the code that
makes it, so that a run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import photos_methods as methods
from benchmarks.photos_data import (
    SOURCES,
    Source,
    body_features,
    read_set,
    split_features,
    split_set,
)
from benchmarks.runs import (
    RESULTS,
    ROOT,
    arguments,
    code_of,
    data_missing,
    half_interval,
    kept,
    put_table,
    result_of,
    side_by_side,
)
from pipeline.files import write_json
from pipeline.params import Params, load_params
from pipeline.progress import say

HERE = Path(__file__)
RESULT = RESULTS / "photos.json"
PAGE = ROOT / "docs" / "self_training.md"
NUM_CLASSES = {"EuroSAT": 10, "photos": 12, "CIFAR-10": 10}
PRESETS = {"ours": "photographs", "scratch": "folder_small"}
CODE = (
    *(f"pipeline/{part}" for part in ("data", "augment", "models", "train", "labels")),
    *("pipeline/evaluate", "pipeline/params", "benchmarks/photos_data.py"),
    *("pipeline/self_training", "benchmarks/photos_methods.py"),
)
TRAINED = {"seed", "embed", "model", "augment", "train", "transfer", "evaluate"}
TAUGHT = {"predict", "select", "teacher", "generations"}
OURS = tuple(f"generation {number}" for number in range(4))  # of presets/photographs.yaml
METHODS = (
    *("logistic regression", "LabelSpreading", "SelfTrainingClassifier", "control", *OURS),
    *(f"from scratch, generation {number}" for number in range(3)),
)


@dataclass(frozen=True)
class Task:
    """One split of a set: `per_class` labels of each class; which: "ours" or "scratch"."""

    name: str
    per_class: int
    split: int
    which: str = "ours"


def tasks() -> list[Task]:
    """All that is run, the most telling first."""
    sizes = [("EuroSAT", 10, 5), ("photos", 5, 3), ("photos", 10, 3), ("CIFAR-10", 25, 3)]
    sizes += [("EuroSAT", 4, 3), ("EuroSAT", 50, 3)]
    ours = [Task(name, size, split) for name, size, splits in sizes for split in range(splits)]
    return ours + [Task("EuroSAT", 10, split, "scratch") for split in range(2)]


def parameters(task: Task, source: Source) -> Params:
    """The preset's, for one split and one thread, without validation images."""
    params = load_params(ROOT / "presets" / f"{PRESETS[task.which]}.yaml")
    one = {"threads": 1}
    return params.model_copy(
        update={
            "seed": task.split,
            "data": params.data.model_copy(update={"image_size": source.image_size}),
            "embed": params.embed.model_copy(update=one),
            "train": params.train.model_copy(update=one),
            "predict": params.predict.model_copy(update=one),
        }
    )


def run_task(
    task: Task,
    folder: Path,
    params_of: Callable[[Task, Source], Params] = parameters,
    sources: dict[str, Source] = SOURCES,
) -> dict[str, Any]:
    """Accuracies of every method on one split, each part from its file if it was done before."""
    source = sources[task.name]
    params, code = params_of(task, source), code_of(CODE)
    torch.set_num_threads(1)
    part = partial(_part_kept, task, source, code)
    if task.which == "scratch":
        images = split_set(read_set(folder, source), task.per_class, task.split)
        generations = partial(methods.generations, images, None, params)
        found = part("scratch", TRAINED | TAUGHT, params, generations)
        return {f"from scratch, {name}": value for name, value in found.items()}
    features = body_features(folder, source, params.embed, code)
    data = read_set(folder, source)
    images = split_set(data, task.per_class, task.split)
    seen = split_features(features, data.labels, task.per_class, task.split)
    trial = part("mode", TRAINED, params, lambda: methods.mode(images, seen, params))
    params = params.with_mode(trial["mode"])
    works: list[tuple[str, set[str], Callable[[], methods.Accuracies]]] = [
        ("peers", {"seed", "embed"}, lambda: methods.peers(images, seen, task.split)),
        ("ours", TRAINED | TAUGHT, lambda: methods.generations(images, seen, params)),
        ("control", TRAINED | {"controls"}, lambda: methods.control(images, params)),
    ]
    found = {}
    for name, sections, work in works:
        found |= part(name, sections, params, work)
    return found | {"logistic regression": found["generation 0"], "mode": trial["mode"]}


def _part_kept(
    task: Task,
    source: Source,
    code: str,
    name: str,
    sections: set[str],
    params: Params,
    work: Callable[[], Any],
) -> dict[str, Any]:
    """What `work` gave, kept by the sections of `params` that it depends on."""
    what = vars(task) | {"part": name, "source": vars(source)}
    what |= params.model_dump(mode="json", include=sections)
    label = f"{task.name}-{task.per_class}-{task.split}-{name}"
    found: dict[str, Any] = kept(HERE, label, what, work, code=code)
    say(f"{label}: {found}")
    return found


def main() -> None:
    """Run what is not kept yet, print the table, and write the results and the page."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files")
    parser.add_argument("--processes", type=int, default=2, help="runs at work at once")
    given = parser.parse_args()
    needed = {name for source in SOURCES.values() for name in (source.train, source.test)}
    if data_missing(given.data, needed):
        return
    done: dict[Task, dict[str, Any]] = {}
    with side_by_side(given.processes) as pool:
        list(pool.map(partial(embed_set, given.data), SOURCES))
        works = {pool.submit(run_task, task, given.data): task for task in tasks()}
        for work in as_completed(works):
            task = works[work]
            done[task] = work.result()
            say(f"{len(done)} of {len(works)} done: {task}")
            write_json(RESULT, summary(done))
    result = summary(done)
    write_json(RESULT, result)
    put_table(PAGE, "photos", table(result))
    say(table(result))


def embed_set(folder: Path, name: str) -> None:
    """Make a set's features, if they are not kept."""
    params = parameters(Task(name, 0, 0), SOURCES[name])
    body_features(folder, SOURCES[name], params.embed, code_of(CODE))


def summary(done: dict[Task, dict[str, Any]]) -> dict[str, Any]:
    """Rows of accuracies and of gains over the control, in %, with 95 % intervals over splits."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for task in sorted(done, key=tasks_order):
        groups.setdefault((task.name, task.per_class), []).append(done[task])
    rows: list[dict[str, Any]] = []
    gains: list[dict[str, Any]] = []
    modes: list[dict[str, Any]] = []
    for (name, per_class), found in groups.items():
        where = {"set": name, "labels": per_class * NUM_CLASSES[name]}
        ours = [each for each in found if "control" in each]
        for method in METHODS:
            values = [100 * each[method] for each in found if method in each]
            more = [100 * (each[method] - each["control"]) for each in ours if method in each]
            rows += [where | {"method": method} | spread(values)] if values else []
            if method in OURS and more:
                gains.append(where | {"method": method} | spread(more))
        modes.append(where | {"modes": [each["mode"] for each in ours]})
    return result_of(
        __doc__, shipped=OURS[-1], rows=rows, modes=modes, **{"gain over control": gains}
    )


def tasks_order(task: Task) -> tuple[int, int]:
    """Sets and sizes as they are run, then splits."""
    places = list(dict.fromkeys((each.name, each.per_class) for each in tasks()))
    return places.index((task.name, task.per_class)), task.split


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and 95 % interval of values by split; no interval of one."""
    mean = float(np.mean(values))
    half = half_interval(values) if len(values) > 1 else None
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"mean": mean, "low": low, "high": high, "splits": list(values)}


def table(result: dict[str, Any]) -> str:
    """In Markdown: a line a method, a column a set and number of labels, means in %."""
    wheres = list(dict.fromkeys((row["set"], row["labels"]) for row in result["rows"]))
    lines = [
        f"| test accuracy, % | {' | '.join(f'{name}, {size} labels' for name, size in wheres)} |",
        "|---|" + "---|" * len(wheres),
    ]
    for method in METHODS:
        cells = [_cell(result["rows"], where, method) for where in wheres]
        if any(cells):
            lines.append(f"| {method} | {' | '.join(cells)} |")
    gains = [_cell(result["gain over control"], where, result["shipped"], "+") for where in wheres]
    lines.append(f"| gain of the last over `control` | {' | '.join(gains)} |")
    modes = {(row["set"], row["labels"]): row["modes"] for row in result["modes"]}
    networks = [
        f"{modes[where].count('layerwise')} of {len(modes[where])} splits" for where in wheres
    ]
    lines.append(f"| students are networks | {' | '.join(networks)} |")
    return "\n".join(lines)


def _cell(
    rows: Sequence[dict[str, Any]], where: tuple[str, int], method: str, sign: str = ""
) -> str:
    for row in rows:
        if (row["set"], row["labels"], row["method"]) == (*where, method):
            half = "" if row["high"] is None else f" ± {row['high'] - row['mean']:.1f}"
            return f"{row['mean']:{sign}.1f}{half}".replace("-", "−")
    return ""


if __name__ == "__main__":
    main()
