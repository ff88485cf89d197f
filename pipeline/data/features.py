"""Stored features: what a frozen body makes of each image, a shard beside each shard of images.

float16: half the bytes, and a rounding of 1 in 2,000 that no classifier notices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.distributions import list_column, list_values
from pipeline.data.shards import Manifest, check_schema, manifest_digest, read_entry, read_manifest
from pipeline.errors import DataError
from pipeline.memory import joined

Features = NDArray[np.float16]

COLUMN = "features"
PARTS = ("labeled", "unlabeled", "validation", "test")
MOST_FEATURES = 1 << 16


def features_table(ids: Sequence[str], features: NDArray[Any]) -> Any:
    """A shard of features (n, F) as a `pyarrow.Table`, stored as float16; raises DataError where
    one is too large for that."""
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(features, np.float16)
    check_finite(stored)
    column = list_column(stored)
    return pa.table({"id": pa.array(ids, pa.string()), COLUMN: column})


def check_finite(features: NDArray[Any], where: str = "features") -> None:
    """Raise DataError, with their count, where rows of features (N, F) are not finite."""
    wrong = ~np.isfinite(features).all(axis=1)
    if wrong.any():
        raise DataError(
            f"{where} of {int(wrong.sum())} of {len(features)} images are not finite, the first "
            f"that of row {int(wrong.argmax())}; embed these images again, or by another body"
        )


def features_metadata(images: Path, body: str, num_features: int) -> dict[str, Any]:
    """What the manifest of the features of the folder `images` notes; body: its digest."""
    return {"body": body, "num_features": num_features, "images": manifest_digest(images)}


def body_of(folder: Path) -> str | None:
    """The digest of the body that made the features in `folder`; None where there are none."""
    body = read_manifest(folder).metadata.get("body")
    return None if body is None else str(body)


def check_features(folder: Path, images: Path) -> Manifest:
    """The manifest of the features of the folder `images`; raises DataError where they are none.

    That is without `embed.source`, and where images have been prepared since.
    """
    manifest = read_manifest(folder)
    if manifest.metadata.get("body") is None:
        raise DataError(f"{folder}: no features; set embed.source, and run the stage embed")
    if manifest.metadata.get("images") != manifest_digest(images):
        raise DataError(f"{folder}: of other images than {images}; run the stage embed again")
    return manifest


def num_features_of(folder: Path, manifest: Manifest) -> int:
    """The width F of the features in `folder`, as their manifest says it."""
    number: Any = manifest.metadata.get("num_features")
    if type(number) is not int or not 1 <= number <= MOST_FEATURES:
        raise DataError(f"{folder}: its manifest does not say num_features; run its stage again")
    return number


def read_feature_shard(folder: Path, manifest: Manifest, number: int) -> Features:
    """The features (n, F) of one shard of `folder`, whose manifest this is; raises DataError."""
    kind = pa.list_(pa.float16(), num_features_of(folder, manifest))
    schema = pa.schema([pa.field(COLUMN, kind)])
    table = read_entry(folder, manifest.shards[number], [COLUMN])
    features: Features = list_values(check_schema(table, schema, folder).column(COLUMN))
    check_finite(features, f"{folder}: features")
    return features


class StoredFeatures:
    """The features (N, F) of all images of the folder `images`, read as their rows are asked for,
    one shard in memory; raises DataError as load_features."""

    def __init__(self, folder: Path, images: Path) -> None:
        self._folder, self._manifest = folder, check_features(folder, images)
        self._ends = np.cumsum([entry.rows for entry in self._manifest.shards])
        self._last: tuple[int, Features] | None = None

    def __len__(self) -> int:
        return self._manifest.rows

    def __getitem__(self, rows: NDArray[np.int64], /) -> Features:
        """(n, F) of rows (n,) in ascending order."""
        parts = [np.empty((0, num_features_of(self._folder, self._manifest)), np.float16)]
        shards = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(shards).tolist():
            first = self._ends[number] - self._manifest.shards[number].rows
            parts.append(self._shard(number)[rows[shards == number] - first])
        return np.concatenate(parts)

    def _shard(self, number: int) -> Features:
        if self._last is None or self._last[0] != number:
            self._last = None  # before the next one is read
            self._last = number, read_feature_shard(self._folder, self._manifest, number)
        return self._last[1]


def load_features(folder: Path, images: Path) -> Features:
    """The features (N, F) of all images of the folder `images`, in order; raises DataError."""
    manifest = check_features(folder, images)
    empty = np.empty((0, num_features_of(folder, manifest)), np.float16)
    numbers = range(len(manifest.shards))
    return joined(chain([empty], (read_feature_shard(folder, manifest, n) for n in numbers)))
