"""What the page shows beside its figures: images, parameters, times."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest

from pipeline.params.presets import Difference
from pipeline.report.data import ReportData
from pipeline.report.galleries import MOST_BYTES, MOST_OFFERED, MOST_SHOWN, Gallery, ShownImage
from pipeline.report.page import render_report, render_times
from pipeline.workflow.times import StageTime
from tests.report.example import example_report
from tests.report.test_page import Reader


@pytest.fixture(scope="module")
def data() -> ReportData:
    return example_report(skills=(5.0, 6.0))


def with_gallery(data: ReportData, *images: ShownImage, times: int = 1) -> ReportData:
    galleries = [Gallery(f"g{n}", f"Gallery {n}", "About it.", images) for n in range(times)]
    return replace(data, galleries=tuple(galleries))


def test_galleries_show_images_and_the_policy_lets_their_script_alone_run(data: ReportData) -> None:
    image = ShownImage("an <id>", "data:image/png;base64,AAAA", "cat 91 %", (("cat", 0.91),), "so")
    page = render_report(with_gallery(data, image))
    reader = Reader(page)
    assert reader.open == []
    assert reader.wrong == []
    assert page.count("<script") == 1
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert ("button", "data-id", r'"an \u003cid\u003e"') in reader.attributes
    assert ("img", "alt", "Image an <id>.") in reader.attributes
    assert "cat 91.0 % so" in reader.words
    described = [value for _, key, value in reader.attributes if key == "aria-describedby"]
    ids = [value for _, key, value in reader.attributes if key == "id"]
    assert set(described) <= set(ids)
    assert len(ids) == len(set(ids))


def test_names_in_galleries_are_escaped(data: ReportData) -> None:
    nasty = "</script><script>alert(1)</script>"
    image = ShownImage(nasty, "data:,", nasty, ((nasty, 1.0), ("\udcff", 0.0)), nasty)
    shown = replace(with_gallery(data, image), classes=(nasty, *data.classes[1:]))
    page = render_report(shown)
    page.encode("utf-8")
    assert page.count("<script") == 1
    assert nasty in [
        json.loads(v or "") for _, key, v in Reader(page).attributes if key == "data-id"
    ]


def test_a_page_of_the_largest_images_stays_under_three_megabytes() -> None:
    names = tuple(f"a class of a longer name {number}" for number in range(120))
    uri = "data:image/jpeg;base64," + "A" * (MOST_BYTES * 4 // 3)
    likely = tuple((name, 0.2) for name in names[:5])
    image = ShownImage("a/folder/of/some/length/and/an/image_of_it.jpg", uri, names[0], likely)
    data = example_report(names, skills=(5.0, 6.0))
    whole = replace(
        with_gallery(data, *[image] * MOST_SHOWN, times=5),
        preset="presets/digits_50.yaml",
        parameters=tuple(Difference(f"train.key_{n}", "1", "2") for n in range(80)),
    )
    offered = Gallery("offered", "Offered", "", (image,) * MOST_OFFERED)
    page = render_report(replace(whole, galleries=(*whole.galleries, offered)))
    assert 1_300_000 < len(page.encode()) < 3_000_000


def test_parameters_that_differ_are_shown(data: ReportData) -> None:
    assert "How it was made" not in Reader(render_report(data)).words
    rows = (
        Difference("train.steps", 900, None),
        Difference("select.label_kind", "hard", "soft"),
    )
    near = replace(data, preset="presets/digits_50.yaml")
    words = Reader(render_report(replace(near, parameters=rows))).words
    assert "differ from presets/digits_50.yaml, the nearest preset (2)" in words
    assert "select.label_kindhardsoft" in words
    assert "All parameters are those of presets/digits_50.yaml" in Reader(render_report(near)).words


def test_times_have_a_page_of_their_own() -> None:
    rows = [
        StageTime("prepare", 4.0, 2000, "c" * 40, "2020-01-02T03:04:05+00:00"),
        StageTime("ensemble", 2.5, 0, "none", "2020-01-02T03:05:05+00:00"),
    ]
    page = render_times(rows)
    reader = Reader(page)
    assert reader.open == []
    assert reader.wrong == []
    assert "prepare4.02,000500" in reader.words
    assert "ensemble2.5––none" in reader.words
    assert "6 s in all" in reader.words
    assert "No stage has run" in Reader(render_times([])).words
