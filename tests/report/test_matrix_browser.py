"""From the confusion matrix to its images and back, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.shards import read_labels
from pipeline.report.mistakes import Mistakes, find_mistakes
from pipeline.report.originals import Picture
from pipeline.report.page import render_report
from tests.report.example import example_report
from tests.report.test_browser import CONTRASTS, Opened, browser, pytestmark
from tests.report.test_mistakes import log_probs_of
from tests.tiny import CLASSES, prepared_stripes

__all__ = ["browser", "pytestmark"]
LARGE = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='600' height='300'/%3E"
NOW = "document.activeElement.id"
SHOT = "document.activeElement.dataset.id"


def write(folder: Path, classes: tuple[str, ...]) -> tuple[Path, Mistakes]:
    test = prepared_stripes(folder / "prepared", count=240, test_fraction=0.5) / "test"
    labels = np.arange(len(read_labels(test))) % len(classes)
    mistakes = find_mistakes(test, log_probs_of(labels, len(classes), 1.0), labels, classes)
    assert mistakes is not None
    data = replace(example_report(classes, skills=(2.0, 3.0)), mistakes=mistakes)
    image = mistakes.surest.images[0]
    data = replace(data, pictures={image.id: Picture(LARGE, whole=True)})
    (folder / "index.html").write_text(render_report(data), encoding="utf-8")
    return folder / "index.html", mistakes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mistakes]:
    return write(tmp_path_factory.mktemp("page"), CLASSES)


def test_the_keyboard_leads_to_a_cell_s_images_and_back(
    browser: Any, made: tuple[Path, Mistakes]
) -> None:
    path, mistakes = made
    cells = {cell.key: cell for cell in mistakes.cells}
    opened = Opened(browser, path, viewport={"width": 1000, "height": 800})
    page = opened.page
    page.locator("#where").evaluate("at => { at.tabIndex = -1; at.focus(); }")
    page.keyboard.press("Tab")
    assert page.evaluate(NOW) == "confusion-of-0-1"
    page.keyboard.press("Tab")  # the matrix is one stop
    assert "confusion-of" not in page.evaluate(NOW)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(NOW) == "confusion-of-0-2"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(NOW) in ("confusion-of-1-2", "confusion-of-1-0")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(NOW) == "confusion-of-0-1"
    assert page.locator(".pointed").inner_text() == cells["0-1"].gallery.title

    images = [image.id for image in cells["0-1"].gallery.images]
    page.keyboard.press("Enter")
    page.locator(".shot:focus").wait_for()
    assert page.evaluate(f"JSON.parse({SHOT})") == images[0]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"JSON.parse({SHOT})") == images[1]
    page.keyboard.press("Enter")
    assert page.locator("#choose").is_visible()
    assert page.locator("#choose-title").inner_text() == f"Image 2 of {len(images)}"
    assert not page.locator("#choose-answers").is_visible()  # nothing is learnt of test images
    page.keyboard.press("1")
    page.keyboard.press("Delete")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    assert not page.locator("#choose").is_visible()
    assert page.evaluate(f"JSON.parse({SHOT})") == images[0]
    page.keyboard.press("Escape")
    assert page.evaluate(NOW) == "confusion-of-0-1"
    page.keyboard.press("Enter")
    page.locator(".shot:focus").wait_for()
    page.go_back()
    page.locator("#confusion-of-0-1:focus").wait_for()
    page.locator("td a").first.focus()
    page.keyboard.press("Enter")
    page.locator(".shot:focus").wait_for()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('td') !== null")
    opened.close()


def test_the_mouse_leads_there_too(browser: Any, made: tuple[Path, Mistakes]) -> None:
    opened = Opened(browser, made[0], viewport={"width": 1000, "height": 800})
    page = opened.page
    page.locator("#confusion-of-2-0 path").click()
    page.locator(".shot:focus").wait_for()
    assert page.locator("#confusion-2-0").is_visible()
    page.locator("#confusion-of-0-1 path").click()
    page.locator("#confusion-0-1 .shot:focus").wait_for()
    assert not page.locator("#confusion-2-0").is_visible()
    page.get_by_role("link", name="Back to the matrix").locator("visible=true").click()
    page.locator("#confusion-of-0-1:focus").wait_for()
    opened.close()


def test_cells_work_without_scripts(browser: Any, made: tuple[Path, Mistakes]) -> None:
    opened = Opened(browser, made[0], java_script_enabled=False)
    page = opened.page
    assert not page.locator("#confusion-0-1").is_visible()
    page.locator("#confusion-of-0-1 path").click()
    page.locator("#confusion-0-1").wait_for(state="visible")
    page.get_by_role("link", name="Back to the matrix").locator("visible=true").click()
    assert page.url.endswith("#confusion-of-0-1")
    opened.close()


@pytest.mark.parametrize("width", [390, 1200])
def test_the_cells_of_many_classes_can_be_pointed_at(
    browser: Any, tmp_path: Path, width: int
) -> None:
    path, mistakes = write(tmp_path, tuple(f"class {number}" for number in range(120)))
    opened = Opened(browser, path, viewport={"width": width, "height": 900})
    page = opened.page
    cell = mistakes.cells[-1]
    shape = page.locator(f"#confusion-of-{cell.key}")
    shape.scroll_into_view_if_needed()
    box = shape.bounding_box()
    assert box["width"] < 6
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator(".pointed").inner_text() == cell.gallery.title
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".shot:focus").wait_for()
    assert page.locator(f"#confusion-{cell.key}").is_visible()
    opened.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_an_image_is_opened_larger_with_what_the_models_see(
    browser: Any, made: tuple[Path, Mistakes], width: int, scheme: str
) -> None:
    opened = Opened(browser, made[0], viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = opened.page
    page.locator(".shot").first.click()
    large = page.locator("#choose-image")
    assert large.get_attribute("src") == LARGE
    assert large.evaluate("image => image.naturalWidth") == 600
    assert page.locator("#choose-crop").is_visible()
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    assert page.evaluate(CONTRASTS) == []
    page.keyboard.press("ArrowRight")  # one without
    assert not page.locator("#choose-crop").is_visible()
    src = page.locator(".shot img").nth(1).get_attribute("src")
    assert large.get_attribute("src") == src
    opened.close()


def test_tips_neither_overlap_nor_are_cut(browser: Any, made: tuple[Path, Mistakes]) -> None:
    opened = Opened(browser, made[0], viewport={"width": 1200, "height": 800})
    page = opened.page
    shots = page.locator(".shot")
    shots.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    tips = page.locator(".tip").locator("visible=true")
    assert tips.count() == 1
    box, main = tips.bounding_box(), page.locator("main").bounding_box()
    assert box["x"] >= main["x"]
    shots.nth(2).hover()
    assert tips.count() == 1
    assert page.locator(".tip").nth(2).is_visible()
    opened.close()
