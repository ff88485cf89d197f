"""Selection a shard at a time, by threads and by Ray, against a sort of everything."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline import progress
from pipeline.data.shards import iter_shards
from pipeline.errors import SelectionError
from pipeline.labels.audit import audit
from pipeline.labels.pseudo_label import (
    select_pseudo_labels,
)
from pipeline.labels.select import Candidates, find_cuts, select
from pipeline.labels.shard_selector import Truth
from pipeline.mapping import MapItems, in_threads
from pipeline.params import SelectParams
from pipeline.tasks.classification import TASK
from tests.labels.folders import write_labeled, write_predictions
from tests.labels.full_sort import full_sort_of

NAMES = {"threshold": "confidence_threshold", "target": "images_per_class"}


def teacher(count: int, classes: int, sureness: float, seed: int) -> NDArray[np.float32]:
    """Probabilities (N, K); the surer, the more of them are 1 in half precision."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, sureness, (count, classes))
    logits[:, 0] += sureness
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def selected(
    predictions: Path,
    out: Path,
    classes: int,
    over: MapItems | None = None,
    labeled: Path = Path("nowhere"),
    **changes: Any,
) -> tuple[list[int], list[str]]:
    """How often each image counts, and why."""
    rules = {"fraction_per_class": None} | {NAMES.get(key, key): changes[key] for key in changes}
    select_pseudo_labels(
        predictions,
        out,
        SelectParams(**rules),
        classes=[str(number) for number in range(classes)],
        labeled=labeled,
        truth=Truth.of({}, 8),
        task=TASK,
        map_items=over,
    )
    columns = ["repeats", "reason"]
    rows = [row for table in iter_shards(out, columns) for row in table.to_pylist()]
    return [row["repeats"] for row in rows], [row["reason"] for row in rows]


