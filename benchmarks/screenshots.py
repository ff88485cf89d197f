"""Pictures of the last run for docs/screenshots: its report, and its runs in MLflow's interface.

python -m benchmarks.screenshots [--root .] [--out docs/screenshots] [--only report|mlflow]

Needs a Chromium on this machine (Debian: apt install chromium); none is fetched.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT
from benchmarks.screenshots_mlflow import take_mlflow
from pipeline.params import PARAMS_FILE, load_params
from pipeline.progress import say

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOTS: dict[str, tuple[dict[str, int], str, str]] = {
    "report_desktop": (DESKTOP, "light", "top"),
    "report_dark": (DESKTOP, "dark", "images"),
    "report_phone": (PHONE, "light", "images"),
    "report_choose": (PHONE, "dark", "choose"),
    "report_times": (DESKTOP, "light", "times"),
}


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="where dvc repro ran")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--only", choices=("report", "mlflow"))
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        say("no chromium on this machine; no pictures")
        return
    page = given.root / "report" / "index.html"
    if not page.is_file():
        say(f"{page}: not there; run dvc repro first")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    if given.only != "mlflow":
        take(chromium, page, given.out)
    if given.only != "report":
        uri = load_params(given.root / PARAMS_FILE).tracking.uri
        take_mlflow(chromium, given.root, uri, given.out)


def take(chromium: str, page: Path, out: Path) -> None:
    """Open the page once for each picture and save what is on the screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (viewport, scheme, where) in SHOTS.items():
            look: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme}
            context = browser.new_context(**look)
            opened = context.new_page()
            opened.goto(page.resolve().as_uri())
            SCENES[where](opened)
            opened.screenshot(path=out / f"{name}.png")
            say(f"{out / name}.png")
            context.close()
        browser.close()


def _images(page: Any) -> None:
    page.locator("#images").evaluate("element => element.scrollIntoView()")
    page.locator(".shot").nth(1).hover()


def _choose(page: Any) -> None:
    page.locator(".shot").nth(1).click()


def _times(page: Any) -> None:
    page.get_by_role("link", name="times.html").click()


SCENES: dict[str, Callable[[Any], None]] = {
    "top": lambda page: None,
    "images": _images,
    "choose": _choose,
    "times": _times,
}


if __name__ == "__main__":
    main()
