"""The MLflow server that the runs go to: which it is, and its interface on this machine."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from pipeline.addresses import address_in
from pipeline.errors import ParameterError
from pipeline.files import read_json, write_json
from pipeline.progress import say
from pipeline.tracking.spool import tracking_folder

HOST = "127.0.0.1"
SQLITE = "sqlite:///"


def tracking_uri(root: Path, uri: str | None) -> str:
    """The server in use: MLFLOW_TRACKING_URI, else `uri`, else a sqlite file under `root`.

    Raises ParameterError for one that holds credentials.
    """
    chosen = address_in("MLFLOW_TRACKING_URI") or uri or f"{SQLITE}mlflow.db"
    if chosen.startswith(SQLITE):
        return SQLITE + str(root.resolve() / chosen.removeprefix(SQLITE))
    return chosen


def name_server(root: Path, uri: str | None) -> None:
    """Have the sender send everything to the server of the parameter `uri` from now on."""
    write_json(tracking_folder(root) / "server.json", {"uri": tracking_uri(root, uri)})


def named_server(root: Path) -> str:
    """The address of the server that was named last."""
    return str(read_json(tracking_folder(root) / "server.json")["uri"])


def note_experiment(root: Path, number: str) -> None:
    """Keep under which id the server has the experiment that the runs go to."""
    write_json(tracking_folder(root) / "experiment.json", {"id": number})


def runs_address(root: Path, server: str) -> str:
    """The address of the project's runs in the interface of `server`, else of the interface."""
    try:
        number = read_json(tracking_folder(root) / "experiment.json")["id"]
    except (OSError, ValueError, KeyError, TypeError):
        return server
    return f"{server.rstrip('/')}/#/experiments/{number}/runs"


def _say_addresses(root: Path, server: str, ready: str = "") -> None:
    """Say where in the interface of `server` the project's runs are, and their charts."""
    runs = runs_address(root, server) if server.startswith("http") else server
    say(f"ui: {runs}{ready}")
    if runs != server:
        say(f"ui: charts of all generations: {runs}?compareRunsMode=CHART")


def serve(root: Path, uri: str | None, port: int) -> None:
    """Become MLflow's interface, or say where the server is."""
    chosen = tracking_uri(root, uri)
    if chosen.startswith(("http://", "https://", "databricks")):
        say("ui: the runs are on a server of their own")
        _say_addresses(root, chosen)
        return
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        raise ParameterError(
            f"--port {port}: can't be used ({error}); name a free one, from 1024 to 65535"
        ) from None
    _say_addresses(root, f"http://{HOST}:{port}", " (ready in about 30 s; Ctrl-C ends it)")
    artifacts = (root.resolve() / "mlartifacts").as_uri()
    where = ["--backend-store-uri", chosen, "--default-artifact-root", artifacts]
    listening = ["--host", HOST, "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *where, *listening]
    os.execve(command[0], command, {"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ})
