"""The MLflow server that the runs go to: which it is, and its interface on this machine.

python -m pipeline.tracking.server [--port 5000]
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from pipeline.addresses import address_in
from pipeline.errors import ParameterError, SelftrainError
from pipeline.files import read_json, write_json
from pipeline.params import PARAMS_FILE, load_params
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


def serve(root: Path, uri: str | None, port: int) -> None:
    """Become MLflow's interface, or say where the server is."""
    chosen = tracking_uri(root, uri)
    if chosen.startswith(("http://", "https://", "databricks")):
        say(f"the runs are on a server of their own: {chosen}")
        return
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        raise ParameterError(
            f"--port {port}: can't be used ({error}); name a free one, from 1024 to 65535"
        ) from None
    say(f"MLflow shows {chosen} on http://{HOST}:{port} (ready in about 30 s; Ctrl-C ends it)")
    artifacts = (root.resolve() / "mlartifacts").as_uri()
    where = ["--backend-store-uri", chosen, "--default-artifact-root", artifacts]
    address = ["--host", HOST, "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *where, *address]
    os.execve(command[0], command, {"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ})


def main() -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Browse the runs in MLflow.")
    parser.add_argument("--port", type=int, default=5000, help="on 127.0.0.1")
    options = parser.parse_args()
    try:
        uri = load_params(PARAMS_FILE).tracking.uri if PARAMS_FILE.exists() else None
        serve(Path(), uri, options.port)
    except SelftrainError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
