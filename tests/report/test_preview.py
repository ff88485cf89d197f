"""Contact sheets: which rows there are, what is in them, and that the pixels drawn are theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.augment import Draws, strong, weak
from pipeline.augment.randaugment import OPERATIONS, rand_augment
from pipeline.params import AugmentParams
from pipeline.report.contact_sheet import CELL, SheetRow, draw_sheet, save_sheet
from pipeline.report.preview import (
    choose_images,
    every_operation_rows,
    one_operation,
    preview_rows,
)
from selftrain import preview
from tests.augment.images import shares
from tests.tiny import prepared_stripes

NAMES = ["ankle boot of great length", "bag", "shirt", "coat"]


def _pixels(channels: int = 1, side: int = 16) -> torch.Tensor:
    return shares(4, channels, side, side)


def test_rows_are_what_the_parameters_do() -> None:
    images = _pixels(3)
    augment = AugmentParams(
        operations=("rotate", "solarize"), magnitude=12.0, cutout=0.3, erasing=0.4, mix="both"
    )
    rows = preview_rows(images, NAMES, augment, 5)
    names = [row.name for row in rows]
    assert names == [
        "original",
        "weak",
        *(f"strong, draw {n}" for n in (1, 2, 3, 4)),
        "mixup",
        "cutmix",
        "rotate 12",
        "solarize 12",
        "cutout 0.3",
        "erasing 0.4",
    ]
    by_name = {row.name: row.images for row in rows}
    assert torch.equal(by_name["original"], images)
    assert torch.equal(by_name["weak"], weak(images, Draws(5, 4), augment))
    expected = strong(images, Draws(7, 4), augment)
    assert torch.equal(by_name["strong, draw 2"], expected)
    changed = [not torch.equal(by_name[name], images) for name in names[1:]]
    assert all(changed)


def test_what_is_off_has_no_row() -> None:
    rows = preview_rows(_pixels(), NAMES, AugmentParams(num_ops=0), 0)
    assert [row.name for row in rows][2:] == [f"strong, draw {n}" for n in (1, 2, 3, 4)]


def test_every_operation_is_there_and_grows() -> None:
    rows = every_operation_rows(_pixels(3), 0)
    assert [row.name for row in rows][: len(OPERATIONS)] == list(OPERATIONS)
    for row in rows:
        assert len(row.images) == 7
        apart = (row.images - row.images[:1]).abs().mean(dim=(1, 2, 3))
        assert (float(apart.max()) > 0) == (row.name != "identity")
        if row.name in ("rotate", "translate_x", "scale", "brightness", "cutout", "mixup"):
            assert float(apart[-1]) > float(apart[-3])


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_operation_is_that_of_training(name: str) -> None:
    images = _pixels(3)
    augment = AugmentParams(operations=(name,), num_ops=1, magnitude=15.0)
    trained = rand_augment(images, Draws(2, 4), augment)
    both = [one_operation(images, name, torch.full((4,), sign * 0.5), 2) for sign in (1, -1)]
    for n in range(4):
        assert any(torch.allclose(side[n], trained[n], atol=1e-6) for side in both)


def test_drawn_pixels_are_the_images_enlarged() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8) * 4
    sheet = np.asarray(draw_sheet("title", [SheetRow("row", image.repeat(2, 1, 1, 1), NAMES)]))
    factor = CELL // 8
    big = np.kron(image[0, 0].numpy(), np.ones((factor, factor), np.uint8))
    found = [
        (y, x)
        for y in range(sheet.shape[0] - CELL)
        for x in range(sheet.shape[1] - CELL)
        if sheet[y, x, 0] == 0 and np.array_equal(sheet[y : y + CELL, x : x + CELL, 0], big)
    ]
    assert len(found) == 2
    assert found[0][0] == found[1][0]
    assert found[1][1] - found[0][1] >= CELL


def test_a_sheet_is_saved_as_png_or_page(tmp_path: Path) -> None:
    sheet = draw_sheet("a title", [SheetRow("row", _pixels(3, 224)[:1])])
    save_sheet(sheet, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as read:
        assert read.size == sheet.size
        assert read.width > 224  # large images stay as they are
    save_sheet(sheet, tmp_path / "a<b>.html")
    page = (tmp_path / "a<b>.html").read_text()
    assert "data:image/png;base64," in page
    assert "a&lt;b&gt;" in page


def test_images_are_chosen_class_by_class() -> None:
    labels = torch.tensor([2, 2, 0, 1, 0, 2, 1])
    assert choose_images(labels, 5).tolist() == [2, 3, 0, 4, 6]
    assert choose_images(labels, 99).tolist() == [2, 3, 0, 4, 6, 1, 5]
    assert choose_images(torch.full((4,), -1), 3).tolist() == [0, 1, 2]
    assert choose_images(labels[:0], 3).tolist() == []


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepared_stripes(tmp_path / "prepared")
    text = "data: {source: digits, image_size: 8, channels: 1}\ntrain: {steps: 1}\n"
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["preview", *arguments])
    return preview.main()


def test_the_command_writes_its_sheet(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch) == 0
    assert _run(monkeypatch, "--all", "--data", "unlabeled", "--out", "all.html") == 0
    assert (project / "preview.png").stat().st_size > 1000
    assert _run(monkeypatch, "--corruptions", "--out", "corruptions.png") == 0
    assert (project / "corruptions.png").stat().st_size > 1000
    assert (project / "all.html").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images", "0"], "--images 0: "),
        (["--out", "sheet.jpg"], "--out sheet.jpg: "),
        (["--data", "validation"], "--data validation: "),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: list[str], said: str
) -> None:
    prepared_stripes(project / "prepared", validation_fraction=0.0)
    assert _run(monkeypatch, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_line_end_in_a_class_name_is_drawn() -> None:
    row = SheetRow("original", torch.zeros(1, 3, 8, 8), ("new\nline",))
    assert draw_sheet("title", [row]).width > 80
