"""Say in one line what is wrong with a parameter: the key, its value and what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

IN_RUN = {
    "predict.actors": "actors",
    "predict.gpus_per_actor": "gpus_per_actor",
    "select.workers": "select_workers",
    "select.threads": "select_threads",
    "train.checkpoint_minutes": "checkpoint_minutes",
}  # what a section may be thought to have, and its name under `run`


def problem_of(error: ValidationError) -> str:
    """The first of the errors in `error`, as "key = value: what is allowed"."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Input ")
    return f"{key} = {str(first['input'])[:80]!r}: {message}" if key else message


def one_line(error: ValidationError, section: type[BaseModel], where: str) -> str:
    """The first of the errors in `error`, as "key = value: what is allowed", and how many more.

    `section`: what was checked; `where`: its place in the file, "" for the whole.
    """
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if part != "[key]"]
    key = ".".join(([where] if where else []) + parts)
    value = repr(first["input"])
    value = value if len(value) <= 80 else f"{value[:77]}..."
    if first["type"] == "extra_forbidden":
        line = f"{key} is not a parameter{_suggestion(section, key, parts)}"
    elif first["type"] == "missing":
        line = f"{key} is missing ({_description(section, parts)})"
    elif first["type"] == "invalid_key" or "[key]" in first["loc"]:
        line = f'{key}: keys must be quoted strings: "{parts[-1]}"'
    elif first["type"] == "value_error":
        line = first["msg"].removeprefix("Value error, ")
    else:
        message = first["msg"].removeprefix("Input ").rstrip(".")
        line = f"{key} = {value}: {message}"
    more = error.error_count() - 1
    return line + (f" (and {more} more)" if more else "")


def _section_of(section: type[BaseModel], parts: list[str]) -> type[BaseModel]:
    """The section that holds the key at the end of `parts`."""
    holder: Any = section
    for part in parts[:-1]:
        if _is_section(holder):
            field = holder.model_fields.get(part)
            holder = section_in(field.annotation) or field.annotation if field else holder
        else:  # a dictionary or list of sections
            holder = _inner_section(holder)
    return holder if _is_section(holder) else section


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field of this type holds, alone or beside null; None for other types."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if _is_section(kind)]
    return kinds[0] if kinds and get_origin(annotation) is not dict else None


def _inner_section(annotation: Any) -> Any:
    """The section in `dict[str, Section]`, `tuple[Section, ...] | None` and the like, or None."""
    for argument in get_args(annotation):
        found = argument if _is_section(argument) else _inner_section(argument)
        if found is not None:
            return found
    return None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _suggestion(section: type[BaseModel], key: str, parts: list[str]) -> str:
    if name := IN_RUN.get(".".join(key.split(".")[-2:])):
        return f"; it is run.{name}, of all generations"
    names = list(_section_of(section, parts).model_fields)
    close = difflib.get_close_matches(parts[-1], names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def _description(section: type[BaseModel], parts: list[str]) -> str:
    field = _section_of(section, parts).model_fields.get(parts[-1])
    return (field.description if field else None) or "needed"
