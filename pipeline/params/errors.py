"""Say in one line what is wrong with a parameter: the key, its value and what is allowed."""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipeline.addresses import without_secrets
from pipeline.errors import ParameterError
from pipeline.files import MOST_JSON, read_json

SectionType = TypeVar("SectionType", bound=BaseModel)
Kind = TypeVar("Kind")
SHOWN = 80  # characters of a value or a key


def shown_value(value: Any) -> str:
    """A value as Python writes it, shortened; never written whole, as one of a few bytes of YAML
    may stand for gigabytes."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, SHOWN, SHOWN, SHOWN
    try:
        return shortened(short.repr(value))
    except ValueError:  # an integer of more digits than Python writes
        return f"an {type(value).__name__} too long to show"


def validated(section: type[SectionType], values: dict[str, Any], where: str = "") -> SectionType:
    """`values` as `section`, whose place in the file is `where`, "" for the whole.

    Raises ParameterError, one line, for what it refuses.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ParameterError(one_line(error, section, where)) from None


def merged(base: SectionType, overrides: dict[str, Any], where: str) -> SectionType:
    """`base` with `overrides`, which stand under the key `where`; raises as `validated` does."""
    return validated(type(base), base.model_dump() | overrides, where)


def read_typed(path: Path, kind: TypeAdapter[Kind], most: int = MOST_JSON) -> Kind:
    """The JSON in `path`, at most `most` bytes, as `kind`; raises OSError, or ValueError that says
    in one line what is wrong."""
    value = read_json(path, most)
    try:
        return kind.validate_json(json.dumps(value))
    except ValidationError as error:
        raise ValueError(_problem_of(error)) from None


def _problem_of(error: ValidationError) -> str:
    """The first of the errors in `error`, as "key = value: what is allowed"."""
    first = error.errors()[0]
    key = shortened(".".join(str(part) for part in first["loc"] if part != "[key]"))
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return (
        f"{key} = {shortened(without_secrets(str(first['input'])))!r}: {message}"
        if key
        else message
    )


def shortened(text: str) -> str:
    """`text`, of a long one the beginning."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def one_line(error: ValidationError, section: type[BaseModel], where: str) -> str:
    """The first of the errors in `error`, as "key = value: what is allowed", and how many more; a
    key that is no parameter before one that is missing, which may be the same misspelt.

    `section`: what was checked; `where`: its place in the file, "" for the whole.
    """
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    parts = [str(part) for part in first["loc"] if part != "[key]"]
    key = shortened(".".join(([where] if where else []) + parts))
    given = first["input"]
    text = isinstance(given, str)
    value = shown_value(without_secrets(given)) if text else without_secrets(shown_value(given))
    if first["type"] == "extra_forbidden":
        line = f"{key} is not a parameter; {_suggestion(section, parts)}"
    elif first["type"] == "missing":
        field = _section_of(section, parts).model_fields.get(parts[-1])
        line = f"{key} is missing ({(field and description_of(field)) or 'needed'})"
    elif first["type"] == "invalid_key" or "[key]" in first["loc"]:
        line = f'{key}: keys must be quoted strings: "{shortened(parts[-1])}"'
    elif first["type"] == "value_error":
        line = first["msg"].removeprefix("Value error, ")
    else:
        message = first["msg"].removeprefix("Input ").rstrip(".")
        line = f"{key} = {value}: {message}"
    more = error.error_count() - 1
    return line + (f" (and {more} more)" if more else "")


def _section_of(section: type[BaseModel], parts: list[str]) -> type[BaseModel]:
    """The section that holds the key at the end of `parts`; others are fields, keys and places."""
    for part in parts[:-1]:
        field = section.model_fields.get(part)
        section = next(sections_in(field.annotation), section) if field else section
    return section


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in the type of a field, as in Section | None or dict[str, Section]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def _suggestion(section: type[BaseModel], parts: list[str]) -> str:
    run = section.model_fields.get("run")
    for moved in sections_in(run.annotation) if run else ():
        for name in {parts[-1], "_".join(parts[-2:])} & set(moved.model_fields):
            return f"it is run.{name}, of all generations"
    names = list(_section_of(section, parts).model_fields)
    close = difflib.get_close_matches(parts[-1], names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"


def description_of(field: FieldInfo) -> str:
    """What a field means, on one line."""
    return " ".join((field.description or "").split())
