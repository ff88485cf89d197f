from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.data.answers.choices import with_answers
from pipeline.data.preparation.corrections import (
    MOST_CORRECTIONS,
    NONE_OF_THEM,
    class_reader,
    read_corrections,
)
from pipeline.data.preparation.prepare import PrepareCounts
from pipeline.data.shards import iter_shards
from pipeline.data.sources import Row
from pipeline.errors import SourceError
from pipeline.files import read_json
from tests.data.helpers import ListSource, encoded, labeled_rows, noise, run_prepare

CLASSES = ["cat", "dog"]
FOLDERS = ("labeled", "unlabeled", "validation", "test")


def corrections(folder: Path, text: str) -> Path:
    path = folder / "corrections.csv"
    path.write_bytes(text.encode())
    return path


def source(extra: list[Row] | None = None) -> ListSource:
    """40 labelled images of which a budget keeps 8, and 20 without a label."""
    unlabeled = [Row(f"loose_{index}", encoded(noise(100 + index))) for index in range(20)]
    tested = [
        Row(f"test_{index}", encoded(noise(200 + index)), index % 2, "test") for index in (0, 1)
    ]
    return ListSource([*labeled_rows(40, split="train"), *unlabeled, *tested, *(extra or [])])


def prepared(out: Path, text: str | None, **changes: Any) -> tuple[PrepareCounts, dict[str, Any]]:
    """The counts, and where each image went with which label."""
    out.mkdir(exist_ok=True)
    path = None if text is None else corrections(out, text)
    rows = changes.pop("source", None) or source()
    counts = run_prepare(rows, out / "prepared", labels=8, corrections=path, **changes)
    went = {
        row["id"]: (folder, row["label"])
        for folder in FOLDERS
        for table in iter_shards(out / "prepared" / folder, ["id", "label"])
        for row in table.to_pylist()
    }
    return counts, went


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    names = before.keys() | after.keys()
    return {n: after.get(n) for n in names if before.get(n) != after.get(n)}


def test_corrections_move_and_label_the_named_images_and_no_other(tmp_path: Path) -> None:
    counts, before = prepared(tmp_path / "plain", None)
    hidden = next(n for n, (folder, _) in before.items() if folder == "unlabeled" and "train" in n)
    known, label = next((n, lab) for n, (folder, lab) in before.items() if folder == "labeled")
    held = next(n for n, (folder, lab) in before.items() if folder == "validation" and lab == 0)
    text = (
        f"id,label\nloose_3,dog\n{hidden},cat\n{known},{CLASSES[1 - label]}\n{held},dog\nloose_4,\n"
    )
    corrected, after = prepared(tmp_path / "corrected", text)
    assert changed(before, after) == {
        "loose_3": ("labeled", 1),
        hidden: ("labeled", 0),
        known: ("labeled", 1 - label),
        held: ("validation", 1),
        "loose_4": None,
    }
    assert (corrected.labeled, corrected.unlabeled) == (counts.labeled + 2, counts.unlabeled - 3)
    assert (corrected.corrected, corrected.excluded, corrected.corrections_unused) == (4, 1, 0)
    assert corrected.quarantined == counts.quarantined + 1
    out = tmp_path / "corrected" / "prepared"
    assert pq.read_table(out / "quarantine.parquet").to_pylist() == [
        {"id": "loose_4", "reason": "a person: none of the classes"}
    ]
    truth = pq.read_table(out / "unlabeled_truth.parquet")["id"].to_pylist()
    assert hidden not in truth
    assert read_json(out / "dataset.json")["corrections"] == {"labeled": 4, "excluded": 1}


def test_no_corrections_change_nothing(tmp_path: Path) -> None:
    prepared(tmp_path / "plain", None)
    prepared(tmp_path / "empty", "id,label\n")
    for path in (tmp_path / "plain" / "prepared").rglob("*.*"):
        other = tmp_path / "empty" / path.relative_to(tmp_path / "plain")
        if path.name == "dataset.json":
            assert read_json(other) == read_json(path) | {
                "corrections": {"labeled": 0, "excluded": 0}
            }
        else:
            assert other.read_bytes() == path.read_bytes()


