"""Hostile variants of a file's bytes: a function of the bytes, the other files and a seed."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

WORDS = (
    *(b"-1", b"99999999999999999999", b"9" * 5000, b"null", b'"x"', b"[]", b"1e999", b"NaN"),
    *(
        b"{}",
        b"../",
        b"\0",
        b"\xff\xfe",
        b"\n",
        b",",
        b'"',
        b"[" * 5000,
        b"\xed\xa0\x80",
        b"\x1b[2J",
    ),
    *(b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"0", b"-0.0", b"1e-320"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 2**31, 2**63, 10**400, 1e308, 1e-320, -0.0, 0.5),
    *(float("nan"), float("inf"), "", "x" * 10_000, "\ud800", "../../x", "\0", "\x1b[2J\u202e"),
    *([], {}, [[]], [None], [-1, 2**70], {"": {}}, "1", "nan", [0.5] * 1000, ["a", "a"]),
)
UNWRITABLE = (
    *(ValueError, TypeError, LookupError, ArithmeticError, RecursionError),
    pa.ArrowException,
)
Place = tuple[Any, Any]  # a container and the key in it


def mutated(data: bytes, kind: str, others: Sequence[bytes], random: Random) -> bytes:
    """One variant of `data`; kind: json, yaml, safetensors, parquet or bytes; others: files."""
    structural = STRUCTURAL.get(kind)
    if structural is not None and random.random() < 0.6:
        with suppress(*UNWRITABLE):
            data = structural(data, random)
        if random.random() < 0.8:
            return data
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        data = random.choice(EDITS)(data, others, random)
    return data


def _flip(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = _place(data, random)
    return (
        data[:at] + bytes(b ^ 1 << random.randrange(8) for b in data[at : at + 1]) + data[at + 1 :]
    )


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: _place(data, random)]


def _drop(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = _place(data, random)
    return data[:at] + data[at + random.choice((1, 2, 8, 100)) :]


def _double(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = sorted((_place(data, random), _place(data, random)))
    return data[:end] + data[start:end] * random.choice((1, 1, 1, 20)) + data[end:]


def _word(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at, word = _place(data, random), random.choice(WORDS)
    return data[:at] + word + data[at + random.choice((0, 1, len(word))) :]


def _number(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """A little- or big-endian number set to an extreme, or moved by a little."""
    form = random.choice("<>") + random.choice("BHIQ")
    size, at = struct.calcsize(form), _place(data, random)
    if at + size > len(data):
        return data
    most = 1 << 8 * size
    (old,) = struct.unpack_from(form, data, at)
    new = random.choice(
        (0, 1, most - 1, most // 2, most // 2 - 1, (old + 1) % most, (old - 1) % most)
    )
    return data[:at] + struct.pack(form, new) + data[at + size :]


def _splice(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(others)
    at, start = _place(data, random), _place(other, random)
    chunk = other[start : start + random.choice((4, 64, 10_000))]
    return data[:at] + chunk + data[at + random.choice((0, len(chunk))) :]


def _place(data: bytes, random: Random) -> int:
    """Headers and footers are hit more often than what lies between."""
    end = len(data)
    low, high = random.choice(((0, end), (0, end), (0, min(64, end)), (max(0, end - 200), end)))
    return random.randint(low, high)


EDITS: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    *(_flip, _flip, _cut, _drop, _double, _word, _word, _number, _number, _splice),
)


def _json(data: bytes, random: Random) -> bytes:
    value = _changed(json.loads(data), random)
    return json.dumps(value, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")


def _yaml(data: bytes, random: Random) -> bytes:
    value = _changed(YAML(typ="safe", pure=True).load(data), random)
    return json.dumps(value).encode()  # JSON is YAML, all but


def _safetensors(data: bytes, random: Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(_changed(json.loads(data[8 : 8 + size]), random)).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _parquet(data: bytes, random: Random) -> bytes:
    """A whole Parquet file of other columns, types, rows or metadata."""
    table = pq.read_table(io.BytesIO(data))
    place = random.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    rows = list(range(len(table)))
    kinds: list[Any] = [pa.string(), pa.int64(), pa.float64(), pa.binary(), pa.null(), pa.bool_()]
    metadata = {key: random.choice(WORDS) for key in (table.schema.metadata or {b"classes": b""})}
    nulls = pa.array(
        [None if random.random() < 0.3 else v for v in column.to_pylist()], column.type
    )
    text = pa.array([str(random.choice(VALUES)).encode("utf-8", "replace") for _ in rows])
    changes: list[Callable[[], Any]] = [
        lambda: table.drop_columns([name]),
        lambda: table.append_column(name, column),
        lambda: table.set_column(place, name, pa.nulls(len(table))),
        lambda: table.set_column(place, name, nulls),
        lambda: table.set_column(place, name, column.cast(random.choice(kinds), safe=False)),
        lambda: table.set_column(place, name, text.cast(column.type, safe=False)),
        lambda: table.set_column(place, name, pa.array([[v] for v in column.to_pylist()])),
        lambda: table.rename_columns(
            [random.choice(("", "x", "label", "\0")), *table.column_names[1:]]
        ),
        lambda: table.slice(0, random.choice((0, 1))),
        lambda: table.take(pa.array([random.choice(rows) for _ in rows])),
        lambda: table.replace_schema_metadata(metadata),
    ]
    out = io.BytesIO()
    pq.write_table(random.choice(changes)(), out)
    return out.getvalue()


STRUCTURAL: dict[str, Callable[[bytes, Random], bytes]] = {
    "json": _json,
    "yaml": _yaml,
    "safetensors": _safetensors,
    "parquet": _parquet,
}


def _changed(value: Any, random: Random) -> Any:
    """A JSON value with one to three of its parts replaced, removed, added, moved or nested."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places or random.random() < 0.02:
            return deepcopy(random.choice(VALUES))
        inside, key = random.choice(places)
        kind = random.choice(("replace", "replace", "replace", "remove", "add", "swap", "nest"))
        if kind == "replace":
            inside[key] = deepcopy(random.choice(VALUES))
        elif kind == "remove":
            del inside[key]
        elif kind == "add" and isinstance(inside, dict):
            inside[random.choice((f"{key}x", "", "\0", "__class__", "x" * 1000))] = deepcopy(
                inside[key]
            )
        elif kind == "add":
            copies = random.choice((1, 1, 300))
            inside[key:key] = [deepcopy(inside[key]) for _ in range(copies)]
        elif kind == "swap":
            other, there = random.choice(places)
            inside[key], other[there] = deepcopy(other[there]), deepcopy(inside[key])  # no circle
        else:
            for _ in range(random.choice((1, 1, 500))):
                inside[key] = random.choice(([inside[key]], {str(key): inside[key]}))
    return value


def _places(value: Any) -> Iterator[Place]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, (dict, list)):
            keys = list(each) if isinstance(each, dict) else list(range(len(each)))
            yield from ((each, key) for key in keys)
            waiting += [each[key] for key in keys]
