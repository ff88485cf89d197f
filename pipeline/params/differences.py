"""Which parameters of a run are not at their defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.params.sections import Section


def differences(section: Section, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, value, default) of every parameter that is not at its default, in order.

    Keys are dotted; the default is None where there is none and the value is needed.
    """
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        default = field.get_default(call_default_factory=True, validated_data={})
        yield from _of(f"{where}{name}", value, None if field.is_required() else default)


def _of(key: str, value: Any, default: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, Section):
        yield from differences(value, f"{key}.")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _of(f"{key}.{name}", item, None)
    elif value != default:
        yield key, value, default
