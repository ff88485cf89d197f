"""Predict shards with Ray Data: one task a shard, a pool of actors that each hold the teacher."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SelftrainError
from pipeline.labels.predict import ShardPredictor
from pipeline.progress import progress
from pipeline.runtime.quiet import muted_stderr, quiet_ray

MAX_RETRIES = 3
OBJECT_STORE_BYTES = 256 << 20  # only shard numbers travel through it
SPARE_CPUS = 1  # for Ray Data's own tasks: actors that hold every CPU would starve them


def distributed_predict(
    predictor: ShardPredictor, shards: list[int], *, actors: int, title: str
) -> None:
    """Predict the shards of these numbers with up to `actors` Ray actors.

    A shard whose actor dies is predicted again elsewhere, up to three times.
    """
    if not shards:
        return
    total = sum(predictor.manifest.shards[number].rows for number in shards)
    actors = min(actors, len(shards))
    with ray_session(actors * predictor.threads + SPARE_CPUS), progress(title, total) as advance:
        try:
            for row in _mapped(predictor, shards, actors).iter_rows():
                advance(int(row["rows"]))
        except Exception as error:
            raise _user_error(error) or error from None


def _mapped(predictor: ShardPredictor, shards: list[int], actors: int) -> Any:
    """The lazy data set of what the actors answer, a row a shard."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.from_items(
        [{"number": number} for number in shards], override_num_blocks=len(shards)
    )
    with warnings.catch_warnings():
        # The limits on retries have no named form; without them a poisonous shard loops for ever.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        return numbers.map_batches(
            PredictorActor,
            fn_constructor_args=(predictor,),
            batch_size=1,
            num_cpus=predictor.threads,
            num_gpus=1 if predictor.device == "cuda" else 0,
            compute=ray.data.ActorPoolStrategy(size=actors),
            max_restarts=MAX_RETRIES,
            max_task_retries=MAX_RETRIES,
        )


@dataclass
class PredictorActor:
    """What Ray Data calls: a batch is one shard's number."""

    predictor: ShardPredictor

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Predict the shards of the batch; returns their numbers of rows."""
        return {"rows": [self.predictor(int(number)) for number in batch["number"]]}


@contextmanager
def ray_session(num_cpus: int) -> Iterator[None]:
    """Ray, at RAY_ADDRESS or else started here with `num_cpus` logical CPUs and then stopped."""
    quiet_ray()
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not os.environ.get("RAY_ADDRESS"):
        options |= {
            "address": "local",
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    with muted_stderr():
        ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


def _user_error(error: BaseException | None) -> SelftrainError | None:
    """The SelftrainError that an actor raised, however Ray has wrapped it."""
    while error is not None:
        if isinstance(error, SelftrainError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None
