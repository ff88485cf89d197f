"""Write docs/parameters.md from the parameters themselves: python -m pipeline.params.doc."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.files import write_text
from pipeline.params import Params
from pipeline.params.errors import description_of
from pipeline.params.sections import Section

DOCUMENT = Path(__file__).parents[2] / "docs" / "parameters.md"
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
HEAD = """# Parameters

Everything in `params.yaml`, made from `pipeline/params/` by `make docs`. A wrong key or value
ends a stage before its work with one line that says what is allowed. The sections `model`,
`augment`, `train` and `select` are shared by all generations; `teacher` and each entry of
`generations` say where one differs.
"""


def parameters_document() -> str:
    """The document in Markdown."""
    return HEAD + "".join(_section("", Params))


def _section(name: str, section: type[BaseModel]) -> Iterator[str]:
    about = f"{inspect.getdoc(section)}\n\n" if name else ""
    yield f"\n## `{name or 'top level'}`\n\n{about}"
    yield "| key | kind | default | meaning |\n|---|---|---|---|\n"
    nested: list[tuple[str, type[BaseModel]]] = []
    for key, field in section.model_fields.items():
        inner = _inner(field.annotation)
        if inner is not None and not name:
            entry = {"controls": ".NAME", "generations": '."g"'}.get(key, "")
            nested.append((key + entry, inner))
            continue
        kind, default = _kind(field), _default(field)
        if inner is not None and inner is not field.annotation:  # or null
            nested.append((f"{name}.{key}", inner))
            kind, default = f"`{name}.{key}` or null", "`null`"
        yield f"| `{key}` | {kind} | {default} | {description_of(field)} |\n"
    for key, inner_section in nested:
        yield from _section(key, inner_section)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The section that a field of this type holds: alone, beside null or by key."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def _kind(field: FieldInfo) -> str:
    kind = field.annotation
    options = [item for item in get_args(kind) if item is not type(None)]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{option}`" for option in options)
    if get_origin(kind) is tuple:
        return _tuple_kind(options)
    if options == [int, list[int]]:
        return "int or list of 2 ints"
    name = getattr(kind if get_origin(kind) is dict or not options else options[0], "__name__", "")
    names = {"dict": "mapping", "TrainingOverrides": "mapping", "tuple": "list of mappings"}
    null = "or null" if type(None) in get_args(kind) else ""
    return " ".join(filter(None, [names.get(name, name), *map(_limit, field.metadata), null]))


def _tuple_kind(items: list[Any]) -> str:
    """`items`: the types in a tuple's brackets, the last "..." where any number is allowed."""
    names = get_args(items[0]) or [getattr(items[0], "__name__", str(items[0]))]
    shown = ", ".join(f"`{name}`" if get_args(items[0]) else str(name) for name in names)
    return f"list of {shown}" if items[-1] is Ellipsis else f"list of {len(items)} {shown}s"


def _limit(item: Any) -> str:
    bounds = ((sign, getattr(item, name, None)) for name, sign in LIMITS.items())
    return "".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is PydanticUndefined or isinstance(field.default, Section):
        return "`{}`"
    value = field.default
    if isinstance(value, tuple):
        texts = all(isinstance(item, str) for item in value)
        return ", ".join(f"`{item}`" for item in value) if texts else f"`{list(value)}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    write_text(DOCUMENT, parameters_document())
