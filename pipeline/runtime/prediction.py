"""Predict shards with Ray Data: one task a shard, a pool of actors that each hold the teacher."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SelftrainError
from pipeline.labels.predict import ShardPredictor
from pipeline.progress import progress
from pipeline.runtime.ray_session import ray_session

MAX_RETRIES = 3


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
    with ray_session(actors * predictor.threads), progress(title, total) as advance:
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
            num_gpus=_gpus_of_an_actor(predictor.device),
            compute=ray.data.ActorPoolStrategy(size=actors),
            max_restarts=MAX_RETRIES,
            max_task_retries=MAX_RETRIES,
        )


def _gpus_of_an_actor(device: str) -> int:
    """One where the parameter `device` asks for it, or leaves it open and the cluster has any."""
    import ray

    if device == "auto":
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return 1 if resources.get("GPU", 0) >= 1 else 0
    return 1 if device == "cuda" else 0


@dataclass
class PredictorActor:
    """What Ray Data calls: a batch is one shard's number."""

    predictor: ShardPredictor

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Predict the shards of the batch; returns their numbers of rows."""
        return {"rows": [self.predictor(int(number)) for number in batch["number"]]}


def _user_error(error: BaseException | None) -> SelftrainError | None:
    """The SelftrainError that an actor raised, however Ray has wrapped it."""
    while error is not None:
        if isinstance(error, SelftrainError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None