def test_what_is_tested_on_or_out_of_use_stays_and_is_counted(tmp_path: Path) -> None:
    copy = Row("copy", encoded(noise(200)))
    bad = Row("bad", b"no image")
    rows = source([copy, bad])
    _, before = prepared(tmp_path / "plain", None, source=rows)
    text = "id,label\ntest_0,dog\ncopy,dog\nbad,cat\nloose_0,cat\n"
    counts, after = prepared(tmp_path / "corrected", text, source=rows)
    assert changed(before, after) == {"loose_0": ("labeled", 0)}
    assert (counts.corrected, counts.corrections_unused) == (1, 3)


def test_an_unknown_id_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    prepared(tmp_path / "run", None)
    before = (tmp_path / "run" / "prepared" / "dataset.json").read_bytes()
    with pytest.raises(SourceError) as caught:
        prepared(tmp_path / "run", "id,label\nx4,cat\nx1,\nx2,dog\nloose_1,dog\nx3,dog\n")
    assert str(caught.value) == (
        "data.corrections: no image of the source has the id 'x1', 'x2', 'x3' (and 1 more)"
    )
    assert (tmp_path / "run" / "prepared" / "dataset.json").read_bytes() == before


def test_the_last_line_of_an_image_counts_and_files_can_be_appended(tmp_path: Path) -> None:
    text = '\ufeffid,label\r\na,cat\r\n"b, ""c""",dog\r\n\r\nid,label\r\na,\r\n'
    assert read_corrections(corrections(tmp_path, text), class_reader(CLASSES)) == {
        "a": NONE_OF_THEM,
        'b, "c"': 1,
    }


def test_a_name_that_would_be_a_formula_comes_back(tmp_path: Path) -> None:
    classes = ("=cat", "@dog")
    said = {"=1+1.png": "=cat", "-1\r=x": "@dog", "'quoted": "", "plain": "@dog"}
    text, new = with_answers(tmp_path / "none.csv", said, class_reader(classes))
    assert new == list(said)
    assert text.startswith("id,label\n'=1+1.png,'=cat\n")
    read = read_corrections(corrections(tmp_path, text), class_reader(classes))
    assert read == {"=1+1.png": 0, "-1\r=x": 1, "'quoted": -1, "plain": 1}
    by_hand = corrections(tmp_path, "id,label\n=1+1.png,=cat\n'a' b.png,@dog\n")
    assert read_corrections(by_hand, class_reader(classes)) == {"=1+1.png": 0, "'a' b.png": 1}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "line 1: must be id,label"),
        ("name,label\n", "line 1: must be id,label"),
        ("id,label\na\n", "line 2: 'a': must be an image's id and its label"),
        ("id,label\n,cat\n", "line 2: ',cat': must be an image's id and its label"),
        ("id,label\na,cat,1\n", "line 2"),
        (
            "id,label\na,cat\nb,bird\n",
            "line 3: label 'bird': no class; there are cat, dog, and an empty label for none",
        ),
        ('id,label\na,"cat\n', "not a CSV file"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_corrections(corrections(tmp_path, text), class_reader(CLASSES))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"corrections.csv: no such file; set data.corrections"):
        read_corrections(tmp_path / "corrections.csv", class_reader(CLASSES))
    path = tmp_path / "corrections.csv"
    path.write_bytes(b"id,label\n\xff\xfe,cat\n")
    with pytest.raises(SourceError, match="not a CSV file in UTF-8"):
        read_corrections(path, class_reader(CLASSES))
    path.write_text("id,label\n" + "\n" * MOST_CORRECTIONS)
    with pytest.raises(SourceError, match="larger than 24 MiB"):
        read_corrections(path, class_reader(CLASSES))


def test_a_long_list_of_classes_is_cut(tmp_path: Path) -> None:
    path = corrections(tmp_path, "id,label\na,bird\n")
    with pytest.raises(SourceError, match=r"there are c0, c1, c2, c3, c4, c5, …, and an empty"):
        read_corrections(path, class_reader([f"c{number}" for number in range(40)]))
