"""Pictures of the last run in MLflow's own interface, for docs/screenshots."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.progress import say
from pipeline.tracking.server import HOST, server_command, tracking_uri

WIDTH = 1440
START_SECONDS = 180.0
SETTLE_SECONDS = 6.0  # charts are drawn after the data have come
TIMEOUT_MS = 120_000
UNFOLD_OFFSET = -32  # pixels from a run's name to the sign that shows its children
CHILD, CLICKS = "train_teacher", 6
TRAINING = quote("tags.stage LIKE 'train%'")


@dataclass(frozen=True)
class Shot:
    """A page of the interface, the text that is there once it has loaded, and what is done then.

    press: a text to click; unfold: the run whose children are shown.
    """

    place: str
    text: str
    unfold: str | None = None
    press: str | None = None
    height: int = 900


def take_mlflow(chromium: str, root: Path, uri: str | None, out: Path) -> None:
    """Serve the runs of `root` and save each page of `shots` to `out`."""
    from playwright.sync_api import sync_playwright

    with served(root, tracking_uri(root, uri)) as address, sync_playwright() as play:
        found = shots(address)
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(color_scheme="light")
        context.route("**/*", lambda route: _only_here(route, address))
        _show_training(context, address)
        for name, shot in found.items():
            page = context.new_page()
            page.set_default_timeout(TIMEOUT_MS)
            page.set_viewport_size({"width": WIDTH, "height": shot.height})
            _open(page, f"{address}/#/{shot.place}", shot)
            page.screenshot(path=out / f"{name}.png")
            say(f"{out / name}.png")
            page.close()
        browser.close()


@contextmanager
def served(root: Path, uri: str) -> Iterator[str]:
    """MLflow's server for the store `uri`, its address; ended with the block."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    address = f"http://{HOST}:{port}"
    server = subprocess.Popen(
        server_command(root, uri, port),
        env={"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(address)
        yield address
    finally:
        server.terminate()
        server.wait()


def shots(address: str) -> dict[str, Shot]:
    """What to take, by file name, of the latest lineage on the server."""
    experiment = _post(address, "experiments/search", {"max_results": 10})["experiments"]
    known = [each["experiment_id"] for each in experiment]
    runs = _post(address, "runs/search", {"experiment_ids": known, "max_results": 500})["runs"]
    ids = {run["info"]["run_name"]: run["info"] for run in reversed(runs)}
    parent = next(run["info"] for run in runs if not _tag(run, "mlflow.parentRunId"))
    last = max((name for name in ids if name.startswith("train_student")), default="train_teacher")
    generation = last.partition("@")[2] or "0"
    models = _get(address, "registered-models/search")["registered_models"]
    page = f"experiments/{parent['experiment_id']}/runs"

    def of(name: str, more: str = "") -> str:
        return f"{page}/{ids[name]['run_id']}{more}"

    lineage = parent["run_name"]
    charts = f"{page}?compareRunsMode=CHART&searchFilter={TRAINING}"
    return {
        "mlflow_runs": Shot(page, lineage, unfold=lineage),
        "mlflow_lineage": Shot(f"{page}/{parent['run_id']}", "labelled", press="Show more"),
        "mlflow_charts": Shot(charts, lineage, unfold=lineage, height=1250),
        "mlflow_run": Shot(of(last), "learning_rate"),
        "mlflow_confusion": Shot(
            of(f"evaluate@{generation}", "/artifacts/figures/confusion.svg"), "confusion.svg"
        ),
        "mlflow_samples": Shot(
            of(last, "/artifacts/figures/samples_pseudo_labeled.png"), "samples_pseudo"
        ),
        "mlflow_model": Shot(f"models/{models[0]['name']}", "champion"),
    }


def _open(page: Any, address: str, shot: Shot) -> None:
    page.goto(address)
    page.get_by_text(shot.text).first.wait_for()
    time.sleep(SETTLE_SECONDS)
    if shot.press is not None:
        page.get_by_text(shot.press).first.click()
    if shot.unfold is not None:
        _unfold(page, shot.unfold)
    with suppress(Exception):  # the assistant covers a third of the page, where it opens itself
        page.get_by_role("button", name="Close").first.click(timeout=3000)
    time.sleep(2 * SETTLE_SECONDS)
    for place in page.get_by_text("Path: file:").all():  # of this machine, not of the run
        place.evaluate("element => { element.style.visibility = 'hidden'; }")


def _unfold(page: Any, run: str) -> None:
    """Show the children of a run; a click on rows that are still being drawn is lost."""
    for _ in range(CLICKS):
        box = page.get_by_text(run, exact=True).first.bounding_box()
        page.mouse.click(box["x"] + UNFOLD_OFFSET, box["y"] + box["height"] / 2)
        with suppress(Exception):
            page.get_by_text(CHILD).first.wait_for(timeout=10_000)
            return
    page.screenshot(path=(failed := Path(tempfile.gettempdir()) / "screenshot_failed.png"))
    sys.exit(f"the children of {run} don't appear; what is there instead: {failed}")


def _show_training(context: Any, address: str) -> None:
    """Of the interface's two halves that for training; it remembers."""
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(f"{address}/#/experiments")
    page.get_by_text("Model training", exact=True).first.click()
    time.sleep(1)
    page.close()


def _only_here(route: Any, address: str) -> None:
    """Nothing is asked of other hosts."""
    if route.request.url.startswith(address):
        route.continue_()
    else:
        route.abort()


def _wait_for(address: str) -> None:
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(1)


def _tag(run: dict[str, Any], name: str) -> str | None:
    found = [tag["value"] for tag in run["data"].get("tags", []) if tag["key"] == name]
    return str(found[0]) if found else None


def _get(address: str, what: str) -> dict[str, Any]:
    return _answer(urllib.request.Request(f"{address}/api/2.0/mlflow/{what}"))


def _post(address: str, what: str, values: dict[str, Any]) -> dict[str, Any]:
    return _answer(
        urllib.request.Request(
            f"{address}/api/2.0/mlflow/{what}",
            json.dumps(values).encode(),
            {"Content-Type": "application/json"},
        )
    )


def _answer(request: urllib.request.Request) -> dict[str, Any]:
    with urllib.request.urlopen(request, timeout=60) as answer:
        value: dict[str, Any] = json.load(answer)
        return value
