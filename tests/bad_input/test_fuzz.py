"""Mutations of what the readers read: an answer or one of pipeline/errors.py, nothing else.

SELFTRAIN_FUZZ_EXAMPLES sets how many; the examples are the same in every run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.data.predictions import read_predictions, read_pseudo_labels
from pipeline.data.shards import (
    MANIFEST,
    ShardEntry,
    manifest_digest,
    read_manifest,
    write_manifest,
)
from pipeline.data.sources import open_source
from pipeline.data.tensors import load_images, read_dataset
from pipeline.errors import SelftrainError
from pipeline.files import file_digest
from pipeline.labels.predict import predict_folder
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.pretrained import read_file
from pipeline.models.spec import SPEC, WEIGHTS
from pipeline.params import EvaluateParams
from pipeline.train.state import STATE
from tests.bad_input.outcome import table_of
from tests.bad_input.output_cases import RULES
from tests.bad_input.source_cases import ROWS
from tests.tiny import prepared_stripes, save_model, tiny_network
from tests.train.test_state import Run

EXAMPLES = int(os.environ.get("SELFTRAIN_FUZZ_EXAMPLES", "25"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
Edit = tuple[str, float, bytes]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "write", "text"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)
WORDS = (b"-1", b"99999999999999999999", b"null", b'"x"', b"[]", b"1e999", b"NaN", b"{}", b"../")


def mutated(data: bytes, edits: list[Edit]) -> bytes:
    """`data` with bits flipped, its end cut, bytes put in or over, or a word over a number."""
    changed = bytearray(data)
    for kind, where, value in edits:
        at = int(where * max(len(changed) - 1, 0))
        if kind == "flip" and changed:
            changed[at] ^= 1 << (value[0] % 8)
        elif kind == "cut":
            del changed[at:]
        elif kind == "insert":
            changed[at:at] = value
        elif kind == "write":
            changed[at : at + len(value)] = value
        else:
            changed[at : at + 1] = WORDS[value[0] % len(WORDS)]
    return bytes(changed)


def survives(read: Callable[[], object]) -> None:
    """`read` gives something, or raises an error that a user can meet, in one line."""
    try:
        read()
    except SelftrainError as error:
        shown = str(error)
    else:
        shown = "read"
    assert shown.isprintable()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    root = tmp_path_factory.mktemp("made")
    prepared_stripes(root / "prepared", count=40, labels=9, images_per_shard=64)
    save_model(root / "model")
    unlabeled = root / "prepared" / "unlabeled"
    predict_folder(root / "model", unlabeled, root / "predictions", EvaluateParams(threads=1))
    select_pseudo_labels(root / "predictions", root / "pseudo_labels", **RULES)
    pq.write_table(pa.table(table_of(ROWS[:8])).drop_columns("split"), root / "table.parquet")
    Run(0, 1).save(root / "state", 1)
    torch.save(tiny_network().state_dict(), root / "weights.pth")
    return root


@cache
def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def fuzzed(path: Path, edits: list[Edit], read: Callable[[], object]) -> None:
    """Read with `path` mutated, then put it back."""
    whole = bytes_of(path)
    path.write_bytes(mutated(whole, edits))
    try:
        survives(read)
    finally:
        path.write_bytes(whole)


def fuzzed_shard(folder: Path, edits: list[Edit], read: Callable[[], object]) -> None:
    """The same for a shard, its digest in the manifest made to agree."""
    path, manifest = folder / "shard_00000.parquet", bytes_of(folder / MANIFEST)
    entry, metadata = read_manifest(folder).shards[0], read_manifest(folder).metadata
    whole = bytes_of(path)
    path.write_bytes(mutated(whole, edits))
    write_manifest(folder, [ShardEntry(entry.file, entry.rows, file_digest(path))], metadata)
    try:
        survives(read)
    finally:
        path.write_bytes(whole)
        (folder / MANIFEST).write_bytes(manifest)


@FUZZ
@given(edits=EDITS)
def test_a_manifest(made: Path, edits: list[Edit]) -> None:
    folder = made / "prepared" / "unlabeled"
    fuzzed(folder / MANIFEST, edits, lambda: (manifest_digest(folder), load_images(folder)))


@FUZZ
@given(edits=EDITS)
def test_a_dataset_file(made: Path, edits: list[Edit]) -> None:
    path = made / "prepared" / "dataset.json"
    fuzzed(path, edits, lambda: read_dataset(path.parent))


@FUZZ
@given(edits=EDITS)
def test_a_shard_of_images(made: Path, edits: list[Edit]) -> None:
    folder = made / "prepared" / "unlabeled"
    fuzzed_shard(folder, edits, lambda: load_images(folder, threads=1))


@FUZZ
@given(edits=EDITS)
def test_a_shard_of_predictions(made: Path, edits: list[Edit]) -> None:
    folder = made / "predictions"
    fuzzed_shard(folder, edits, lambda: list(read_predictions(folder)))


@FUZZ
@given(edits=EDITS)
def test_a_shard_of_pseudo_labels(made: Path, edits: list[Edit]) -> None:
    folder = made / "pseudo_labels"
    fuzzed_shard(folder, edits, lambda: read_pseudo_labels(folder))


@FUZZ
@given(edits=EDITS)
def test_a_parquet_source(made: Path, edits: list[Edit]) -> None:
    path = made / "table.parquet"
    fuzzed(path, edits, lambda: list(open_source("parquet", str(path), seed=0).rows()))


@FUZZ
@given(edits=EDITS)
def test_a_models_weights(made: Path, edits: list[Edit]) -> None:
    fuzzed(made / "model" / WEIGHTS, edits, lambda: load_checkpoint(made / "model"))


@FUZZ
@given(edits=EDITS)
def test_a_training_state(made: Path, edits: list[Edit]) -> None:
    run = Run(1, 1)
    fuzzed(made / "state" / STATE, edits, lambda: run.load(made / "state"))


@FUZZ
@given(edits=EDITS)
@example(edits=[("text", 0.0, b"\x07")])
def test_a_models_description(made: Path, edits: list[Edit]) -> None:
    fuzzed(made / "model" / SPEC, edits, lambda: load_checkpoint(made / "model"))


@FUZZ
@given(edits=EDITS)
def test_foreign_weights(made: Path, edits: list[Edit]) -> None:
    path = made / "weights.pth"
    fuzzed(path, edits, lambda: read_file(path, "resnet_small"))


@FUZZ
@given(data=st.binary(max_size=300))
def test_any_bytes_as_any_file(made: Path, data: bytes) -> None:
    everything: list[Edit] = [("cut", 0.0, b"\0"), ("insert", 0.0, data)]
    fuzzed(
        made / "weights.pth", everything, lambda: read_file(made / "weights.pth", "resnet_small")
    )
    fuzzed(made / "model" / SPEC, everything, lambda: load_checkpoint(made / "model"))
    fuzzed(made / "model" / WEIGHTS, everything, lambda: load_checkpoint(made / "model"))
