"""A Python that has only what some requirements bring, and nothing else that is installed here."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

START = """#!{python} -IS
import sys
sys.path.append({packages!r})
from {module} import {name}
sys.exit({name}())
"""


@dataclass(frozen=True)
class Isolated:
    """Links to the installed packages in `packages`, and commands that see only those in `bin`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, requirements: Sequence[str]) -> Isolated:
        """Link what the requirements need, and all that those need in turn."""
        for name in ("packages", "bin", "elsewhere"):
            (folder / name).mkdir()
        for distribution in needed(requirements):
            for top in top_level(distribution):
                link = folder / "packages" / top.name
                if not link.exists():
                    link.symlink_to(top)
        for command, module, name in (
            ("mlflow", "mlflow.cli", "cli"),
            ("uvicorn", "uvicorn.main", "main"),
        ):
            path = folder / "bin" / command
            packages = str(folder / "packages")
            path.write_text(
                START.format(python=sys.executable, packages=packages, module=module, name=name)
            )
            path.chmod(0o755)
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """Of a process in there: its commands first, and no word of this repository."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return {
            **kept,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder / "elsewhere"),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with only the linked packages."""
        code = f"import sys; sys.path.append({str(self.folder / 'packages')!r}); {arguments[-1]}"
        return subprocess.run(
            [sys.executable, "-IS", *arguments[:-1], code],
            cwd=self.folder / "elsewhere",
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @contextmanager
    def served(self, model: Path) -> Iterator[str]:
        """The address of `mlflow models serve` for a model folder, until the block ends."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
        log = self.folder / "server.log"
        with log.open("w") as out:
            server = subprocess.Popen(
                [*command, "--port", str(port), "--host", "127.0.0.1"],
                cwd=self.folder / "elsewhere",
                env=self.environment,
                executable=str(self.folder / "bin" / "mlflow"),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
            try:
                url = f"http://127.0.0.1:{port}"
                _wait(url, server, log)
                yield url
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGTERM)
                server.wait(30)


def needed(requirements: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """The installed distributions that the requirements come to, here and now."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop().name).lower()
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or []:
            more = Requirement(text)
            if more.marker is None or more.marker.evaluate({"extra": ""}):
                waiting.append(more)
    return list(found.values())


def top_level(distribution: importlib.metadata.Distribution) -> set[Path]:
    """The folders and files of a distribution in site-packages."""
    names = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
    paths = {Path(str(distribution.locate_file(name))) for name in names}
    return {path for path in paths if path.suffix != ".pth" and path.name != "__pycache__"}


def post(url: str, body: Any) -> tuple[int, Any]:
    """Status and JSON answer of a request for predictions."""
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-3000:])
