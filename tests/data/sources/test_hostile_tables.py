"""Tables that would cost gigabytes: refused in one line, or read within a bound."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.predictions import MOST_CLASSES
from pipeline.data.sources import open_source, table
from pipeline.data.sources.loose import LooseImages
from pipeline.data.sources.parquet_files import BYTES_AT_ONCE, LONGEST_TEXT, row_batches
from pipeline.data.sources.rows import in_batches
from pipeline.errors import SourceError
from pipeline.files import MOST_JSON
from tests.data.helpers import file_at
from tests.data.sources import hostile_parquet as hostile
from tests.data.sources.hostile_parquet import write

READ = """\
import resource, sys
from pipeline.data.sources.loose import LooseImages
from pipeline.errors import SourceError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(sum(1 for row in LooseImages(sys.argv[1]).rows()))
except SourceError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
MIB = 700  # beside the libraries


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (hostile.repeated, "600"),
        (hostile.expanding, "a row takes over 640 MiB with the pages"),
        (hostile.nested, "a schema of 50,001 elements, over 20,000"),
        (hostile.many_chunks, "not a Parquet file ("),
        (hostile.lists, "a list of lists"),
        (hostile.contradicting, "can't be read ("),
        (hostile.twice, "not a Parquet file (field 2 behind field 2)"),
        (hostile.prefix, "column 'image' is struct<bytes: binary>, or there are two"),
        (hostile.delta, "9"),
        (hostile.a_list, "column 'image' is list"),
    ],
)
def test_parquet_takes_no_more_memory_than_a_bound(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "t.parquet")
    command = [sys.executable, "-c", READ, str(tmp_path / "t.parquet")]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    answer, peak = read.stdout.splitlines()
    assert said in answer
    assert int(peak) < MIB


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_rows_are_read_by_their_bytes(use_dictionary: bool, tmp_path: Path) -> None:
    images = [np.random.default_rng(n).bytes(1 << 20) for n in range(150)]
    path = tmp_path / "t.parquet"
    for group in (7, 150):
        columns = {"image": images, "label": [0] * 150}
        pq.write_table(pa.table(columns), path, group, use_dictionary=use_dictionary)
        batches = list(row_batches(file_at(path), ["image", "label"]))
        assert max(batch.nbytes for batch in batches) <= BYTES_AT_ONCE + (1 << 20)
        assert [image for batch in batches for image in batch["image"].to_pylist()] == images


def test_small_row_groups_are_read_together(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"] * 5000}), tmp_path / "t.parquet", row_group_size=7)
    assert len(list(row_batches(file_at(tmp_path / "t.parquet"), ["image"]))) < 5000 / 256


def test_of_images_in_a_structure_the_bytes_alone_are_read(tmp_path: Path) -> None:
    images = [{"bytes": b"1", "path": ["a"] * 9}, None]
    pq.write_table(pa.table({"image": images}), tmp_path / "t.parquet")
    assert [row.image for row in LooseImages(str(tmp_path / "t.parquet")).rows()] == [b"1", b""]
    batch = next(row_batches(file_at(tmp_path / "t.parquet"), ["image"]))
    assert batch.schema.field("image").type.num_fields == 1


@pytest.mark.parametrize("column", ["id", "label", "group", "split"])
def test_a_long_text_is_refused(column: str, tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2"], "label": ["a", "b"], column: ["x" * (LONGEST_TEXT + 1), "b"]}
    for texts in (pa.array(columns[column]), pa.array(columns[column]).dictionary_encode()):
        path = write(tmp_path / "t.parquet", columns | {column: texts})
        with pytest.raises(SourceError, match=f"column '{column}' has a text of 4,097 bytes"):
            list(open_source("parquet", str(path), seed=0).rows())


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"classes": "|".join(map(str, range(MOST_CLASSES + 1)))}, "100,001 classes in its"),
        ({"classes": "a" * (MOST_JSON + 1)}, "metadata 'classes': over 8 MiB"),
        ({"huggingface": "{" * (MOST_JSON + 1)}, "metadata 'huggingface': over 8 MiB"),
    ],
)
def test_names_of_classes_have_a_limit(metadata: dict[str, str], said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"image": [b"1"], "label": [0]}, **metadata)
    with pytest.raises(SourceError, match=said):
        open_source("parquet", str(path), seed=0)


def test_columns_have_a_limit_and_few_are_named(tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2"], "label": ["a", "b"]}
    path = write(tmp_path / "t.parquet", columns | {f"c{n}": [0, 0] for n in range(4998)})
    (note,) = open_source("parquet", str(path), seed=0).notes
    assert len(note) < 200
    path = write(tmp_path / "t.parquet", columns | {f"c{n}": [0, 0] for n in range(5000)})
    with pytest.raises(SourceError, match="5002 columns, over 5000"):
        open_source("parquet", str(path), seed=0)


def opened(path: Path, text: str) -> int:
    path.write_text(text)
    return len(open_source("manifest", str(path), seed=0))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("," * 6000, "6001 columns, over 5000"),
        ("," * 2_000_000, "a row of over 1,048,576 characters"),
        ('x,"\n"' * 300_000, "a row of over 1,048,576 characters"),
        ("x" * 200_000, "field larger than field limit"),
    ],
)
def test_a_row_has_a_limit(row: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=said):
        opened(tmp_path / "t.csv", f"path,label\n{row}\n")


def test_a_table_has_a_limit_of_rows_and_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MOST_ROWS", 1000)
    for row in ("a.png,x\n", "\n"):
        with pytest.raises(SourceError, match="over 1,000 rows"):
            opened(tmp_path / "t.csv", "path,label\n" + row * 1001)
    monkeypatch.setattr(table, "MOST_IN_MEMORY", 1 << 20)
    monkeypatch.setattr(table, "MOST_ROWS", 10**6)
    with pytest.raises(SourceError, match=": over 1 MiB in memory"):
        opened(tmp_path / "t.csv", "path,label\n" + "".join(f"{n}.png,x\n" for n in range(20_000)))


def test_the_rows_of_a_large_table_are_not_all_looked_up_where_none_leads_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.sources.manifest.ROWS_TRIED", 10)
    rows = "".join(f"{n}.png,x{n % 2}\n" for n in range(1000))
    with pytest.raises(SourceError, match="leads to no files"):
        opened(tmp_path / "t.csv", "path,label\n" + rows)
    (tmp_path / "500.png").write_bytes(b"1")
    assert opened(tmp_path / "t.csv", "path,label\n" + rows) == 1000


def test_items_are_taken_by_number_and_by_size() -> None:
    sizes = [1, 1, 1, 9, 1, 1]
    assert list(in_batches(sizes, 2, 5, int)) == [[1, 1], [1, 9], [1, 1]]
    assert list(in_batches(sizes, 9, 3, int)) == [[1, 1, 1], [9], [1, 1]]
    assert np.concatenate(list(in_batches(sizes, 4, 100, int))).tolist() == sizes


def test_the_names_of_all_classes_have_a_limit(tmp_path: Path) -> None:
    labels = [f"{number:05d}" + "é" * 100 for number in range(6000)]
    columns = {"image": [b"1"] * len(labels), "label": labels}
    path = write(tmp_path / "t.parquet", columns)
    with pytest.raises(SourceError, match=r"6,000 classes take 3,\d+,\d+ bytes, over 3 MiB"):
        open_source("parquet", str(path), seed=0)
