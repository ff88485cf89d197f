"""Folders and Parquet files that do not fit; the names are the rows of docs/errors.md."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.data.sources import Row, open_source
from pipeline.data.sources.loose import LooseImages
from tests.bad_input.outcome import (
    Case,
    Outcome,
    folder_source,
    images,
    prepare_coco,
    prepare_folder,
    prepare_table,
    stops,
    table_of,
    without_privileges,
)
from tests.data.helpers import encoded, noise
from tests.data.sources.hostile_parquet import expanding

ROWS = [Row(f"r{n}", encoded(noise(n)), n % 2 if n < 20 else None, None) for n in range(24)]
BROKEN_TEXT = pa.Array.from_buffers(
    pa.string(),
    24,
    [None, pa.array(range(25), pa.int32()).buffers()[1], pa.py_buffer(b"\xff" * 24)],
)


def changed(change: Callable[[Path], object], **options: Any) -> Case:
    """A case of the small source with one change."""

    def case(root: Path) -> Outcome:
        change(folder_source(root))
        return prepare_folder(root, **options)

    return case


def table(change: Callable[[dict[str, Any]], object], **options: Any) -> Case:
    """A case of a Parquet file with one change of its columns."""

    def case(root: Path) -> Outcome:
        columns = table_of(ROWS)
        change(columns)
        return prepare_table(root, columns, **options)

    return case


def row(place: int, **changes: Any) -> Case:
    """A case of a Parquet file with one changed row."""

    def case(root: Path) -> Outcome:
        rows = list(ROWS)
        rows[place] = dataclasses.replace(rows[place], **changes)
        return prepare_table(root, table_of(rows))

    return case


def coco(change: Callable[[dict[str, Any]], object], **options: Any) -> Case:
    """A case of images with annotations with one change of their file."""

    def case(root: Path) -> Outcome:
        square, names = [[1, 1, 9, 1, 9, 9]], [f"{number}.png" for number in range(24)]
        for number, name in enumerate(names):
            (root / name).write_bytes(encoded(noise(number)))
        side = len(noise(0))
        value = {
            "images": [
                {"id": number, "file_name": name, "height": side, "width": side}
                for number, name in enumerate(names)
            ],
            "annotations": [
                {"image_id": number, "category_id": 1, "segmentation": square}
                for number in range(20)
            ],
            "categories": [{"id": 1, "name": "cat"}],
        }
        change(value)
        return prepare_coco(root, value, **options)

    return case


def closed_folder(root: Path) -> Outcome:
    with without_privileges() as folder:
        folder_source(folder)
        (folder / "unlabeled" / "more").mkdir(mode=0)
        return prepare_folder(folder)


def two_columns(root: Path) -> Outcome:
    columns = table_of(ROWS)
    names = [*columns, "label"]
    return prepare_table(root, pa.table([*columns.values(), columns["label"]], names=names))


def named_classes(names: str, change: Callable[[dict[str, Any]], object] = len) -> Case:
    """A case of a Parquet file whose metadata name the classes."""

    def case(root: Path) -> Outcome:
        columns = table_of(ROWS)
        change(columns)
        return prepare_table(root, pa.table(columns).replace_schema_metadata({"classes": names}))

    return case


def files_disagree(root: Path) -> Outcome:
    import pyarrow.parquet as pq

    for name, classes in (("a", "cat|dog"), ("b", "dog|cat")):
        made = pa.table(table_of(ROWS)).replace_schema_metadata({"classes": classes})
        pq.write_table(made, root / f"{name}.parquet")
    return stops(lambda: open_source("parquet", str(root), seed=0))


def no_parquet(root: Path) -> Outcome:
    (root / "t.parquet").write_bytes(b"only text")
    return stops(lambda: open_source("parquet", str(root / "t.parquet"), seed=0))


def a_pipe(root: Path) -> Outcome:
    os.mkfifo(root / "t.parquet")
    return stops(lambda: open_source("parquet", str(root / "t.parquet"), seed=0))


def many_columns(root: Path) -> Outcome:
    (root / "t.csv").write_text("path,label" + ",x" * 5001)
    return stops(lambda: open_source("manifest", str(root / "t.csv"), seed=0))


def a_page(root: Path) -> Outcome:
    expanding(root / "t.parquet")
    return stops(lambda: list(LooseImages(str(root / "t.parquet")).rows()))


def few_of_a_class(root: Path) -> Outcome:
    for place, kind in enumerate(("cat", "dog")):
        images(root / "labeled" / kind, 3 if place else 1, 1000 * place)
        images(root / "test" / kind, 1, 1000 * place + 300)
    images(root / "unlabeled", 4, 5000)
    return prepare_folder(root, validation_fraction=0.9)


def too_few_to_test(root: Path) -> Outcome:
    for place, kind in enumerate(("cat", "dog")):
        images(root / "labeled" / kind, 1, 1000 * place)
    return prepare_folder(root)


def no_labels(columns: dict[str, Any]) -> None:
    columns["label"] = pa.array([None] * 24, pa.int32())


def without(*names: str) -> Callable[[Path], object]:
    """Removes folders of the source."""

    def change(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name)

    return change


SOURCE_CASES: dict[str, Case] = {
    "no folder of labelled images": changed(without("labeled", "validation", "test")),
    "an empty class folder": changed(lambda root: (root / "labeled" / "emu").mkdir()),
    "one class only": changed(
        without(*(f"{part}/dog" for part in ("labeled", "validation", "test")))
    ),
    "a class in test/ that is not in labeled/": changed(lambda root: (root / "test/emu").mkdir()),
    "one folder under two names, by a link": changed(
        lambda root: (root / "labeled" / "emu").symlink_to("cat")
    ),
    "classes that differ only in case": changed(
        lambda root: shutil.copytree(root / "labeled/cat", root / "labeled/Cat")
    ),
    "a folder that can't be read": closed_folder,
    "a class missing from test": changed(without("test/dog")),
    "a class missing from validation": changed(without("validation/dog")),
    "fewer images of a class than a split needs": few_of_a_class,
    "too few images for any test image": too_few_to_test,
    "a label budget over what there is": changed(lambda root: None, labels=500),
    "a label budget under one of each class": changed(
        lambda root: (
            shutil.copytree(root / "labeled/cat", root / "labeled/emu")
            and [
                path.write_bytes(encoded(noise(9000 + n)))
                for n, path in enumerate((root / "labeled/emu").iterdir())
            ]
        ),
        labels=2,
    ),
    "no unlabelled images": changed(without("unlabeled")),
    "an id that comes twice": row(1, id="r0"),
    "no Parquet file": no_parquet,
    "a Parquet file without a column it needs": table(lambda columns: columns.pop("label")),
    "a column of another type": table(lambda columns: columns.update(label=[0.5] * 24)),
    "a column twice": two_columns,
    "text in Parquet that is not UTF-8": table(lambda columns: columns.update(split=BROKEN_TEXT)),
    "a pipe or a device as the file": a_pipe,
    "folders in each other, over 100": changed(
        lambda root: (root / "labeled" / "cat" / "/".join("a" * 101)).mkdir(parents=True)
    ),
    "a table of over 5,000 columns": many_columns,
    "a page of Parquet that expands too far": a_page,
    "a label outside the classes": named_classes(
        "cat|dog", lambda columns: columns.update(label=[7] * 24)
    ),
    "a negative label": row(0, label=-2),
    "no label at all": table(no_labels),
    "classes named twice": named_classes("cat|cat"),
    "a class name that is empty or no text": named_classes('["", "dog"]'),
    "files that name different classes": files_disagree,
    "a split that is unknown": row(0, split="fold 1"),
    "a test image without a label": row(23, split="test"),
    "an id that is null": table(
        lambda columns: columns.update(id=[None, *"abcdefghijklmnopqrstuvw"])
    ),
    "an image that is null": table(
        lambda columns: columns.update(image=[None, *columns["image"][1:]]), max_bad_fraction=0.0
    ),
    "COCO's JSON with a list that is none": coco(lambda value: value.update(categories=None)),
    "an image twice in COCO's JSON": coco(
        lambda value: value["images"].append(value["images"][0] | {"id": 99})
    ),
    "an annotation that can't be drawn": coco(
        lambda value: value["annotations"][0].update(segmentation=[[1, 2]]), max_bad_fraction=0.0
    ),
}
