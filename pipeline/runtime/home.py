"""The driver's files as the nodes of a cluster reach them: where they lie, or through Ray.

A node that sees the driver's folder (one machine, a shared file system) reads and writes there.
Any other asks an actor on the driver's node, and keeps what it has read in a folder of its own
for as long as the driver is connected.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.errors import ClusterError
from pipeline.files import file_digest, value_digest, written_whole

TOKEN_FILE = ".seen"
PROBE_SECONDS = 60.0
SWEEP_SECONDS = 10.0
STALE_SECONDS = 7 * 24 * 3600.0  # what a killed driver has left on a node
RELAY_THREADS = 8


@dataclass(frozen=True)
class Home:
    """The driver's files for a process on any node; it travels there by pickle.

    `token_file` holds `token`: who reads it there sees the driver's folder. `relay`: the actor
    that the others ask; without one every process is taken to see everything.
    """

    token_file: Path = Path()
    token: str = ""
    relay: Any = None

    @property
    def here(self) -> bool:
        """Whether this process sees the driver's files where they lie."""
        if self.relay is None:
            return True
        try:
            return self.token_file.read_text(encoding="ascii") == self.token
        except (OSError, UnicodeDecodeError):
            return False

    def folder(self, path: Path, names: Sequence[str] = (".",)) -> Path:
        """A folder (or file) of the driver's to read: itself, or this node's copy of it.

        names: what of it is needed, "." for all.
        """
        if self.here:
            return path
        listing = self._ask("listing", path, list(names))
        copy = node_folder() / "copies" / value_digest([str(path), listing]) / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.parent / ".lock"):
            if not copy.exists():
                partial = copy.parent / ".partial"
                shutil.rmtree(partial, ignore_errors=True)
                if [name for name, _ in listing] != ["."]:  # a folder
                    partial.mkdir()
                for name, _ in listing:
                    self.fetch(path / name, partial / name)
                os.replace(partial, copy)
        return copy

    def fetch(self, path: Path, to: Path) -> bool:
        """Copy a file of the driver's to `to`, whole or not at all; False where there is none."""
        data: bytes | None = self._ask("read", path)
        if data is not None:
            with written_whole(to) as partial:
                partial.write_bytes(data)
        return data is not None

    def give(self, path: Path, to: Path) -> None:
        """Copy a file of this node, or the files of a folder, to `to` of the driver's."""
        if path.is_dir():
            for inner in sorted(path.iterdir()):
                self.give(inner, to / inner.name)
        else:
            self._ask("write", to, path.read_bytes())

    def append(self, path: Path, text: str) -> None:
        """Append text to a file of the driver's."""
        if self.here:
            Relay().append(str(path), text)
        else:
            self._ask("append", path, text)

    def _ask(self, what: str, path: Path, *more: Any) -> Any:
        import ray

        return ray.get(getattr(self.relay, what).remote(str(path), *more))


class Relay:
    """The actor on the driver's node: reads and writes the driver's files for the others."""

    def __init__(self) -> None:
        self._digests: dict[tuple[str, int, int], str] = {}

    def listing(self, folder: str, names: list[str]) -> list[list[str]]:
        """The files that `names` of a folder are or hold: relative name and SHA-256 of each."""
        root, files = Path(folder), set()
        for path in (root / name for name in names):
            inner = [path] if path.is_file() else path.rglob("*")
            files |= {file for file in inner if file.is_file()}
        return [[str(path.relative_to(root)), self._digest(path)] for path in sorted(files)]

    def _digest(self, path: Path) -> str:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = file_digest(path)
        return self._digests[key]

    def read(self, path: str) -> bytes | None:
        """A file's bytes, None where there is none."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with written_whole(Path(path)) as partial:
            partial.write_bytes(data)

    def append(self, path: str, text: str) -> None:
        """Append to a file."""
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


@contextmanager
def at_home(folder: Path) -> Iterator[Home]:
    """A Home for the files under `folder` and beside it, while Ray is connected.

    On leaving, what the nodes have kept in folders of their own is removed.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not os.environ.get("RAY_ADDRESS"):  # this machine alone
        try:
            yield Home()
        finally:
            shutil.rmtree(node_folder(), ignore_errors=True)
        return
    token, token_file = secrets.token_hex(16), folder.resolve() / TOKEN_FILE
    with written_whole(token_file) as partial:
        partial.write_text(token, encoding="ascii")
    this_node = ray.get_runtime_context().get_node_id()
    relay = ray.remote(Relay).options(
        num_cpus=0,
        max_concurrency=RELAY_THREADS,
        scheduling_strategy=NodeAffinitySchedulingStrategy(this_node, soft=False),
    )
    try:
        yield Home(token_file, token, relay.remote())
    finally:
        token_file.unlink(missing_ok=True)
        _on_every_node(_sweep, seconds=SWEEP_SECONDS)


def blind_nodes(home: Home) -> list[str]:
    """The addresses of the nodes that do not see the driver's files where they lie."""
    if home.relay is None:
        return []
    answers = _on_every_node(_sees, home, seconds=PROBE_SECONDS)
    return sorted(address for address, sees in answers.items() if not sees)


def node_folder() -> Path:
    """This node's own folder for the driver's session, under the system's temporary folder.

    Raises ClusterError where another user has taken its place.
    """
    import ray

    context = ray.get_runtime_context()
    above = Path(tempfile.gettempdir()) / f"selftrain-{os.getuid()}"
    above.mkdir(mode=0o700, exist_ok=True)
    if above.stat().st_uid != os.getuid():
        raise ClusterError(f"{above}: belongs to another user; set TMPDIR on the nodes")
    folder = above / f"{context.get_job_id()}-{context.get_node_id()[:16]}"
    if not folder.exists():
        _remove_stale(above)
        folder.mkdir(exist_ok=True)
    return folder


def _remove_stale(above: Path) -> None:
    """Remove the folders of sessions that ended long ago without removing them."""
    for folder in above.iterdir():
        try:
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # another process was faster
            continue


def _on_every_node(work: Any, *arguments: Any, seconds: float) -> dict[str, Any]:
    """What `work` answers on each living node, by the node's address.

    A node that does not answer within `seconds`, or is lost meanwhile, is left out.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(work)
    asked = {
        remote.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(*arguments): node["NodeManagerAddress"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    answers = {}
    for reference in done:
        try:
            answers[asked[reference]] = ray.get(reference)
        except ray.exceptions.RayError:
            continue
    return answers


def _sees(home: Home) -> bool:
    return home.here


def _sweep() -> None:
    shutil.rmtree(node_folder(), ignore_errors=True)
