"""Single images of a source, by id, whole and as a page can show them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.images import BadImageError
from pipeline.data.pictures import whole_picture
from pipeline.data.sources import ColumnNames, open_source
from pipeline.report import originals as module
from pipeline.report.originals import original_pictures, originals
from tests.data.helpers import data_params, encoded, noise, photo
from tests.data.hostile_images import huge_png, icon_of

FORM: dict[str, Any] = {"side": 64, "most_bytes": 20_000, "max_pixels": 1_000_000}


def opened(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture))
    assert image.format == "JPEG"
    return image


def write_folder(root: Path) -> Path:
    for place, name in enumerate(("cat/a.png", "dog/b b.png", "dog/ü\n<b>.png", "unlabeled/c.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(place)))
    return root


def write_table(root: Path) -> Path:
    write_folder(root)
    (root / "labels.csv").write_text("path,label\na,cat\ndog/b b.png,dog\n")
    return root


def write_parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [encoded(noise(place)) for place in range(9)]
    table = pa.table({"image": images, "label": [0, 1, 2] * 3, **columns})
    pq.write_table(table, path, row_group_size=2)
    return path


def parquet_folder(root: Path) -> Path:
    write_parquet(root / "train" / "one.parquet")
    write_parquet(root / "train" / "two.parquet")
    return root


@pytest.mark.parametrize(
    ("source", "make"),
    [
        ("folder", write_folder),
        ("manifest", write_table),
        ("manifest", lambda root: write_table(root) / "labels.csv"),
        ("parquet", parquet_folder),
        ("parquet", lambda root: write_parquet(root / "x.parquet", id=list("abcdefghi"))),
        ("parquet", lambda root: write_parquet(root / "x.parquet", id=range(9))),
    ],
)
def test_every_image_is_found_again_as_its_source_gives_it(
    tmp_path: Path, source: str, make: Any
) -> None:
    path = str(make(tmp_path / "data"))
    data = data_params(source=source, path=path)
    rows = {row.id: row.image for row in open_source(source, path, seed=0).rows()}
    assert len(rows) > 1
    assert dict(originals(data, [*rows, "none", "x.parquet:99"])) == rows
    for name, image in rows.items():
        assert list(originals(data, [name])) == [(name, image)]


def test_named_columns_hold_the_images(tmp_path: Path) -> None:
    images = [encoded(noise(place)) for place in range(2)]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"left": images, "image": images[::-1], "label": [0, 1]}), path)
    data = data_params(source="parquet", path=str(path), path_column="left")
    rows = open_source("parquet", str(path), seed=0, columns=ColumnNames(path="left")).rows()
    assert dict(originals(data, ["x.parquet:0"])) == {"x.parquet:0": next(iter(rows)).image}


def test_no_more_of_parquet_is_read_than_a_page_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parquet_folder(tmp_path / "data") / "train"
    data = data_params(source="parquet", path=str(folder))
    names = ["one.parquet:1", "two.parquet:1"]
    assert [name for name, _ in originals(data, names)] == names
    most = (folder / "one.parquet").stat().st_size
    monkeypatch.setattr(module, "MOST_READ", most)
    assert [name for name, _ in originals(data, names)] == names[:1]


@pytest.mark.parametrize("source", ["folder", "manifest", "parquet"])
def test_a_source_that_is_gone_has_no_images_and_no_error(tmp_path: Path, source: str) -> None:
    for path in (tmp_path / "gone", tmp_path / "gone.csv", tmp_path / "*.parquet", tmp_path):
        assert list(originals(data_params(source=source, path=str(path)), ["a/b.png"])) == []
    assert list(originals(data_params(), ["digit_00001"])) == []


def test_no_file_outside_the_folder_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    (tmp_path / "secret.png").write_bytes(b"secret")
    data = data_params(source="folder", path=str(tmp_path / "data"))
    names = ["../secret.png", "cat/../../secret.png", str(tmp_path / "secret.png"), "", "a\0b", "."]
    assert list(originals(data, names)) == []


def test_what_is_no_image_any_more_is_left_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    (root / "cat" / "a.png").write_bytes(icon_of(huge_png(16_000, 10_000)))
    (root / "dog" / "b b.png").write_bytes(b"text")
    (root / "unlabeled" / "c.png").unlink()
    names = ["cat/a.png", "dog/b b.png", "unlabeled/c.png", "dog/ü\n<b>.png"]
    data = data_params(source="folder", path=str(root))
    assert list(original_pictures(data, names, side=64, most_bytes=9000)) == names[-1:]


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (64, 30), (20, 9)])
def test_a_picture_is_whole_and_never_enlarged(size: tuple[int, int]) -> None:
    picture = opened(whole_picture(encoded(photo(*size), "JPEG", quality=95), **FORM))
    share = min(1, 64 / max(size))
    assert picture.size == tuple(round(share * side) for side in size)
    wanted = np.asarray(photo(*size).resize(picture.size)).astype(int)
    assert abs(np.asarray(picture).astype(int) - wanted).mean() < 6


def test_a_picture_is_upright_and_tells_no_place(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8825)[1] = "N"
    data = encoded(photo(100, 50), "JPEG", exif=exif)
    picture = whole_picture(data, **FORM)
    assert opened(picture).size == (32, 64)
    assert not opened(picture).getexif()
    assert b"maker" in data
    assert b"maker" not in picture


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_a_picture_of_any_mode_is_grey_or_coloured(mode: str) -> None:
    image = photo(100, 50)
    if mode == "I;16":
        image = Image.fromarray(np.arange(5000, dtype=np.uint16).reshape(50, 100))
    else:
        image = image.convert("RGBA").convert(mode) if mode == "LA" else image.convert(mode)
    picture = opened(whole_picture(encoded(image, "TIFF" if mode == "CMYK" else "PNG"), **FORM))
    assert picture.mode == ("L" if mode in ("1", "L", "I;16") else "RGB")


def test_a_picture_takes_no_more_than_it_may() -> None:
    worst = encoded(noise(1, 400, 3))
    sizes = []
    for most in (400_000, 60_000, 12_000):
        picture = whole_picture(worst, side=768, most_bytes=most, max_pixels=1_000_000)
        assert len(picture) <= most
        sizes.append(max(opened(picture).size))
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(BadImageError, match="over 500 bytes"):
        whole_picture(worst, side=768, most_bytes=500, max_pixels=1_000_000)
    with pytest.raises(BadImageError, match="too many pixels"):
        whole_picture(worst, side=768, most_bytes=60_000, max_pixels=10_000)
