"""What a run on 1.3 million labelled and 130 million unlabelled images costs on 1 to 64 nodes.

python -m benchmarks.scale [--set NAME=VALUE …] [--nodes 1 2 4 …] [--page docs/scale.md]

Arithmetic alone: every step takes as long as the slowest of what it needs, and that is what
saturates. The rates stand in RATES with where each comes from; `--set` puts others in their place,
`--page` renews the tables of the page.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import write_text
from pipeline.progress import say

TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
NODES = (1, 2, 4, 8, 16, 32, 64)
HERE = "measured on one core of a shared 2-core AMD EPYC, processor time"
NVIDIA = (
    "published by NVIDIA for ResNet-50 v1.5, PyTorch, mixed precision, DGX A100 80 GB "
    "(DeepLearningExamples)"
)


@dataclass(frozen=True)
class Rate:
    """A number that the costs are computed from, its unit, and where it comes from."""

    value: float
    unit: str
    source: str


RATES: dict[str, Rate] = {
    "labeled": Rate(1.3e6, "images", "the task"),
    "unlabeled": Rate(130e6, "images", "the task"),
    "generations": Rate(3, "students", "assumed"),
    "teacher_epochs": Rate(90, "passes over the labelled images", "assumed, as NVIDIA's"),
    "student_passes": Rate(3, "passes over the pseudo-labels", "assumed"),
    "unlabeled_ratio": Rate(7, "pseudo-labelled images for a labelled one", "assumed"),
    "image_bytes": Rate(
        127e3, "bytes", "a 224×224 PNG of generated pictures with the spectrum of photographs"
    ),
    "source_bytes": Rate(110e3, "bytes", "assumed: a JPEG of 500×375"),
    "prediction_bytes": Rate(111, "bytes", "measured: 1,000 classes, `make bench-select`"),
    "pseudo_label_bytes": Rate(121, "bytes", "measured: 1,000 classes, `make bench-select`"),
    "prepare_seconds": Rate(6.3e-3, "s an image", f"a JPEG of 500×375 to a PNG of 224×224; {HERE}"),
    "prepare_serial_seconds": Rate(
        85e-6, "s an image", f"what `prepare` does in one thread: bookkeeping, writing; {HERE}"
    ),
    "decode_seconds": Rate(1.2e-3, "s an image", f"a PNG of 224×224; {HERE}"),
    "select_seconds": Rate(6.7e-6, "s a row", f"1,000 classes, chosen and written; {HERE}"),
    "gpus": Rate(8, "a node", "the task"),
    "cores": Rate(128, "a node", "assumed: a DGX A100"),
    "train_rate": Rate(2078, "images/s a GPU", f"16,621 on eight; {NVIDIA}"),
    "predict_rate": Rate(
        7410, "images/s a GPU", "assumed: a forward pass is a third of the training step on one GPU"
    ),
    "node_efficiency": Rate(0.95, "for each doubling of nodes, in training", "assumed"),
    "node_read": Rate(5e9, "bytes/s a node", "assumed: from shared storage"),
    "storage_read": Rate(100e9, "bytes/s", "assumed: what shared storage gives all nodes"),
    "parameters": Rate(25.6e6, "weights", "ResNet-50"),
    "images_a_step": Rate(256, "images a GPU and step", "assumed"),
}
Values = Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """A step of a run: seconds, what sets them, and seconds that each need alone would take."""

    name: str
    needs: dict[str, float]

    @property
    def seconds(self) -> float:
        """The time of the slowest need."""
        return max(self.needs.values())

    @property
    def limit(self) -> str:
        """The need that saturates."""
        return max(self.needs, key=lambda name: self.needs[name])


def steps_of(nodes: int, rate: Values) -> list[Step]:
    """The steps of a run on so many nodes: of pseudo-labels and students one, for a generation."""
    images = rate["labeled"] + rate["unlabeled"]
    read = min(nodes * rate["node_read"], rate["storage_read"])
    cores, gpus = nodes * rate["cores"], nodes * rate["gpus"]

    def looked_at(count: float, rate_of_gpus: float) -> dict[str, float]:
        return {
            "GPUs": count / rate_of_gpus,
            "decoding": count * rate["decode_seconds"] / cores,
            "reading": count * rate["image_bytes"] / read,
        }

    doublings = nodes.bit_length() - 1
    trained = gpus * rate["train_rate"] * rate["node_efficiency"] ** doublings
    taught = rate["student_passes"] * rate["unlabeled"]
    return [
        Step(
            "prepare",
            {
                "decoding": images * rate["prepare_seconds"] / rate["cores"],
                "one thread": images * rate["prepare_serial_seconds"],
                "reading": images * rate["source_bytes"] / rate["node_read"],
            },
        ),
        Step("teacher", looked_at(rate["teacher_epochs"] * rate["labeled"], trained)),
        Step("predict", looked_at(rate["unlabeled"], gpus * rate["predict_rate"])),
        Step("select", {"cores": rate["unlabeled"] * rate["select_seconds"] / cores}),
        Step("student", looked_at(taught * (1 + 1 / rate["unlabeled_ratio"]), trained)),
    ]


def total_seconds(steps: Sequence[Step], generations: float) -> float:
    """Seconds of a run: the first two steps once, the others for each generation."""
    first, each = steps[:2], steps[2:]
    return sum(s.seconds for s in first) + generations * sum(s.seconds for s in each)


def time_table(nodes: Sequence[int], rate: Values) -> str:
    """Hours of each step, and what sets them, by the number of nodes."""
    runs = {count: steps_of(count, rate) for count in nodes}
    names = [step.name for step in runs[nodes[0]]]
    lines = [
        f"| nodes | {' | '.join(names)} | whole run | GPU hours |",
        f"|{'---|' * (len(names) + 3)}",
    ]
    for count, steps in runs.items():
        whole = total_seconds(steps, rate["generations"]) / 3600
        cells = [f"{_hours(step.seconds)} ({step.limit})" for step in steps]
        used = whole * count * rate["gpus"]
        lines.append(f"| {count} | {' | '.join(cells)} | {whole:.1f} h | {used:,.0f} |")
    return "\n".join(lines)


def storage_table(rate: Values) -> str:
    """What lies where at the end of a run."""
    generations = rate["generations"]
    parts = {
        "source images": (rate["labeled"] + rate["unlabeled"]) * rate["source_bytes"],
        "prepared images": (rate["labeled"] + rate["unlabeled"]) * rate["image_bytes"],
        "predictions, all generations": generations * rate["unlabeled"] * rate["prediction_bytes"],
        "pseudo-labels, all": generations * rate["unlabeled"] * rate["pseudo_label_bytes"],
        "models, all": (1 + generations) * rate["parameters"] * 4,
    }
    lines = ["| | size |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {_bytes(size)} |" for name, size in parts.items()])


def network_table(nodes: Sequence[int], rate: Values) -> str:
    """Bytes a second that a node reads and that its gradients take, while a student trains."""
    lines = ["| nodes | read by a node | read by all | gradients, in and out of a node |"]
    lines.append("|---|---|---|---|")
    for count in nodes:
        student = steps_of(count, rate)[-1]
        drawn = rate["student_passes"] * rate["unlabeled"] * (1 + 1 / rate["unlabeled_ratio"])
        read = drawn * rate["image_bytes"] / student.seconds
        steps = drawn / (count * rate["gpus"] * rate["images_a_step"])
        around = 2 * (count - 1) / count * rate["parameters"] * 4 * steps / student.seconds
        cells = (f"{_bytes(read / count)}/s", f"{_bytes(read)}/s", f"{_bytes(around)}/s")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rate_table(rates: Mapping[str, Rate]) -> str:
    """Every rate and its source."""
    lines = ["| name | value | source |", "|---|---|---|"]
    for name, rate in rates.items():
        lines.append(f"| `{name}` | {_number(rate.value)} {rate.unit} | {rate.source} |")
    return "\n".join(lines)


def renewed(text: str, nodes: Sequence[int], rates: Mapping[str, Rate]) -> str:
    """The page with its tables made anew."""
    values = {name: rate.value for name, rate in rates.items()}
    made = {
        "times": time_table(nodes, values),
        "storage": storage_table(values),
        "network": network_table(nodes, values),
        "rates": rate_table(rates),
    }
    return TABLE.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", text)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(seconds / 60, 0.1):.1f} min"


def _bytes(size: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"


def _number(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:,g} million"
    return f"{value:,g}" if value >= 1e-3 else f"{value * 1e6:g} × 10⁻⁶"


def main() -> None:
    """Print the tables, or renew those of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=list(NODES))
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--page", type=Path, help="the page whose tables are renewed")
    args = parser.parse_args()
    rates = dict(RATES)
    for item in args.set:
        name, _, value = item.partition("=")
        if name not in rates:
            parser.error(f"--set {item}: no rate is named {name!r}; there are {', '.join(rates)}")
        try:
            rates[name] = Rate(float(value), rates[name].unit, "given")
        except ValueError:
            parser.error(f"--set {item}: must be NAME=NUMBER")
    if args.page:
        text = renewed(args.page.read_text(encoding="utf-8"), args.nodes, rates)
        write_text(args.page, text)
    values = {name: rate.value for name, rate in rates.items()}
    for table in (time_table(args.nodes, values), storage_table(values)):
        say(table + "\n")
    say(network_table(args.nodes, values))


if __name__ == "__main__":
    main()
