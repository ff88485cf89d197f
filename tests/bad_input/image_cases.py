"""One odd image file among good ones; the names are the rows of docs/errors.md."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from pipeline.data.images import decode_stored
from tests.bad_input.outcome import (
    SIZE,
    Case,
    Outcome,
    folder_source,
    from_bytes,
    kept_unlabeled,
    one_file,
    prepare_folder,
    quarantine,
    what_became_of,
    without_privileges,
)
from tests.data.helpers import encoded, noise, photo
from tests.data.hostile_images import (
    huge_png,
    icon_of,
    jpeg_of_scans,
    tiled_tiff,
)

GREY_RAMP = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)


def file_of(name: str, data: bytes) -> Case:
    """A case of one file with these bytes."""
    return lambda root: one_file(root, name, from_bytes(data))


def moving(kind: str) -> bytes:
    frames = [photo(SIZE, SIZE), photo(SIZE, SIZE).rotate(90)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def first_frames(root: Path) -> Outcome:
    for place, kind in enumerate(("GIF", "WEBP", "PNG")):
        ended = one_file(root / kind, f"a.{kind.lower()}", from_bytes(moving(kind)))
        assert ended.kind == "used, counted", (place, kind)
    return ended


def turned(root: Path) -> Outcome:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        upright = photo(SIZE, SIZE)
        data = encoded(upright.transpose(Image.Transpose.ROTATE_90), kind, exif=exif)
        ended = one_file(root / kind, f"t.{kind.lower()}", from_bytes(data))
        stored = kept_unlabeled(root / kind)[f"unlabeled/t.{kind.lower()}"]
        gap = np.abs(decode_stored(stored)[:, :, 0].astype(int) - np.asarray(upright.convert("L")))
        assert gap.mean() < 4, kind
    return ended


def unreadable(root: Path) -> Outcome:
    with without_privileges() as folder:
        return one_file(folder, "closed.png", lambda path: path.touch(mode=0))


def not_utf8(root: Path) -> Outcome:
    folder_source(root)
    raw = os.fsencode(root / "unlabeled") + b"/\xff.png"
    with open(raw, "wb") as file:  # noqa: PTH123
        file.write(encoded(noise(77, SIZE)))
    return what_became_of(root, "unlabeled/\\xff.png")


def awkward_names(root: Path) -> Outcome:
    names = ("two words.png", "two\nlines.png", "\U0001f600.png", "quote'\".png", "=1+1.png")
    folder_source(root)
    for place, name in enumerate(names):
        (root / "unlabeled" / name).write_bytes(encoded(noise(60 + place, SIZE)))
    return {what_became_of(root, f"unlabeled/{name}") for name in names}.pop()


def too_large_a_file(root: Path) -> Outcome:
    with mock.patch("pipeline.files.LARGEST_FILE", 1 << 20):
        return one_file(root, "huge.png", lambda path: path.write_bytes(bytes((1 << 20) + 1)))


def linked(root: Path) -> Outcome:
    (root / "elsewhere.png").write_bytes(encoded(noise(9, SIZE)))
    return one_file(root, "a.png", lambda path: path.symlink_to(root / "elsewhere.png"))


def in_no_class(root: Path) -> Outcome:
    folder_source(root)
    (root / "labeled" / "stray.png").write_bytes(encoded(noise(80, SIZE)))
    return what_became_of(root, "labeled/stray.png")


def two_labels(root: Path) -> Outcome:
    folder_source(root)
    for kind in ("cat", "dog"):
        (root / "labeled" / kind / "same.png").write_bytes(encoded(noise(81, SIZE)))
    ended = prepare_folder(root)
    assert "conflicts=2" in ended.text
    found = quarantine(root)
    assert set(found) == {"labeled/cat/same.png", "labeled/dog/same.png"}
    return Outcome("quarantined", found["labeled/cat/same.png"])


def also_in_test(root: Path) -> Outcome:
    folder_source(root)
    (root / "unlabeled" / "copy.png").write_bytes((root / "test" / "cat" / "0.png").read_bytes())
    ended = prepare_folder(root)
    assert "images are left out as copies of held-out ones" in ended.text
    found = quarantine(root)["unlabeled/copy.png"]
    return Outcome("quarantined", f"{found}, duplicates_dropped")


def too_many_bad(root: Path) -> Outcome:
    folder_source(root)
    for number in range(5):
        (root / "unlabeled" / f"bad{number}.png").touch()
    return prepare_folder(root, max_bad_fraction=0.1)


IMAGE_CASES: dict[str, Case] = {
    "an empty file": file_of("a.png", b""),
    "a truncated file": file_of("a.jpg", encoded(photo(), "JPEG")[:400]),
    "text named .jpg": file_of("a.jpg", b"Dear reader, I am no picture.\n" * 20),
    "a decompression bomb": file_of("a.png", huge_png(50_000, 50_000)),
    "more pixels than data.max_pixels": file_of("a.png", huge_png(2_000, 1_000)),
    "a TIFF whose tiles are far larger than the image": file_of("a.tif", tiled_tiff(46_336)),
    "a JPEG of hundreds of scans": file_of("a.jpg", jpeg_of_scans(500)),
    "an image that takes far more memory than its size": file_of(
        "a.icns", icon_of(huge_png(16_000, 10_000))
    ),
    "a file over 512 MiB": too_large_a_file,
    "CMYK": file_of("a.jpg", encoded(photo().convert("CMYK"), "JPEG")),
    "16 bits a channel": file_of("a.png", encoded(Image.fromarray(GREY_RAMP))),
    "a palette": file_of("a.png", encoded(photo().convert("P"))),
    "transparency": file_of("a.png", encoded(photo().convert("RGBA"))),
    "1 bit": file_of("a.png", encoded(photo().convert("1"))),
    "grey": file_of("a.png", encoded(photo().convert("L"))),
    "EXIF rotation": turned,
    "an animation": first_frames,
    "1×1 pixels": file_of("a.png", encoded(photo(1, 1))),
    "20,000×10 pixels": file_of("a.png", encoded(photo(20_000, 10))),
    "spaces, line ends or emoji in a name": awkward_names,
    "a name that is not UTF-8": not_utf8,
    "a file that can't be read": unreadable,
    "a link to a file": linked,
    "a dangling link": lambda root: one_file(root, "a.png", lambda p: p.symlink_to("nowhere.png")),
    "a circular link": lambda root: one_file(root, "a.png", lambda p: p.symlink_to("a.png")),
    "a link to a folder": lambda root: one_file(root, "up", lambda path: path.symlink_to("..")),
    "a pipe, a socket or a device": lambda root: one_file(root, "a.png", os.mkfifo),
    "hidden files": file_of(".a.png", encoded(noise(10, SIZE))),
    "files of other kinds": file_of("notes.txt", b"text"),
    "an image in no class's folder": in_no_class,
    "the same image under two labels": two_labels,
    "an unlabelled image that is also a test image": also_in_test,
    "too many unusable images": too_many_bad,
}
