"""How the wish to stop comes from the driver to its training workers, and back that it is done.

Two files in the driver's scratch folder say it: "stop", which the driver makes and rank 0 looks for
after a step, and "stopped", which rank 0 makes once it has saved the state.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.runtime.stop import Wish

if TYPE_CHECKING:
    from pipeline.runtime.home import Home

STOP, STOPPED = "stop", "stopped"
LOOK_SECONDS = 0.5
SAVE_SECONDS = 60.0  # a step and its saving; a scheduler's patience is seldom longer


@dataclass
class StopFiles:
    """The worker's side; `scratch`: the driver's folder, reached through `home`."""

    scratch: Path
    home: Home
    _looked: float = field(default_factory=time.monotonic)

    def __call__(self) -> bool:
        """Whether the driver wants to stop; looked for now and then."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        if self.home.here:
            return (self.scratch / STOP).exists()
        with tempfile.TemporaryDirectory() as folder:
            return self.home.fetch(self.scratch / STOP, Path(folder) / STOP)

    def wait_for_end(self) -> None:
        """Say that the state is saved, and wait for the driver to end this process."""
        self.home.append(self.scratch / STOPPED, "")
        threading.Event().wait()


def fit_or_stop(fit: Callable[[], None], scratch: Path, wish: Wish) -> None:
    """Run `fit`, which blocks, until it ends or the wish is there and the workers have saved.

    Raises what `fit` raises, or KeyboardInterrupt. In a thread of its own `fit` can't take the
    signals, as Ray's would.
    """
    for name in (STOP, STOPPED):
        (scratch / name).unlink(missing_ok=True)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            fit()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive() and not wish():
        thread.join(LOOK_SECONDS)
    if wish():
        _wait_for_saved(thread, scratch)
        raise KeyboardInterrupt
    if failures:
        raise failures[0]


def _wait_for_saved(thread: threading.Thread, scratch: Path) -> None:
    (scratch / STOP).touch()
    until = time.monotonic() + SAVE_SECONDS
    while thread.is_alive() and not (scratch / STOPPED).exists() and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