@settings(max_examples=20, deadline=None)
@given(
    sureness=st.sampled_from([1.0, 5.0, 40.0]),
    rows_per_shard=st.sampled_from([40, 1000]),
    threshold=st.sampled_from([0.0, 0.7, 1.0]),
    target=st.none() | st.integers(1, 200),
    max_repeats=st.integers(1, 6),
    threads=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_the_passes_keep_what_a_full_sort_keeps(
    tmp_path_factory: pytest.TempPathFactory,
    sureness: float,
    rows_per_shard: int,
    threshold: float,
    target: int | None,
    max_repeats: int,
    threads: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("passes")
    write_predictions(folder / "p", teacher(300, 4, sureness, seed), rows_per_shard=rows_per_shard)
    rules: dict[str, Any] = {"threshold": threshold, "target": target, "max_repeats": max_repeats}
    expected = full_sort_of(folder / "p", 4, **rules)
    if not any(expected[0]):
        with pytest.raises(SelectionError):
            selected(folder / "p", folder / "out", 4, in_threads(threads), **rules)
    else:
        assert selected(folder / "p", folder / "out", 4, in_threads(threads), **rules) == expected


@settings(max_examples=20, deadline=None)
@given(
    sureness=st.sampled_from([1.0, 40.0]),
    share=st.sampled_from([0.0, 0.3, 0.97]),
    threshold=st.sampled_from([0.0, 0.7]),
    target=st.none() | st.integers(1, 200),
    seed=st.integers(0, 100),
)
def test_dropped_strangers_fill_no_place_and_kept_ones_are_as_others(
    tmp_path_factory: pytest.TempPathFactory,
    sureness: float,
    share: float,
    threshold: float,
    target: int | None,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("strangers")
    strangers = np.random.default_rng(seed).random(300) < share
    values = teacher(300, 4, sureness, seed)
    write_predictions(folder / "p", values, rows_per_shard=70, strangers=strangers)
    write_predictions(folder / "unseen", values, rows_per_shard=70)
    rules: dict[str, Any] = {"threshold": threshold, "target": target, "max_repeats": 3}
    expected = full_sort_of(folder / "p", 4, strangers, **rules)
    if any(expected[0]):
        found = selected(folder / "p", folder / "drop", 4, strangers="drop", **rules)
        assert found == expected
    else:
        with pytest.raises(SelectionError):
            selected(folder / "p", folder / "drop", 4, strangers="drop", **rules)
    selected(folder / "p", folder / "keep", 4, **rules)
    selected(folder / "unseen", folder / "unseen_out", 4, strangers="drop", **rules)
    for path in (folder / "keep").iterdir():
        assert path.read_bytes() == (folder / "unseen_out" / path.name).read_bytes()


def test_a_share_of_the_classes_and_alignment_are_of_those_that_are_left(tmp_path: Path) -> None:
    values = teacher(400, 3, 2.0, 0)
    strangers = np.random.default_rng(1).random(400) < 0.4
    write_predictions(tmp_path / "p", values, rows_per_shard=90, strangers=strangers)
    names = [f"image_{place}" for place in np.flatnonzero(~strangers)]
    write_predictions(tmp_path / "left", values[~strangers], rows_per_shard=90, ids=names)
    labeled = write_labeled(tmp_path / "labeled", list("abcdefghij"), [0, 1, 2, 0, 1] * 2)
    rules: dict[str, Any] = {"fraction_per_class": 0.5, "distribution_alignment": "labeled"}
    rules["labeled"] = labeled
    repeats, reasons = selected(tmp_path / "p", tmp_path / "out", 3, strangers="drop", **rules)
    left = selected(tmp_path / "left", tmp_path / "out_left", 3, **rules)
    among = np.flatnonzero(~strangers)
    assert ([repeats[row] for row in among], [reasons[row] for row in among]) == left
    assert {reasons[row] for row in np.flatnonzero(strangers)} == {"stranger"}


def test_only_strangers_are_refused_in_one_line(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p", teacher(9, 3, 2.0, 0), strangers=np.ones(9, np.bool_))
    with pytest.raises(SelectionError, match=r"select\.strangers = drop: all 9 unlabelled images"):
        selected(tmp_path / "p", tmp_path / "out", 3, strangers="drop")


def test_where_all_are_equally_sure_the_hashes_decide(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p", [[1.0, 0.0]] * 5000, rows_per_shard=600)
    for target in (1, 2500, 4999):
        rules: dict[str, Any] = {"threshold": 0.5, "target": target, "max_repeats": 2}
        found = selected(tmp_path / "p", tmp_path / f"out{target}", 2, **rules)
        assert found == full_sort_of(tmp_path / "p", 2, **rules)
        assert sum(found[0]) == target


def test_images_of_one_id_go_by_their_place(tmp_path: Path) -> None:
    names = [f"image_{place // 50}" for place in range(200)]
    write_predictions(tmp_path / "p", [[1.0, 0.0]] * 200, rows_per_shard=30, ids=names)
    rules: dict[str, Any] = {"threshold": 0.0, "target": 77, "max_repeats": 1}
    found = selected(tmp_path / "p", tmp_path / "out", 2, **rules)
    assert found == full_sort_of(tmp_path / "p", 2, **rules)
    assert sum(found[0]) == 77


def test_of_many_classes_the_likeliest_are_stored_and_the_choice_is_the_same(
    tmp_path: Path,
) -> None:
    write_predictions(tmp_path / "p", teacher(400, 300, 4.0, 0), rows_per_shard=90)
    rules: dict[str, Any] = {"threshold": 0.2, "target": 3, "max_repeats": 3}
    found = selected(tmp_path / "p", tmp_path / "out", 300, **rules)
    assert found == full_sort_of(tmp_path / "p", 300, **rules)
    column = next(iter_shards(tmp_path / "out")).column("probabilities")
    assert column.type.list_size == 32


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p", teacher(500, 3, 3.0, 1), rows_per_shard=20)
    rules: dict[str, Any] = {"target": 60, "distribution_alignment": "uniform"}
    for threads in (1, 3):
        selected(tmp_path / "p", tmp_path / f"{threads}", 3, in_threads(threads), **rules)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()


def test_a_pass_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    write_predictions(tmp_path / "p", teacher(35, 3, 3.0, 1), rows_per_shard=15)
    selected(tmp_path / "p", tmp_path / "out", 3, in_threads(2))
    lines = capsys.readouterr().out.splitlines()
    done = [f"select: {count}/35 images" for count in (15, 30, 35)]
    assert [line.split(",")[0] for line in lines] == done * 2  # gathered, written


def test_a_selection_holds_few_bytes_of_each_image() -> None:
    count = 100_000
    rows = np.random.default_rng(0)
    candidates = Candidates(
        rows.integers(0, 10, count, dtype=np.int32),
        rows.random(count, dtype=np.float32),
        rows.integers(0, 2**63, count, dtype=np.uint64),
        np.zeros(count, np.bool_),
    )
    tracemalloc.start()
    joined = Candidates.joined([candidates])
    classes = [str(number) for number in range(10)]
    cuts = find_cuts(joined, classes, SelectParams(fraction_per_class=0.5), TASK)
    selection = select(joined, cuts)
    audit(joined, selection, np.full(count, -1, np.int32), cuts.thresholds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * count
