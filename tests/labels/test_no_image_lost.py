"""From prepared images to training batches: whatever the sizes and workers, each image once."""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.predictions import read_pseudo_labels
from pipeline.data.stored_shards import missing_shards
from pipeline.labels.predict import ShardPredictor, finish_predictions
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.params import PredictParams, SelectParams
from pipeline.train.batch import batch_rows
from tests.bad_input.output_cases import RULES
from tests.tiny import TASK, prepared_stripes, save_model

EPOCHS = 2
KEEP_ALL = SelectParams(images_per_class=1000, fraction_per_class=None, max_repeats=1)


def ids_in(root: Path, folder: str) -> dict[str, int]:
    """How often each image is in a folder of shards."""
    counts = Counter[str]()
    for shard in (root / folder).glob("*.parquet"):
        counts.update(pq.read_table(shard, columns=["id"]).column("id").to_pylist())
    return dict(counts)


def predict(root: Path, shards: list[int], workers: int) -> None:
    """Predict the shards, each worker its part of them at the same time as the others."""

    def work(rank: int) -> None:
        predictor = ShardPredictor(
            models=(root / "model",),
            folder=root / "prepared" / "unlabeled",
            out=root / "predictions",
            params=PredictParams(batch_size=7, device="cpu", precision="float32"),
            seed=0,
        )
        for number in shards[rank::workers]:
            predictor(number)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    count=st.integers(30, 70),
    per_shard=st.integers(1, 50),
    workers=st.integers(1, 4),
    broken=st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=4),
    batch_size=st.integers(1, 30),
    world_size=st.integers(1, 4),
)
def test_no_combination_loses_or_doubles_an_image(
    count: int,
    per_shard: int,
    workers: int,
    broken: list[tuple[int, bool]],
    batch_size: int,
    world_size: int,
) -> None:
    """broken: shards that a killed worker has left cut, or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        save_model(root / "model")
        prepared_stripes(root / "prepared", count, labels=9, images_per_shard=per_shard)
        unlabeled, out = root / "prepared" / "unlabeled", root / "predictions"
        predict(root, missing_shards(unlabeled, out), workers)
        shards = sorted(out.glob("*.parquet"))
        for number, cut in broken:
            shard = shards[number % len(shards)]
            if cut and shard.exists():
                shard.write_bytes(shard.read_bytes()[:-9])
            else:
                shard.unlink(missing_ok=True)
        predict(root, missing_shards(unlabeled, out), workers)
        finish_predictions(unlabeled, out, 3)
        select_pseudo_labels(out, root / "pseudo_labels", **(RULES | {"params": KEEP_ALL}))
        expected = ids_in(root, "prepared/unlabeled")
        assert set(expected.values()) == {1}
        assert ids_in(root, "predictions") == expected
        assert ids_in(root, "pseudo_labels") == expected
        total = len(read_pseudo_labels(root / "pseudo_labels", TASK).targets)
    assert total == len(expected)
    steps = -(-EPOCHS * total // batch_size)
    batches = [batch_rows(step, batch_size, total, seed=3) for step in range(steps)]
    parts = [[batch[rank::world_size] for rank in range(world_size)] for batch in batches]
    assert [sorted(np.concatenate(part)) for part in parts] == [sorted(b) for b in batches]
    seen = np.concatenate(batches)[: EPOCHS * total]
    assert np.bincount(seen, minlength=total).tolist() == [EPOCHS] * total
