"""One Ray instance for all stages of a `dvc repro`, so that only the first one waits for it.

Starting Ray takes longer than a small prediction. A process of its own, the keeper, starts it and
ends it with the `dvc` that runs the stages; a training stage has it started while it computes. A
stage run by hand, or one that can't have the kept instance, has Ray for itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.files import read_json
from pipeline.params import Params
from pipeline.runtime.background import start_program
from pipeline.tracking.spool import is_locked

START_SECONDS = 240.0
SPAWN_SECONDS = 15.0  # from its start to its lock, on a busy machine
SPAWNS = 3  # Ray gives up after 30 busy seconds
USE_SECONDS = 10.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Kept:
    """The files of the instance that belongs to the `dvc` of process `pid`.

    The keeper holds `alive` while it is at work, a stage holds `use` while it uses Ray.
    """

    root: Path
    pid: int
    created: float

    @property
    def folder(self) -> Path:
        """Named by process and its start, since a number is given again."""
        return self.root / ".selftrain" / "ray" / f"{self.pid}-{round(self.created * 1000)}"

    @property
    def alive(self) -> Path:
        """The keeper's lock."""
        return self.folder / "alive.lock"

    @property
    def use(self) -> Path:
        """The lock of the stage that uses Ray."""
        return self.folder / "use.lock"

    @property
    def facts(self) -> Path:
        """Address and number of CPUs, as JSON, once Ray has started."""
        return self.folder / "ray.json"


def kept_by_repro() -> Kept | None:
    """The instance of the `dvc` that runs this stage; None where none does."""
    root = os.environ.get("DVC_ROOT")
    if not root or os.environ.get("RAY_ADDRESS"):
        return None
    import psutil

    for process in psutil.Process().parents():
        try:
            names = [Path(word).name for word in process.cmdline()[:3]]
            if "dvc" in names:
                return Kept(Path(root), process.pid, process.create_time())
        except psutil.Error:
            continue
    return None


def start_early(params: Params, model: str) -> None:
    """Have Ray started while this stage trains `model`, where `model` teaches a generation."""
    if any(item.teacher == model for item in params.generations.values()):
        kept = kept_by_repro()
        if kept is not None and not is_locked(kept.alive):
            _start_keeper(kept, cpus_of(params))


def cpus_of(params: Params) -> int:
    """The CPUs that the stages ask of Ray at most."""
    training = [params.training(key).train for key in params.model_keys]
    wanted = [train.workers * train.threads for train in training]
    return max(params.run.actor_range[1] * params.predict.threads, *wanted)


@contextmanager
def kept_ray(num_cpus: int) -> Iterator[str | None]:
    """The address of the kept instance, this stage's alone during the block.

    None where there is none, it has fewer CPUs, another stage uses it, or it did not start. To be
    entered before ray is imported: its token is set in the environment, which Ray reads then.
    """
    kept = kept_by_repro()
    if kept is None:
        yield None
        return
    kept.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(kept.use)
    try:
        lock.acquire(timeout=USE_SECONDS)
    except Timeout:
        yield None
        return
    try:
        facts = _started(kept, num_cpus)
        if facts and facts["cpus"] >= num_cpus:
            os.environ.update(facts["environment"])
            yield str(facts["address"])
        else:
            yield None
    finally:
        lock.release()


def _started(kept: Kept, num_cpus: int) -> dict[str, Any] | None:
    """What the keeper says of Ray, once it has started; it is started if there is none."""
    until, spawns, spawn_at = time.monotonic() + START_SECONDS, 0, 0.0
    while time.monotonic() < until:
        if is_locked(kept.alive):
            if kept.facts.exists():
                facts: dict[str, Any] = read_json(kept.facts)
                return facts
        elif time.monotonic() >= spawn_at:
            if spawns == SPAWNS:
                return None
            _start_keeper(kept, num_cpus)
            spawns, spawn_at = spawns + 1, time.monotonic() + SPAWN_SECONDS
        time.sleep(POLL_SECONDS)
    return None


def _start_keeper(kept: Kept, num_cpus: int) -> None:
    start_program(
        "pipeline.runtime.ray_keeper",
        *("--root", str(kept.root), "--pid", str(kept.pid), "--created", repr(kept.created)),
        *("--cpus", str(num_cpus)),
        log=kept.root / ".selftrain" / "ray" / "keeper.log",
    )
