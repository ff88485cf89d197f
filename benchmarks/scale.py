"""What a run on 1.3 million labelled and 130 million unlabelled images takes on 1 to 64 nodes.

python -m benchmarks.scale [--set NAME=VALUE …] [--nodes 1 2 4 …]

Arithmetic alone: every step takes as long as the slowest of what it needs, and that is what
saturates. docs/scale.md says what each rate is and where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.runs import arguments
from pipeline.progress import say

NODES = (1, 2, 4, 8, 16, 32, 64)
GIVEN = """
labeled=1.3e6 unlabeled=130e6 generations=3 teacher_epochs=90 student_passes=3 unlabeled_ratio=7
image_bytes=47.3e3 source_bytes=110e3 prepare_seconds=4.1e-3 prepare_serial_seconds=85e-6
decode_seconds=0.62e-3 select_seconds=6.7e-6 gpus=8 cores=128 train_rate=2078 predict_rate=7410
node_efficiency=0.95 node_read=5e9 storage_read=100e9
"""
RATES = {name: float(value) for name, value in (item.split("=") for item in GIVEN.split())}
Needs = dict[str, float]  # seconds that each thing a step needs would take alone


def steps_of(nodes: int, rate: Mapping[str, float]) -> dict[str, Needs]:
    """The steps of a run on so many nodes: of pseudo-labels and students one, for a generation."""
    images = rate["labeled"] + rate["unlabeled"]
    read = min(nodes * rate["node_read"], rate["storage_read"])
    cores, gpus = nodes * rate["cores"], nodes * rate["gpus"]

    def looked_at(count: float, rate_of_gpus: float) -> Needs:
        decoding = count * rate["decode_seconds"] / cores
        reading = count * rate["image_bytes"] / read
        return {"GPUs": count / rate_of_gpus, "decoding": decoding, "reading": reading}

    trained = gpus * rate["train_rate"] * rate["node_efficiency"] ** (nodes.bit_length() - 1)
    taught = rate["student_passes"] * rate["unlabeled"]
    return {
        "prepare": {
            "decoding": images * rate["prepare_seconds"] / rate["cores"],
            "one thread": images * rate["prepare_serial_seconds"],
            "reading": images * rate["source_bytes"] / rate["node_read"],
        },
        "teacher": looked_at(rate["teacher_epochs"] * rate["labeled"], trained),
        "predict": looked_at(rate["unlabeled"], gpus * rate["predict_rate"]),
        "select": {"cores": rate["unlabeled"] * rate["select_seconds"] / cores},
        "student": looked_at(taught * (1 + 1 / rate["unlabeled_ratio"]), trained),
    }


def total_seconds(steps: Mapping[str, Needs], generations: float) -> float:
    """Seconds of a run: the first two steps once, the others for each generation."""
    seconds = [max(needs.values()) for needs in steps.values()]
    return sum(seconds[:2]) + generations * sum(seconds[2:])


def time_table(nodes: Sequence[int], rate: Mapping[str, float]) -> str:
    """Hours of each step, and what sets them, by the number of nodes."""
    lines = [f"| nodes | {' | '.join(steps_of(1, rate))} | whole run | GPU hours |"]
    lines.append("|---" * 8 + "|")
    for count in nodes:
        steps = steps_of(count, rate)
        whole = total_seconds(steps, rate["generations"]) / 3600
        slowest = [max((time, name) for name, time in needs.items()) for needs in steps.values()]
        cells = [f"{_hours(seconds)} ({limit})" for seconds, limit in slowest]
        used = whole * count * rate["gpus"]
        lines.append(f"| {count} | {' | '.join(cells)} | {whole:.1f} h | {used:,.0f} |")
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(seconds / 60, 0.1):.1f} min"


def main() -> None:
    """Print the table."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=list(NODES))
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    given, rates = parser.parse_args(), dict(RATES)
    for item in given.set:
        name, _, value = item.partition("=")
        if name not in rates:
            parser.error(f"--set {item}: no rate is named {name!r}; there are {', '.join(rates)}")
        try:
            rates[name] = float(value)
        except ValueError:
            parser.error(f"--set {item}: must be NAME=NUMBER")
    say(time_table(given.nodes, rates))


if __name__ == "__main__":
    main()
