"""What a run on 1.3 million labelled and 130 million unlabelled images takes on 1 to 64 nodes.

python -m benchmarks.scale [--set NAME=VALUE …] [--nodes 1 2 4 …]

Arithmetic alone: a step is a pass over images or several in turn, each of which takes as long as
the slowest of what it needs, and that is what saturates. docs/scale.md says what each rate is and
where it comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from benchmarks.runs import arguments
from pipeline.progress import say

NODES = (1, 2, 4, 8, 16, 32, 64)
GIVEN = """
labeled=1.3e6 unlabeled=130e6 held_out=100e3 generations=3 teacher_epochs=90 student_passes=3
unlabeled_ratio=7 image_bytes=23.1e3 source_bytes=110e3 shard_rows=4096 task_seconds=2e-3
prepare_seconds=4.1e-3 prepare_driver_seconds=0.46e-6 copies_seconds=11.7e-9 write_seconds=93e-6
decode_seconds=0.62e-3 select_seconds=6.7e-6 select_driver_seconds=0.26e-6 report_seconds=161e-6
select_workers=128 worker_tasks=16 prediction_bytes=111 pseudo_label_bytes=121
gpus=8 cores=128 train_rate=2078 predict_rate=7410 node_efficiency=0.95
node_read=5e9 storage_read=100e9 node_write=5e9 storage_write=50e9
node_euro=20 terabyte_euro=20 months=1
"""
RATES = {name: float(value) for name, value in (item.split("=") for item in GIVEN.split())}
ONCE = ("prepare", "teacher", "report")  # the other steps come in each generation
ALONE = "one thread"  # what no further node meets
Needs = dict[str, float]  # seconds that each thing a pass needs would take alone
Steps = dict[str, list[Needs]]


def steps_of(nodes: int, rate: Mapping[str, float]) -> Steps:
    """The steps of a run on so many nodes: of pseudo-labels and students one, for a generation."""
    images = rate["labeled"] + rate["unlabeled"]
    read = min(nodes * rate["node_read"], rate["storage_read"])
    write = min(nodes * rate["node_write"], rate["storage_write"])
    cores, gpus = nodes * rate["cores"], nodes * rate["gpus"]
    workers, shards = min(cores, rate["select_workers"]), images / rate["shard_rows"]
    handing_out = shards * rate["task_seconds"]  # to Ray, by one thread, a shard or slice a task
    small = (rate["prediction_bytes"] * rate["generations"] + rate["pseudo_label_bytes"]) / read

    def grouped(workers: float) -> float:
        """The same where several shards are one task."""
        return min(shards, rate["worker_tasks"] * workers) * rate["task_seconds"]

    def looked_at(count: float, rate_of_gpus: float) -> Needs:
        decoding = count * rate["decode_seconds"] / cores
        reading = count * rate["image_bytes"] / read
        return {"GPUs": count / rate_of_gpus, "decoding": decoding, "reading": reading}

    trained = gpus * rate["train_rate"] * rate["node_efficiency"] ** (nodes.bit_length() - 1)
    taught = rate["student_passes"] * rate["unlabeled"]
    asked = looked_at(rate["unlabeled"], gpus * rate["predict_rate"])
    return {
        "prepare": [
            {
                "decoding": images * rate["prepare_seconds"] / cores,
                "reading": images * rate["source_bytes"] / read,
                "writing": images * rate["image_bytes"] / write,
                "one thread": handing_out,
            },
            {"one thread": images * rate["prepare_driver_seconds"]},
            {"comparing": images * rate["held_out"] * rate["copies_seconds"] / cores},
            {
                "cores": images * rate["write_seconds"] / cores,
                "reading": images * rate["image_bytes"] / read,
                "writing": images * rate["image_bytes"] / write,
                "one thread": handing_out,
            },
        ],
        "teacher": [looked_at(rate["teacher_epochs"] * rate["labeled"], trained)],
        "predict": [asked | {"one thread": grouped(gpus)}],
        "select": [
            {
                "cores": rate["unlabeled"] * rate["select_seconds"] / workers,
                "one thread": 2 * grouped(workers),
            },
            {"one thread": rate["unlabeled"] * rate["select_driver_seconds"]},
        ],
        "student": [looked_at(taught * (1 + 1 / rate["unlabeled_ratio"]), trained)],
        "report": [
            {
                "cores": rate["unlabeled"] * rate["report_seconds"] / workers,
                "reading": rate["unlabeled"] * small,
                "one thread": grouped(workers),
            }
        ],
    }


def spent(passes: Sequence[Needs]) -> Counter[str]:
    """Seconds of a step, by what set them."""
    seconds: Counter[str] = Counter()
    for needs in passes:
        slowest = max(needs, key=lambda name: needs[name])
        seconds[slowest] += needs[slowest]  # type: ignore[assignment]
    return seconds


def whole_run(steps: Steps, generations: float) -> Counter[str]:
    """Seconds of a run, by what sets them: some steps once, the others for each generation."""
    whole: Counter[str] = Counter()
    for name, passes in steps.items():
        times = 1 if name in ONCE else generations
        for limit, seconds in spent(passes).items():
            whole[limit] += seconds * times  # type: ignore[assignment]
    return whole


def stored_bytes(rate: Mapping[str, float]) -> float:
    """Of the source and the prepared images."""
    images = rate["labeled"] + rate["unlabeled"]
    return images * (rate["source_bytes"] + rate["image_bytes"])


def time_table(nodes: Sequence[int], rate: Mapping[str, float]) -> str:
    """Hours of each step and what sets most of them, and of the run, by the number of nodes."""
    names = list(steps_of(1, rate))
    last = ("whole run", "of it one thread", "GPU hours", "euro")
    lines = [
        f"| nodes | {' | '.join([*names, *last])} |",
        "|---" * (1 + len(names) + len(last)) + "|",
    ]
    for count in nodes:
        steps = steps_of(count, rate)
        cells = []
        for passes in steps.values():
            seconds = spent(passes)
            cells.append(f"{_hours(seconds.total())} ({seconds.most_common(1)[0][0]})")
        whole = whole_run(steps, rate["generations"])
        hours, alone = whole.total() / 3600, whole[ALONE]
        cells += [f"{hours:.1f} h", f"{alone / whole.total():.0%}".replace("%", " %")]
        cells += [
            f"{hours * count * rate['gpus']:,.0f}",
            f"{hours * count * rate['node_euro']:,.0f}",
        ]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def storage_euro(rate: Mapping[str, float]) -> float:
    """What the source and the prepared images cost for the months that they are in storage."""
    return stored_bytes(rate) / 1e12 * rate["terabyte_euro"] * rate["months"]


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
    say(f"storage: {storage_euro(rates):,.0f} euro")


if __name__ == "__main__":
    main()
