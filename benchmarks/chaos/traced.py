"""Run a program with its file operations counted, and end it after the n-th (boundaries.c)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.forks import Forks

SOURCE = Path(__file__).parent / "boundaries.c"
STATE_BYTES = 16
LIMIT_SECONDS = 900.0
ELSEWHERE = ("DVC_ROOT", "RAY_ADDRESS", "MLFLOW_TRACKING_URI")


@dataclass(frozen=True)
class Outcome:
    """How a program ended: `code` as subprocess has it, what it said, its file operations."""

    code: int
    said: str
    operations: list[str]

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def compiler() -> str | None:
    """The C compiler's command; None where there is none."""
    return shutil.which("cc")


def build(folder: Path) -> Path:
    """Compile the library that counts; raises CalledProcessError."""
    library = folder / "boundaries.so"
    command = [compiler() or "cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl"], check=True)
    return library


def inherited() -> dict[str, str]:
    """This process's environment without what would lead a stage to other places."""
    return {name: value for name, value in os.environ.items() if name not in ELSEWHERE}


def run_traced(
    library: Path,
    command: Sequence[str],
    folder: Path,
    *,
    kill_at: int | None = None,
    full_at: int | None = None,
    environment: Mapping[str, str] | None = None,
    forks: Forks | None = None,
) -> Outcome:
    """Run `command` in `folder`, a process group of its own, and count its operations there.

    kill_at: the operation after which the group gets SIGKILL; full_at: after which the disk is
    full; None: never. What it leaves running in its group is ended too. forks: who runs
    the command, which then is `python -m …`, in place of a process started for it.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as beside:
        state, log, said = (Path(beside) / name for name in ("state", "log", "said"))
        state.write_bytes(bytes(STATE_BYTES))
        log.touch()
        said.touch()
        limits = {"CHAOS_AT": kill_at, "CHAOS_FULL": full_at}
        counted = {
            **(environment or {}),
            "CHAOS_ROOT": str(folder.resolve()),
            "CHAOS_STATE": str(state),
            "CHAOS_LOG": str(log),
            **{name: str(value) for name, value in limits.items() if value is not None},
        }
        if forks is None:
            around = {**inherited(), **counted, "LD_PRELOAD": str(library)}
            code = _run_process(command, folder, around, said)
        else:
            _, _, module, *arguments = command
            code = forks.run(
                module,
                arguments,
                folder=folder,
                said=said,
                environment=counted,
                limit_s=LIMIT_SECONDS,
            )
        operations = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return Outcome(code, said.read_text(encoding="utf-8", errors="replace"), operations)


def _run_process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], said: Path
) -> int:
    with said.open("ab") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        return process.wait(LIMIT_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
