"""The report in a real browser: skipped only where there is no Chromium."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.preparation.corrections import NONE_OF_THEM, class_reader, read_corrections
from pipeline.report.galleries import Gallery
from pipeline.report.page import render_report
from tests.report.example import example_report
from tests.report.pictures import make_pictures
from tests.tiny import CLASSES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
]
SECONDS = 60_000  # milliseconds that a busy machine may need


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> list[Gallery]:
    return make_pictures(tmp_path_factory.mktemp("pictures")).galleries


@pytest.fixture(scope="module")
def page_file(galleries: list[Gallery], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("page"), CLASSES, galleries)


def written(folder: Path, classes: tuple[str, ...], galleries: list[Gallery]) -> Path:
    data = example_report(classes, skills=(5.0, 6.0, 6.5))
    path = folder / "index.html"
    path.write_text(render_report(replace(data, galleries=tuple(galleries))), encoding="utf-8")
    return path


class Opened:
    """A page, what it asked of the network and what it complained of."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS)
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(path.as_uri())

    def close(self) -> None:
        own = [url for url in self.asked if not url.startswith(("data:", "blob:"))]
        self.context.close()
        assert len(own) == 1, own
        assert self.wrong == []


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (320, "dark")]
)
def test_it_fits_the_screen_and_can_be_read(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    opened = Opened(
        browser, page_file, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert opened.page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    faint = opened.page.evaluate(CONTRASTS)
    assert faint == []
    opened.close()


def test_probabilities_show_on_hover_and_on_focus_and_go_on_escape(
    browser: Any, page_file: Path
) -> None:
    opened = Opened(browser, page_file, viewport={"width": 900, "height": 700})
    page = opened.page
    shot = page.locator(".shot").first
    tip = page.locator(".tip").first
    assert not tip.is_visible()
    shot.hover()
    assert tip.is_visible()
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.mouse.move(0, 0)
    shot.scroll_into_view_if_needed()
    page.locator(".scroll").last.focus()
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
    shot.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert tip.is_visible()
    described = shot.get_attribute("aria-describedby")
    assert page.locator(f"#{described}").inner_text() == tip.inner_text()
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 900
    opened.close()


def test_labels_given_by_keyboard_and_mouse_are_saved_as_the_pipeline_reads_them(
    browser: Any, page_file: Path, galleries: list[Gallery], tmp_path: Path
) -> None:
    opened = Opened(browser, page_file, accept_downloads=True)
    page = opened.page
    assert not page.locator(".tray").is_visible()
    page.locator(".shot").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#choose").is_visible()
    page.keyboard.press("3")
    page.get_by_role("button", name="Not any of these").click()
    page.keyboard.press("ArrowRight")
    page.locator("#choose-classes").get_by_role("button", name=CLASSES[1]).click()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="No answer").click()
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    assert not page.locator("#choose").is_visible()
    assert page.locator("#count").inner_text() == "3 images labelled by you"
    assert page.locator("[data-chosen]").count() >= 3
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrections.csv").click()
    assert download.value.suggested_filename == "corrections.csv"
    download.value.save_as(tmp_path / "corrections.csv")
    ids = [image.id for image in galleries[0].images]
    assert read_corrections(tmp_path / "corrections.csv", class_reader(CLASSES)) == {
        ids[0]: 2,
        ids[1]: NONE_OF_THEM,
        ids[4]: 0,
    }
    opened.close()


def test_strange_ids_and_many_classes_come_through(
    browser: Any, galleries: list[Gallery], tmp_path: Path
) -> None:
    classes = tuple(f'class "{number}", <b>' for number in range(30))
    strange = ['=a,"b"', "</script><script>alert(1)</script>", "line\nbreak", "ünï – 画"]
    images = tuple(
        replace(image, id=name, probabilities=((classes[3], 0.9), (classes[1], 0.1)))
        for image, name in zip(galleries[0].images, strange, strict=False)
    )
    path = written(tmp_path, classes, [replace(galleries[0], images=images)])
    opened = Opened(browser, path, accept_downloads=True)
    page = opened.page
    page.locator(".shot").first.click()
    assert page.locator("#choose-classes button").count() == 2
    page.keyboard.press("2")
    field = page.get_by_label("Another class")
    field.fill("no such class")
    field.press("Enter")
    assert page.locator("#choose-title").inner_text() == "What is it? (2 of 4)"
    field.fill(classes[29])
    field.press("Enter")
    page.keyboard.press("1")
    page.keyboard.press("Delete")
    assert not page.locator("#choose").is_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrections.csv").click()
    download.value.save_as(tmp_path / "corrections.csv")
    with (tmp_path / "corrections.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["id", "label"],
        [f"'{strange[0]}", classes[1]],
        [strange[1], classes[29]],
        [strange[2], classes[3]],
        [strange[3], ""],
    ]
    opened.close()


def test_a_screen_reader_finds_its_way(browser: Any, page_file: Path) -> None:
    opened = Opened(browser, page_file)
    page = opened.page
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    levels = [
        int(tag[1])
        for tag in page.eval_on_selector_all(
            "h1, h2, h3", "all => all.filter(e => !e.closest('dialog')).map(e => e.tagName)"
        )
    ]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for button in page.locator("button:visible").all()[:10]:
        assert button.inner_text() or button.locator("img").get_attribute("alt")
    assert page.locator("img:not([alt])").count() == 0
    opened.close()


# Texts of a contrast under WCAG's 4.5 to 1 with the nearest background that is not transparent.
CONTRASTS = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("h1,h2,h3,p,td,th,dt,dd,strong,caption,.cap")) {
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (element.innerText && ratio < 4.5) faint.push([element.innerText.slice(0, 30), ratio]);
  }
  return faint;
}"""
