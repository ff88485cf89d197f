"""Ray for the length of a block: the cluster at RAY_ADDRESS, or an instance started here.

python -m pipeline.ray.session    keeps an instance up until Ctrl-C (`make ray`)
"""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from pipeline.addresses import address_in
from pipeline.errors import ClusterError, MachineError, ParameterError
from pipeline.files import machine_error
from pipeline.progress import say
from pipeline.ray.limits import OBJECT_STORE_BYTES, SPARE_CPUS, SYSTEM

PACKAGE = Path(__file__).resolve().parents[1]
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
PORT = 6379
ANSWER_SECONDS = 10.0
LEADERS = ("raylet", "gcs_server")  # without which Ray ends this process, after up to a minute
WATCH_SECONDS = 0.5
NO_ADDRESS = ("", "auto", "local")  # where Ray looks for itself
VERBOSE = "SELFTRAIN_VERBOSE"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's default to come, without its warning
    "RAY_worker_niceness": "0",  # a stage waits for its workers; 15 would starve them
}
# Ray listens on 127.0.0.1 alone where it takes itself for one machine, as it does by this variable,
# whose name is of the systems on which that is so without it.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
if sys.platform.startswith("linux"):
    LOOPBACK["GLOO_SOCKET_IFNAME"] = "lo"


