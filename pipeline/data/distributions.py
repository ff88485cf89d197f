"""How distributions over classes are stored: all classes of few, the likeliest of many.

Of more than MOST_WHOLE classes the TOP likeliest are kept, and the mass of the rest, which is
shared equally among the others when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import DataError

Floats = NDArray[np.float32]
Column = Literal["log_probs", "probabilities"]  # of a table, its values as logarithms or not

MOST_WHOLE = 256
TOP = 32
CLASSES = "classes"
REST = {"log_probs": "log_rest", "probabilities": "rest"}  # the column of the mass of the rest


@dataclass(frozen=True)
class Distributions:
    """n distributions over `num_classes` classes, as probabilities or their logarithms.

    values: (n, k) float32, of all classes in order, or of those that `classes` (n, k) int32 names,
    the likeliest first; others: (n,) float32, the value of each class that is not named.
    """

    num_classes: int
    values: Floats
    classes: NDArray[np.int32] | None = None
    others: Floats | None = None

    def dense(self) -> Floats:
        """The value of every class: (n, K) float32."""
        if self.classes is None or self.others is None:
            return self.values
        whole = np.repeat(self.others[:, None], self.num_classes, axis=1)
        np.put_along_axis(whole, self.classes, self.values, axis=1)
        return whole

    @property
    def labels(self) -> NDArray[np.int32]:
        """The likeliest class of each: (n,)."""
        places = self.values.argmax(axis=1)
        if self.classes is not None:
            places = np.take_along_axis(self.classes, places[:, None], axis=1)[:, 0]
        return np.asarray(places, np.int32)


def as_stored(log_probs: Floats) -> Distributions:
    """Log-probabilities (n, K) in the precision, and of the classes, that storage keeps."""
    num_classes = log_probs.shape[1]
    values = _halved(log_probs)  # first: of classes that are then equal the first is the likeliest
    if num_classes <= MOST_WHOLE:
        return Distributions(num_classes, values)
    order = np.argsort(-values, axis=1, kind="stable")
    rest = np.take_along_axis(log_probs, order[:, TOP:], axis=1)
    log_rest = _halved(np.logaddexp.reduce(rest, axis=1))
    order = order[:, :TOP]
    return Distributions(
        num_classes,
        np.take_along_axis(values, order, axis=1),
        order.astype(np.int32),
        _shared(log_rest, num_classes, "log_probs"),
    )


def distribution_columns(distributions: Distributions, column: Column) -> dict[str, Any]:
    """The columns of a table that hold distributions; read back by `read_distributions`."""
    columns: dict[str, Any] = {column: list_column(distributions.values.astype(np.float16))}
    if distributions.classes is not None and distributions.others is not None:
        others, count = distributions.others, distributions.num_classes - TOP
        logs = column == "log_probs"
        rest = others + np.float32(np.log(count)) if logs else others * np.float32(count)
        columns[CLASSES] = list_column(distributions.classes)
        columns[REST[column]] = pa.array(rest.astype(np.float16))
    return columns


def distribution_fields(num_classes: int, column: Column) -> list[Any]:
    """The Arrow fields of such columns."""
    if num_classes <= MOST_WHOLE:
        return [pa.field(column, pa.list_(pa.float16(), num_classes), nullable=False)]
    return [
        pa.field(column, pa.list_(pa.float16(), TOP), nullable=False),
        pa.field(CLASSES, pa.list_(pa.int32(), TOP), nullable=False),
        pa.field(REST[column], pa.float16(), nullable=False),
    ]


def read_distributions(
    table: Any, num_classes: int, column: Column, source: object
) -> Distributions:
    """Distributions of a table whose schema was checked; DataError names `source`."""
    values = list_values(table.column(column)).astype(np.float32)
    if num_classes <= MOST_WHOLE:
        return Distributions(num_classes, values)
    classes = list_values(table.column(CLASSES))
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise DataError(f"{source}: {CLASSES!r} must be 0 to {num_classes - 1} in every row")
    rest = table.column(REST[column]).to_numpy().astype(np.float32)
    return Distributions(num_classes, values, classes, _shared(rest, num_classes, column))


def stored_confidences(log_confidences: NDArray[Any]) -> Floats:
    """Confidences (n,) as stored log-probabilities say them; above 1, by rounding, is 1."""
    halves = np.minimum(log_confidences.astype(np.float16), np.float16(0))
    return np.exp(halves.astype(np.float32))


def sharpened(log_probs: Distributions, temperature: float) -> Distributions:
    """Log-probabilities as probabilities to the power 1 / temperature, each row again of sum 1."""
    values = np.exp(log_probs.values)
    if log_probs.others is None:
        return Distributions(log_probs.num_classes, sharpen(values, temperature))
    whole = np.concatenate([values, np.exp(log_probs.others)[:, None]], axis=1)
    classes = np.ones(whole.shape[1], np.float32)
    classes[-1] = log_probs.num_classes - values.shape[1]
    whole = sharpen(whole, temperature, classes)
    return Distributions(log_probs.num_classes, whole[:, :-1], log_probs.classes, whole[:, -1])


def sharpen(
    probabilities: NDArray[np.float32],
    temperature: float,
    classes: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(N, K) probabilities to the power 1 / temperature, each row again of sum 1.

    classes: (K,) the number of classes that a column stands for, None for one each.
    """
    relative = probabilities / probabilities.max(axis=1, keepdims=True)  # no row underflows whole
    powered = relative if temperature == 1 else np.power(relative, np.float32(1 / temperature))
    sums = powered if classes is None else powered * classes
    result: NDArray[np.float32] = powered / sums.sum(axis=1, keepdims=True)
    return result


def _shared(rest: Floats, num_classes: int, column: Column) -> Floats:
    """The value of each of the classes that share the mass `rest` (n,)."""
    count = num_classes - TOP
    return rest - np.float32(np.log(count)) if column == "log_probs" else rest / np.float32(count)


def _halved(values: NDArray[Any]) -> Floats:
    """Rounded to float16, as float32."""
    return np.asarray(values).astype(np.float16).astype(np.float32)


def list_column(values: NDArray[Any]) -> Any:
    """(n, k) as a column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def list_values(column: Any) -> NDArray[Any]:
    """A column of fixed-size lists as (n, k)."""
    flat: NDArray[Any] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), column.type.list_size)


def shown_columns(log_probs: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """Of distributions (N, K) the columns that a user reads: the likeliest class, its probability,
    and those of all."""
    table = np.exp(log_probs).reshape(len(log_probs), len(classes))
    best = table.argmax(1)
    columns = {
        "label": pa.array(np.array(classes, object)[best], pa.string()),
        "confidence": pa.array(table[np.arange(len(table)), best], pa.float32()),
    }
    for place, name in enumerate(classes):
        columns[f"probability_{name}"] = pa.array(table[:, place], pa.float32())
    return columns
