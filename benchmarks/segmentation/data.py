"""Data sets with masks, laid out as `data.source: masks` reads them, with the split of a benchmark.

Which training images are labelled `data.labels` and `seed` say; nothing here depends on a seed.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.files import folder_written_whole

TEST_SEQUENCE = "Seq05VD"  # of CamVid: no frame of it is in another published split
NUCLEI_TEST = 200
CLASSES = ("background", "nucleus")


def camvid(folder: Path, out: Path) -> dict[str, int]:
    """CamVid with its sequence Seq05VD for test and the others for training; images by split.

    folder: images/, masks/, classes.txt and images.csv with name, published_split and sequence. The
    published splits share sequences, and are not used.
    """
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        splits = {
            row["name"]: "test" if row["sequence"] == TEST_SEQUENCE else "train"
            for row in csv.DictReader(file)
        }
    classes = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()

    def mask(name: str, path: Path) -> None:
        shutil.copyfile(folder / f"masks/{name}.png", path)

    return _lay_out(folder, out, splits, classes, mask)


def nuclei(folder: Path, out: Path) -> dict[str, int]:
    """Nuclei as background and nucleus, 200 images for test by the digest of their names; images by
    split.

    folder: images/ and instances/, 16 bit, 0 for the background.
    """
    names = [path.stem for path in (folder / "images").glob("*.jpg")]
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    splits = {name: "test" if place < NUCLEI_TEST else "train" for place, name in enumerate(order)}

    def mask(name: str, path: Path) -> None:
        with Image.open(folder / f"instances/{name}.png") as instances:
            Image.fromarray((np.asarray(instances) > 0).astype(np.uint8)).save(path)

    return _lay_out(folder, out, splits, CLASSES, mask)


def _lay_out(
    folder: Path,
    out: Path,
    splits: Mapping[str, str],
    classes: Sequence[str],
    write_mask: Callable[[str, Path], None],
) -> dict[str, int]:
    """Images, masks, classes.txt and a CSV of paths and splits in `out`, whole."""
    with folder_written_whole(out) as new:
        (new / "images").mkdir()
        (new / "masks").mkdir()
        for name in sorted(splits):
            shutil.copyfile(folder / f"images/{name}.jpg", new / f"images/{name}.jpg")
            write_mask(name, new / f"masks/{name}.png")
        (new / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
        with (new / "images.csv").open("w", encoding="utf-8", newline="") as file:
            rows = [(f"images/{name}.jpg", split) for name, split in sorted(splits.items())]
            csv.writer(file).writerows([("path", "split"), *rows])
    return dict(Counter(splits.values()))