def is_verbose() -> bool:
    """Whether the user wants to see what Ray says too: `--verbose`, or SELFTRAIN_VERBOSE=1."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


def quiet_ray() -> None:
    """Set Ray's environment and loggers; what the user has set stays."""
    for name, value in QUIET.items():
        if not (is_verbose() and name.endswith("LOG_LEVEL")):
            os.environ.setdefault(name, value)
    if not is_verbose():
        for name in ("ray", "ray.data", "ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def ray_session(num_cpus: int, title: str) -> Iterator[None]:
    """Ray with `num_cpus` CPUs of work: the cluster at RAY_ADDRESS, else one started here.

    title: the stage's, for what is said where processes of Ray's own are killed. Raises
    ParameterError for an address or a token that is none, ClusterError if none answers.
    """
    check_answers()
    prepare_environment()
    import ray

    watched: AbstractContextManager[None]
    options: dict[str, Any] = {
        "address": "local",
        "num_cpus": num_cpus + SPARE_CPUS,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    if os.environ.get("RAY_ADDRESS"):
        options = {"runtime_env": {"py_modules": [str(PACKAGE)], "excludes": ["__pycache__"]}}
        if IN_A_JOB in os.environ:  # which has sent the repository already
            options = {}
        watched = nullcontext()
    else:
        check_limits(num_cpus + SPARE_CPUS)
        watched = _leaders_watched(title)
    level = logging.INFO if is_verbose() else logging.ERROR
    with own_signals(), _refusals():
        _try_once(os.environ.get("RAY_ADDRESS", ""))
        ray.init(log_to_driver=is_verbose(), logging_level=level, **options)
    try:
        with watched:
            yield
    except ray.exceptions.RayTaskError:
        raise  # an error of the work, with its own cause
    except ray.exceptions.RayError as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise machine_error(error) or ClusterError(
            f"Ray lost a process ({reason}); the same command goes on from here"
        ) from error
    finally:
        ray.shutdown()


@contextmanager
def _leaders_watched(title: str) -> Iterator[None]:
    """End this process in one line where a leading process of the Ray that it has started is killed
    in the block: Ray would end it too, later and without a word of the remedy."""
    import psutil
    from ray._private import worker

    node: Any = worker._global_node
    left = threading.Event()

    def watch() -> None:
        while not left.wait(WATCH_SECONDS):
            killed = [kind for kind, process in node.dead_processes() if process.returncode < 0]
            if name := next((name for name in LEADERS if name in killed), None):
                say(
                    f"{title}: Ray's process {name} was killed, as for want of memory; the same "
                    "command goes on from here",
                    sys.stderr,
                )
                for other in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):
                        other.kill()
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


def check_limits(num_cpus: int) -> None:
    """Raise this process's limits as far as they may be, and MachineError where Ray, which would
    end with a dump of its stack, needs more."""
    for name, (letter, need, each) in SYSTEM.items():
        number, wanted = getattr(resource, f"RLIMIT_{name}"), need + each * num_cpus
        soft, hard = resource.getrlimit(number)
        if name == "NPROC" and os.geteuid() == 0:  # whom the system does not limit
            continue
        if hard != resource.RLIM_INFINITY and hard < wanted:
            unit = 1024 if name in ("FSIZE", "AS") else 1
            raise MachineError(
                f"ulimit -{letter} is {hard // unit}, and Ray needs {wanted // unit} for "
                f"{num_cpus} CPUs; raise it, and the same command goes on"
            )
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(number, (hard, hard))


def check_answers() -> None:
    """Raise for a RAY_ADDRESS of another form, or where nothing listens: Ray tries for minutes."""
    address = address_in("RAY_ADDRESS")
    if address in NO_ADDRESS:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not re.fullmatch(r"[\w.-]+|\[[\da-fA-F:.]+\]", host) or not re.fullmatch(r"\d{1,5}", port):
        raise ParameterError(f"RAY_ADDRESS = {address[:200]!r}: must be HOST:PORT, as head:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ClusterError(f"RAY_ADDRESS = {address!r}: nothing answers there ({error})") from None


def _try_once(address: str) -> None:
    """Ask a cluster once, without Ray's own warnings: `ray.init` tries 20 times, aloud."""
    if address in NO_ADDRESS or address.startswith("ray://"):
        return
    from ray._private.authentication import authentication_token_setup as authentication
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    authentication.ensure_token_if_auth_enabled(create_token_if_missing=False)
    sys.stderr.flush()
    shown = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        GcsClient(address=canonicalize_bootstrap_address(address))
    finally:
        os.dup2(shown, 2)
        os.close(shown)


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in one line why Ray can't be joined, as without its token."""
    try:
        yield
    except Exception as error:
        where = os.environ.get("RAY_ADDRESS", "Ray")
        if "AuthenticationError" in "".join(traceback.format_exception(error)):
            raise ParameterError(
                f"{where}: the token is missing or wrong; set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to the file that holds it"
            ) from None
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "RAY_ADDRESS" in os.environ:
            raise ClusterError(f"RAY_ADDRESS = {where!r}: can't be joined ({reason})") from error
        remedy = "it needs memory, a HOME that can be written to, and a short TMPDIR"
        raise machine_error(error) or ClusterError(
            f"Ray did not start ({reason}); {remedy}"
        ) from error


@contextmanager
def own_signals() -> Iterator[None]:
    """Set this process's handlers anew after the block, in which Ray sets its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def prepare_environment() -> None:
    """What Ray's processes take from this one's: quiet, local, and where this package is."""
    quiet_ray()
    if not os.environ.get("RAY_ADDRESS"):
        for name, value in LOOPBACK.items():
            os.environ.setdefault(name, value)
    paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def start() -> None:
    """Become `ray start` on this machine's own interface, and say how stages join it."""
    os.environ.pop("RAY_ADDRESS", None)
    prepare_environment()
    os.environ["RAY_AUTH_MODE"] = "token"
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # else Ray takes 127.0.0.1 for another address
    joins = f"RAY_ADDRESS=127.0.0.1:{PORT} RAY_AUTH_MODE=token {name}={LOOPBACK[name]}"
    print(f"in another terminal:\n  export {joins}\nCtrl-C ends it", flush=True)
    cpus = (os.cpu_count() or 1) + SPARE_CPUS
    options = ["--head", "--block", f"--port={PORT}", f"--num-cpus={cpus}"]
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
    os.execv(sys.executable, [*ray, "start", *options, "--include-dashboard=false"])


if __name__ == "__main__":
    start()
