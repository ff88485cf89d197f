"""Pictures of the last run's report for docs/screenshots: desktop, phone, dark, an open image.

python -m benchmarks.screenshots [--page report/index.html] [--out docs/screenshots]

Needs a Chromium on this machine (Debian: apt install chromium); none is fetched.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT
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
    parser.add_argument("--page", type=Path, default=ROOT / "report" / "index.html")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        say("no chromium on this machine; no pictures")
        return
    if not given.page.is_file():
        say(f"{given.page}: not there; run dvc repro first")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    take(chromium, given.page, given.out)


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
