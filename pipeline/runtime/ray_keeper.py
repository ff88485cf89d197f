"""The keeper: starts Ray for the stages of one `dvc repro`, and ends it when that has ended.

    python -m pipeline.runtime.ray_keeper --root ROOT --pid PID --created SECONDS --cpus N

It also ends when no stage has used Ray for ten minutes. Killed, it takes Ray with it: Linux ends
`ray start` with the process that called it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from pipeline.errors import ClusterError, SelftrainError
from pipeline.files import write_json
from pipeline.runtime.quiet import quiet_ray, stay_on_loopback
from pipeline.runtime.ray_kept import Kept
from pipeline.runtime.ray_session import OBJECT_STORE_BYTES, SPARE_CPUS
from pipeline.runtime.stop import end_with_parent
from pipeline.tracking.spool import is_locked, try_lock

IDLE_SECONDS = 600.0
POLL_SECONDS = 0.5
LOCK_SECONDS = 5.0  # a stage looks whether the lock is held by holding it for a moment
LOG_BYTES = 1 << 20
START_SECONDS = 120.0
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def keep(kept: Kept, num_cpus: int, idle_s: float = IDLE_SECONDS) -> None:
    """Start Ray, say where it is, and end it with the `dvc` it belongs to or when idle too long.

    idle_s: seconds without a stage that uses it.
    """
    kept.facts.unlink(missing_ok=True)
    environment = authentication(kept)
    # A short path, for Ray's sockets.
    with tempfile.TemporaryDirectory(prefix="st-", dir="/tmp") as folder:  # nosec B108 # private
        process = start_ray(num_cpus, Path(folder), environment)
        try:
            address = wait_for(process, Path(folder))
            facts = {"address": address, "cpus": num_cpus, "environment": environment}
            write_json(kept.facts, facts)
            wait_until_unused(kept, process, idle_s)
        finally:
            end(process)


def authentication(kept: Kept) -> dict[str, str]:
    """A token of this instance's own, in a private file; {} where the user has said how."""
    if any(name in os.environ for name in AUTHENTICATION):
        return {}
    token = kept.folder / "token"
    token.unlink(missing_ok=True)
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token.resolve())}


def start_ray(num_cpus: int, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """`ray start`, with none of the processes that one machine and no dashboard can do without."""
    quiet_ray()
    stay_on_loopback()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--port=0", f"--ray-client-server-port={_free_port()}", "--include-dashboard=false"),
        *("--no-monitor", "--include-log-monitor=false", "--disable-usage-stats"),
        *(f"--num-cpus={num_cpus + SPARE_CPUS}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
        f"--temp-dir={folder}",
    ]
    return subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Ray's address, once it is up; raises ClusterError where it does not start."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError, ValueError, IndexError):
            (session,) = folder.glob("session_2*")
            if (session / "sockets" / "raylet").exists():
                return (folder / "ray_current_cluster").read_text(encoding="ascii").strip()
        time.sleep(POLL_SECONDS)
    raise ClusterError("Ray did not start; what it said is above")


def wait_until_unused(kept: Kept, process: subprocess.Popen[bytes], idle_s: float) -> None:
    """Return when Ray has ended, or nobody uses it and it has no more stages to wait for."""
    idle_since = time.monotonic()
    while process.poll() is None:
        if is_locked(kept.use):
            idle_since = time.monotonic()
        elif not runs(kept) or time.monotonic() - idle_since > idle_s:
            with try_lock(kept.use) as mine:
                if mine:
                    kept.facts.unlink()
                    return
        time.sleep(POLL_SECONDS)
    kept.facts.unlink()


def end(process: subprocess.Popen[bytes]) -> None:
    """End Ray at once: asked to, it would wait half a minute for work that there is not."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def runs(kept: Kept) -> bool:
    """Whether the process that the instance belongs to is still at work."""
    try:
        process = psutil.Process(kept.pid)
        same: bool = abs(process.create_time() - kept.created) < 1
        return same and str(process.status()) != "zombie"
    except psutil.Error:
        return False


def remove_stale(folder: Path) -> None:
    """Remove what keepers that were killed have left of processes that have ended."""
    for old in folder.glob("*-*"):
        if not psutil.pid_exists(int(old.name.partition("-")[0])):
            shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Keep Ray for the stages of one dvc repro.")
    parser.add_argument("--root", type=Path, required=True, help="the repository")
    parser.add_argument("--pid", type=int, required=True, help="the process of dvc")
    parser.add_argument("--created", type=float, required=True, help="when that was started")
    parser.add_argument("--cpus", type=int, required=True, help="for the stages' work")
    options = parser.parse_args(arguments)
    kept = Kept(options.root, options.pid, options.created)
    remove_stale(kept.folder.parent)
    log = kept.folder.parent / "keeper.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        os.truncate(log, 0)
    kept.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(kept.alive, timeout=LOCK_SECONDS):
            keep(kept, options.cpus)
    except Timeout:
        return 0  # another one is at work
    except SelftrainError as error:
        print(f"ray_keeper: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    shutil.rmtree(kept.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
