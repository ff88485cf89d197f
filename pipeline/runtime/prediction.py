"""Predict shards with Ray Data: one task a shard, a pool of actors that each hold the teacher."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

from pipeline.errors import SelftrainError
from pipeline.labels.predict import ShardPredictor
from pipeline.progress import progress, say
from pipeline.runtime.home import Home, at_home, blind_nodes, node_folder
from pipeline.runtime.ray_session import has_gpus, ray_session, unmet_demand

MAX_RESTARTS = 3
FOREVER = -1


def distributed_predict(
    predictor: ShardPredictor,
    shards: list[int],
    *,
    actors: tuple[int, int],
    gpus_per_actor: float,
    scratch: Path,
    title: str,
) -> None:
    """Predict the shards of these numbers with Ray actors, as many at once as `actors` says.

    actors: (fewest, most); gpus_per_actor: of each where the predictor's device is a GPU, a
    fraction where several share one; scratch: a folder of the driver's that no other stage writes
    to. A shard whose actor or node dies is predicted again elsewhere; an actor that has died four
    times ends the run.
    """
    if not shards:
        return
    total = sum(predictor.manifest.shards[number].rows for number in shards)
    fewest, most = (min(count, len(shards)) for count in actors)
    with ray_session(most * predictor.threads), at_home(scratch) as home:
        wants_gpu = has_gpus() if predictor.device == "auto" else predictor.device == "cuda"
        gpus = gpus_per_actor if wants_gpu else 0.0
        _announce(predictor, home, gpus, title)
        mapped = _mapped(predictor, shards, home, (fewest, most), gpus)
        with progress(title, total) as advance:
            try:
                for row in mapped.iter_rows():
                    advance(int(row["rows"]))
            except Exception as error:
                raise _user_error(error) or error from None


def _mapped(
    predictor: ShardPredictor,
    shards: list[int],
    home: Home,
    actors: tuple[int, int],
    gpus: float,
) -> Any:
    """The lazy data set of what the actors answer, a row a shard."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.from_items(
        [{"number": number} for number in shards], override_num_blocks=len(shards)
    )
    with warnings.catch_warnings():
        # These limits have no named form. A node that has gone counts as alive for some 20 seconds,
        # in which every try fails: so tries are not counted. A shard that kills its actor ends the
        # run when that actor is not started again.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        return numbers.map_batches(
            PredictorActor,
            fn_constructor_args=(predictor, home),
            batch_size=1,
            num_cpus=predictor.threads,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(min_size=actors[0], max_size=actors[1]),
            max_restarts=MAX_RESTARTS,
            max_task_retries=FOREVER,
        )


def _announce(predictor: ShardPredictor, home: Home, gpus: float, title: str) -> None:
    """Say what makes the work slow, or wait, before it begins."""
    if missing := unmet_demand({"CPU": predictor.threads, "GPU": gpus}):
        say(f"{title}: no node has {missing} for an actor; waiting until the cluster has one")
    if not _in_storage(predictor) and (blind := blind_nodes(home)):
        say(
            f"{title}: {', '.join(blind)} can't see {home.token_file.parent}; images and "
            "predictions travel through this machine (storage.url saves that)"
        )


class PredictorActor:
    """What Ray Data calls: a batch is one shard's number.

    On a node that does not see the driver's files the models are copied there once, and images
    and predictions a shard at a time, unless they are in storage.
    """

    def __init__(self, predictor: ShardPredictor, home: Home) -> None:
        self._folder, self._out = predictor.folder, predictor.out
        self._through_home = None if home.here or _in_storage(predictor) else home
        predictor.models = tuple(home.folder(model) for model in predictor.models)
        self._predictor = predictor

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Predict the shards of the batch; returns their numbers of rows."""
        return {"rows": [self._predict(int(number)) for number in batch["number"]]}

    def _predict(self, number: int) -> int:
        if self._through_home is None:
            return self._predictor(number)
        name = self._predictor.manifest.shards[number].file
        with tempfile.TemporaryDirectory(dir=node_folder()) as folder:
            self._predictor.folder = Path(folder) / "in"
            self._predictor.out = Path(folder) / "out"
            self._through_home.fetch(self._folder / name, self._predictor.folder / name)
            rows = self._predictor(number)
            assert isinstance(self._out, Path)
            self._through_home.give(Path(folder) / "out" / name, self._out / name)
        return rows


def _in_storage(predictor: ShardPredictor) -> bool:
    """Whether images and predictions are read from and written to shared storage."""
    out: Any = predictor.out
    return not isinstance(out, Path)


def _user_error(error: BaseException | None) -> SelftrainError | None:
    """The SelftrainError that an actor raised, however Ray has wrapped it."""
    while error is not None:
        if isinstance(error, SelftrainError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None
