from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.sources import ColumnNames, open_source
from pipeline.data.sources.columns import missing_labels
from pipeline.data.sources.recognise import recognise
from pipeline.errors import ParameterError, SourceError
from tests.data.helpers import encoded, noise, run_prepare
from tests.data.sources.test_folder import put


def read(path: Path) -> list[tuple[str, int | None, str | None, str | None]]:
    source = open_source("manifest", str(path), seed=0)
    found = list(source.rows())
    assert len(source) == len(found)
    return [(row.id, row.label, row.split, row.problem) for row in found]


def test_a_csv_lists_all_there_is(tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png", "c.png", "unlisted.png"):
        put(tmp_path, name)
    put(
        tmp_path,
        "my.csv",
        "\ufeffpath,label,split\na.png, dog ,\nin/b.png,cat,test\nc.png,,\n".encode(),
    )
    assert open_source("manifest", str(tmp_path / "my.csv"), seed=0).classes == ["cat", "dog"]
    assert read(tmp_path / "my.csv") == [
        ("a.png", 1, None, None),
        ("in/b.png", 0, "test", None),
        ("c.png", None, None, None),
    ]


def test_what_a_folders_csv_does_not_list_is_unlabelled(tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png", "c.png"):
        put(tmp_path, name)
    put(tmp_path, "labels.csv", b"Filename,Class,extra\nin/../a.png,0,\ngone.png,1,x\n")
    put(tmp_path, "other.csv", b"when,what\n1,2\n")
    assert read(tmp_path) == [
        ("a.png", 0, None, None),
        ("gone.png", 1, None, "unreadable: No such file or directory"),
        ("c.png", None, None, None),
        ("in/b.png", None, None, None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"path,kind\na.png,1\n", "needs columns path and label"),
        (b"path,label\na.png,\n", "every label is empty"),
        (b"path,label\n,cat\n", "row 2: no path"),
        (b"path,label\n../b.png,cat\n", "row 2: path = '../b.png' lies outside"),
        (b"path,label\nin/../../b.png,cat\n", "lies outside"),
        (b"path,label\n/etc/b.png,cat\n", "lies outside"),
        (b"path,label\na\0.png,cat\n", "lies outside|can't be read"),
        (b"", "needs columns"),
        (b"path,label\n\xff\xfe,1\n", "leads to no files below .* set data.path_column"),
    ],
)
def test_a_csv_that_says_too_little_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    put(tmp_path, "my.csv", text)
    with pytest.raises(SourceError, match=message):
        read(tmp_path / "my.csv")


def test_of_three_columns_without_names_the_label_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    put(tmp_path, "b.png")
    put(tmp_path, "my.csv", b"a.png,cat,3\nb.png,dog,4\n")
    with pytest.raises(SourceError, match="'column 2', 'column 3'; name it with"):
        read(tmp_path / "my.csv")
    wanted = ColumnNames(label="column 2")
    for path in (tmp_path / "my.csv", tmp_path):
        assert open_source("manifest", str(path), seed=0, columns=wanted).classes == ["cat", "dog"]


@pytest.mark.parametrize(
    "before", ["/home/someone/pets/", "C:\\Users\\someone\\pets\\", "pets/", "../pets/"]
)
def test_folders_that_every_path_begins_with_may_be_of_another_machine(
    tmp_path: Path, before: str
) -> None:
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        put(tmp_path, f"my/{name}")
    rows = [("a/1.png", "cat"), ("b/1.png", "dog"), ("b/2.png", "dog")]
    slash = "\\" if "\\" in before else "/"
    lines = [f"{before}{name.replace('/', slash)},{label}" for name, label in rows]
    put(tmp_path, "my/labels.csv", "\n".join(["path,label", *lines]).encode())
    source = open_source("manifest", str(tmp_path / "my"), seed=0)
    assert [row.id for row in source.rows()] == [name for name, _ in rows]
    assert "which all begin with" in source.notes[0]


def labeled(*names: str, label: str = "") -> bytes:
    """A table of these files, whose labels are in turn cat and dog."""
    rows = [f"{name},{label or ('cat', 'dog')[number % 2]}" for number, name in enumerate(names)]
    return "\n".join(["id,label", *rows]).encode()


def test_names_that_lead_to_several_files_are_refused(tmp_path: Path) -> None:
    for number in range(12):
        put(tmp_path, f"images/{number}.png")
        put(tmp_path, f"masks/{number}.png")
    put(tmp_path, "labels.csv", labeled(*map(str, range(12))))
    assert recognise(str(tmp_path)) == "manifest"
    with pytest.raises(SourceError, match=r"several files .*\(images/0\.png, masks/0\.png\)"):
        read(tmp_path)


def test_a_table_of_one_split_names_no_file_of_another(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, f"test/{number}.jpg")
    put(tmp_path, "train.csv", labeled("0.jpg", "1.jpg", "2.jpg"))
    with pytest.raises(SourceError, match="leads to no files"):
        read(tmp_path)
    for number in range(2):
        put(tmp_path, f"train/{number}.jpg")
    rows = read(tmp_path)
    assert [row[0] for row in rows if row[1] is not None] == ["train/0.jpg", "train/1.jpg", "2.jpg"]


def test_folders_above_the_files_may_say_the_split(tmp_path: Path) -> None:
    names = ["train/0.jpg", "train/1.jpg", "test/0.jpg", "other/3.jpg"]
    for name in names:
        put(tmp_path, name)
    put(tmp_path, "labels.csv", labeled(*names))
    assert [row[2] for row in read(tmp_path)] == ["train", "train", "test", None]
    source = open_source("manifest", str(tmp_path), seed=0)
    assert "splits by the folders of the files: 1 test, 2 train" in source.notes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0.jpg,Fox, red\n1.jpg,Fox, grey", "row 2: has more cells than there are columns"),
        ('0.jpg,cat\n1.jpg,"dog\n2.jpg,cat', "row 3: .*a quote is not closed"),
    ],
)
def test_cells_that_run_over_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    for number in range(3):
        put(tmp_path, f"{number}.jpg")
    put(tmp_path, "labels.csv", f"path,label\n{rows}\n".encode())
    with pytest.raises(SourceError, match=message):
        read(tmp_path)


