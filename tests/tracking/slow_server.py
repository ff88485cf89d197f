"""MLflow's own HTTP server over a sqlite store, in this process, that is late to answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server


class SlowServer:
    """A WSGI application that does what it is asked at once, but is late with some answers.

    The first answer to a POST of each path comes when the test is over: `late` lists the paths.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self.over = threading.Event()
        self.late: list[str] = []
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """One request."""
        answer = list(self._application(environ, start_response))
        path = str(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] == "POST" and path not in self.late:
            self.late.append(path)
            self.over.wait()
        return answer


@contextmanager
def slow_server(root: Path, patch: pytest.MonkeyPatch) -> Iterator[SlowServer]:
    """The server of the store mlflow.db under `root`, on a free port of 127.0.0.1."""
    store = f"sqlite:///{root / 'mlflow.db'}"
    patch.setenv("_MLFLOW_SERVER_FILE_STORE", store)
    patch.setenv("_MLFLOW_SERVER_REGISTRY_STORE", store)
    patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", (root / "mlartifacts").as_uri())
    from mlflow.server import app

    slow = SlowServer(app)
    server = make_server("127.0.0.1", 0, slow, threaded=True)
    slow.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield slow
    finally:
        slow.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
