"""What a second worker, and a second actor, add: images a second against twice those of one.

python -m benchmarks.scaling [--rounds 3] [--steps 30] [--network wrn_16_2]

Training and prediction run as the stages run them, through Ray on this machine, with one thread for
each worker or actor and the same number of images for each. Training counts from its first logged
steps, prediction from when every actor has finished a shard, so that starting is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.ingest import write_pictures
from benchmarks.measure import compared, in_turn, keep
from pipeline.data.shards import read_manifest
from pipeline.files import write_json
from pipeline.labels.predict import ShardPredictor
from pipeline.models.checkpoint import network_of, save_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.params import AugmentParams, ModelParams, Training, TrainParams
from pipeline.progress import say
from pipeline.ray.map_shards import distributed_map
from pipeline.runtime.train_network import train_job
from pipeline.train.run import TrainJob

SIDE, CLASSES = 32, [str(number) for number in range(10)]
IMAGES_A_WORKER = 64
LOGGED = 5  # steps between two points; the first is the warm-up


class _Untracked:
    """What training tells of its figures, which the benchmark reads from its history."""

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Leave them."""


def training_rate(prepared: Path, network: str, workers: int, steps: int) -> float:
    """Images a second of training with so many workers, the median of its points but the first."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        scratch = Path(name)
        train = TrainParams(
            steps=steps,
            batch_size=IMAGES_A_WORKER * workers,
            workers=workers,
            threads=1,
            device="cpu",
            log_every=LOGGED,
        )
        job = TrainJob(
            prepared=prepared,
            pseudo_labels=None,
            model=scratch / "model",
            state=scratch,
            generation="0",
            teacher=None,
            seed=0,
            training=Training(
                model=ModelParams(name=network), augment=AugmentParams(), train=train
            ),
        )
        tracker: Any = _Untracked()
        points = train_job(job, tracker, f"{workers} workers")
    rates = [point.values["images_per_second"] for point in points if "loss" in point.values]
    return statistics.median(rates[1:])


def prediction_rate(prepared: Path, model: Path, actors: int) -> float:
    """Images a second of prediction with so many actors, once each has finished a shard."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        out, folder = Path(name) / "predictions", prepared / "unlabeled"
        predictor = ShardPredictor(
            models=(model,),
            folder=folder,
            out=out,
            views="centre",
            jitter_views=1,
            batch_size=128,
            seed=0,
            threads=1,
        )
        shards = read_manifest(folder).shards
        distributed_map(
            (predictor, list(range(len(shards)))),
            actors=(actors, actors),
            gpus_per_actor=1.0,
            scratch=Path(name),
            title=f"{actors} actors",
        )
        ended = sorted((out / entry.file).stat().st_mtime for entry in shards)
    rows = shards[0].rows
    return (len(ended) - actors) * rows / (ended[-1] - ended[actors - 1])


def make_inputs(folder: Path, network: str, shards: int, rows: int) -> None:
    """Generated pictures, labelled and not, and an untrained model that predicts them."""
    prepared = folder / "prepared"
    for part, count in (("labeled", 1024), ("unlabeled", shards * rows), ("validation", 0)):
        write_pictures(prepared / part, count, SIDE, rows_per_shard=rows)
    known: dict[str, Any] = {"classes": CLASSES, "image_size": SIDE, "channels": 3}
    known |= {"mean": [0.5] * 3, "std": [0.25] * 3}
    write_json(prepared / "dataset.json", known | {"source": "generated", "seed": 0})
    plan = ModelParams(name=network).network
    spec = ModelSpec(network=plan, generation="0", **known)
    save_checkpoint(folder / "model", network_of(spec, 0).state_dict(), spec)


def main() -> None:
    """Measure one and two in turn, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--rows", type=int, default=512, help="images of a shard")
    parser.add_argument("--network", default="wrn_28_2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        make_inputs(folder, args.network, args.shards, args.rows)
        prepared = folder / "prepared"
        rows = []
        say("training")
        trained: dict[int, Any] = {
            count: lambda count=count: training_rate(prepared, args.network, count, args.steps)
            for count in (1, 2)
        }
        rows.append(twice("training with two workers", trained, args.rounds))
        say("prediction")
        predicted: dict[int, Any] = {
            count: lambda count=count: prediction_rate(prepared, folder / "model", count)
            for count in (1, 2)
        }
        rows.append(twice("prediction with two actors", predicted, args.rounds))
    about = {"network": args.network, "images_a_worker": IMAGES_A_WORKER}
    keep("scaling", rows, rounds=args.rounds, about=about)


def twice(name: str, measures: dict[int, Any], rounds: int) -> Any:
    """What two do against twice what one does."""
    answers = in_turn({"ours": measures[2], "reference": lambda: 2 * measures[1]()}, rounds)
    return compared(f"{name} against twice one", "images/s", answers, at_least=0.85)


if __name__ == "__main__":
    main()