def test_names_may_differ_in_case_and_form_and_space_after_a_comma(tmp_path: Path) -> None:
    put(tmp_path, "in/caf\u00e9.JPG")
    put(tmp_path, "ABC.png")
    put(tmp_path, ".more/hidden.png")
    text = 'path,label\n"cafe\u0301.jpg", "a b"\n"abc.png", "dog"\n.more/hidden.png,dog\n'
    put(tmp_path, "labels.csv", text.encode())
    assert read(tmp_path) == [
        ("in/caf\u00e9.JPG", 0, None, None),
        ("ABC.png", 1, None, None),
        (".more/hidden.png", 1, None, "a hidden or a system's file"),
    ]


def test_a_manifest_is_prepared(tmp_path: Path) -> None:
    lines = ["path,label"]
    for number in range(40):
        put(tmp_path, f"in/{number}.png", encoded(noise(number)))
        lines += [f"{number}.png,{'ab'[number % 2]}"] if number < 16 else []
    put(tmp_path, "in/labels.csv", "\n".join(lines).encode())
    counts = run_prepare(open_source("manifest", str(tmp_path / "in"), seed=0), tmp_path / "out")
    assert counts.unlabeled == 24


def table(root: Path, text: str, encoding: str = "utf-8") -> Path:
    for number in range(4):
        put(root, f"images/{number}.png")
    put(root, "labels.csv", text.encode(encoding))
    return root / "labels.csv"


def labels_of(path: Path, columns: ColumnNames | None = None) -> dict[str, str | None]:
    source = open_source("manifest", str(path), seed=0, columns=columns)
    classes = [*source.classes, None]
    return {row.id: classes[-1 if row.label is None else row.label] for row in source.rows()}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_separator_and_encoding_are_found(tmp_path: Path, separator: str, encoding: str) -> None:
    lines = ["path,label,note", "images/0.png,caf\u00e9,a", "images/1.png,dog,b"]
    path = table(tmp_path, "\r\n".join(lines).replace(",", separator), encoding)
    assert labels_of(path) == {"images/0.png": "caf\u00e9", "images/1.png": "dog"}


def test_endings_and_folders_may_be_left_off(tmp_path: Path) -> None:
    path = table(tmp_path, "id,species\n0,cat\n1,dog\n")
    assert labels_of(path, ColumnNames(label="species")) == {
        "images/0.png": "cat",
        "images/1.png": "dog",
    }
    with pytest.raises(SourceError, match=r"there are 'id', 'species'; .*data.label_column"):
        labels_of(path)
    with pytest.raises(ParameterError, match=r"data.label_column = 'kind': .*'id', 'species'"):
        labels_of(path, ColumnNames(label="kind"))


def test_path_and_label_win_and_numbers_are_no_paths(tmp_path: Path) -> None:
    path = table(tmp_path, "image,class,path,label\n0.5,x,images/0.png,cat\n1,y,images/1.png,dog\n")
    assert labels_of(path) == {"images/0.png": "cat", "images/1.png": "dog"}


@pytest.mark.parametrize("none", ["", "nan", "NULL", "-1", "none", "N/A", "unlabelled"])
def test_what_means_no_label_is_none(tmp_path: Path, none: str) -> None:
    text = f"path,label\nimages/0.png,cat\nimages/1.png,dog\nimages/2.png,{none}\n"
    assert labels_of(table(tmp_path, text))["images/2.png"] is None
    notes = open_source("manifest", str(tmp_path), seed=0).notes
    assert f"1 rows with label {none!r}: taken for no label" in notes
    assert "1 images that no row names: unlabelled (e.g. 'images/3.png')" in notes


def test_minus_one_and_none_may_be_classes(tmp_path: Path) -> None:
    assert missing_labels(["1", "-1"], Path("x")) == set()
    assert missing_labels(["none", "mild", "severe", ""], Path("x")) == {""}
    assert missing_labels(["0", "1", "-1", ""], Path("x")) == {"", "-1"}


def test_splits_and_groups_come_from_columns(tmp_path: Path) -> None:
    text = "path,label,Set,who\nimages/0.png,a,Training,p\nimages/1.png,b,val,q\n"
    path = table(tmp_path, text + "images/2.png,a,TEST,\nimages/3.png,,test,p\n")
    source = open_source("manifest", str(path), seed=0, columns=ColumnNames(group="who"))
    found = [(row.split, row.group) for row in source.rows()]
    assert found == [("train", "p"), ("validation", "q"), ("test", None), (None, "p")]
    assert "1 rows of a split have no label: used as unlabelled" in source.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,cat,dog\nimages/0.png,1,0\nimages/1.png,0,1\n", "'cat', 'dog' hold 0 and 1"),
        ("path,label\nimages/0.png,cat|dog\nimages/1.png,cat\nimages/2.png,dog", "several classes"),
        ("path,label\nimages/0.png,cat\nimages/0.png,dog\n", "is in row 2 too"),
        ("path,label,split\nimages/0.png,cat,9\nimages/1.png,dog,9\n", "must be train"),
    ],
)
def test_tables_of_other_kinds_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        labels_of(table(tmp_path, text))
