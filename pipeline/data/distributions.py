"""How distributions over classes are stored: all classes of few, the likeliest of many.

Of more than MOST_WHOLE classes the TOP likeliest are kept, and the mass of the rest, which is
shared equally among the others when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import DataError

Floats = NDArray[np.float32]

MOST_WHOLE = 256
TOP = 32
CLASSES = "classes"


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
    if num_classes <= MOST_WHOLE:
        return Distributions(num_classes, _halved(log_probs))
    values = _halved(log_probs)  # first: of classes that are then equal the first is the likeliest
    order = np.argsort(-values, axis=1, kind="stable")
    rest = np.take_along_axis(log_probs, order[:, TOP:], axis=1)
    log_rest = _halved(np.logaddexp.reduce(rest, axis=1))
    order = order[:, :TOP]
    return Distributions(
        num_classes,
        np.take_along_axis(values, order, axis=1),
        order.astype(np.int32),
        log_rest - _log_others(num_classes),
    )


def log_columns(log_probs: Distributions) -> dict[str, Any]:
    """The columns of a table that hold log-probabilities; read back by `read_log_columns`."""
    columns = {"log_probs": _matrix(log_probs.values)}
    if log_probs.classes is not None and log_probs.others is not None:
        columns[CLASSES] = _lists(log_probs.classes)
        log_rest = log_probs.others + _log_others(log_probs.num_classes)
        columns["log_rest"] = pa.array(log_rest.astype(np.float16))
    return columns


def probability_columns(probabilities: Distributions) -> dict[str, Any]:
    """The columns of a table that hold probabilities; read back by `read_probability_columns`."""
    columns = {"probabilities": _matrix(probabilities.values)}
    if probabilities.classes is not None and probabilities.others is not None:
        columns[CLASSES] = _lists(probabilities.classes)
        rest = probabilities.others * np.float32(probabilities.num_classes - TOP)
        columns["rest"] = pa.array(rest.astype(np.float16))
    return columns


def distribution_fields(num_classes: int, values: str, rest: str) -> list[Any]:
    """The Arrow fields of such columns: `values` "log_probs" and `rest` "log_rest", or others."""
    if num_classes <= MOST_WHOLE:
        return [_list_field(values, pa.float16(), num_classes)]
    return [
        _list_field(values, pa.float16(), TOP),
        _list_field(CLASSES, pa.int32(), TOP),
        pa.field(rest, pa.float16(), nullable=False),
    ]


def read_log_columns(table: Any, num_classes: int, source: object) -> Distributions:
    """Log-probabilities of a table whose schema was checked; DataError names `source`."""
    values = _values(table.column("log_probs"), np.float32)
    if num_classes <= MOST_WHOLE:
        return Distributions(num_classes, values)
    log_rest = table.column("log_rest").to_numpy().astype(np.float32)
    others = log_rest - _log_others(num_classes)
    return Distributions(num_classes, values, _classes(table, num_classes, source), others)


def read_probability_columns(table: Any, num_classes: int, source: object) -> Distributions:
    """Probabilities of a table whose schema was checked; DataError names `source`."""
    values = _values(table.column("probabilities"), np.float32)
    if num_classes <= MOST_WHOLE:
        return Distributions(num_classes, values)
    rest = table.column("rest").to_numpy().astype(np.float32)
    others = rest / np.float32(num_classes - TOP)
    return Distributions(num_classes, values, _classes(table, num_classes, source), others)


def _log_others(num_classes: int) -> np.float32:
    return np.float32(np.log(num_classes - TOP))


def _halved(values: NDArray[Any]) -> Floats:
    """Rounded to float16, as float32."""
    return np.asarray(values).astype(np.float16).astype(np.float32)


def _classes(table: Any, num_classes: int, source: object) -> NDArray[np.int32]:
    classes: NDArray[np.int32] = _values(table.column(CLASSES), np.int32)
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise DataError(f"{source}: {CLASSES!r} must be 0 to {num_classes - 1} in every row")
    return classes


def _list_field(name: str, kind: Any, length: int) -> Any:
    return pa.field(name, pa.list_(kind, length), nullable=False)


def _matrix(values: NDArray[Any]) -> Any:
    """(n, k) as a column of fixed-size lists of float16."""
    return _lists(values.astype(np.float16))


def _lists(values: NDArray[Any]) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _values(column: Any, kind: Any) -> NDArray[Any]:
    """A column of fixed-size lists as (n, k)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=kind).reshape(len(column), column.type.list_size)
