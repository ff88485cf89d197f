"""In which parameters a run differs from the preset that is nearest to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.params.load import load_params
from pipeline.params.preset import FOLDER
from pipeline.params.run import Params
from pipeline.params.sections import Section

OWN = ("data.path", "tracking", "storage", "run")  # of a run's place, whatever it was made from


@dataclass(frozen=True)
class Difference:
    """A parameter by its dotted key, and its value here and in the preset; None: it has none."""

    key: str
    value: Any
    preset: Any


def nearest_preset(params: Params, root: Path) -> tuple[str, list[Difference]] | None:
    """The preset under `root` that differs in the fewest parameters, as presets/NAME.yaml.

    Parameters that say where a run takes place do not count. None where there are no presets.
    Raises ParameterError for one that can't be read.
    """
    found = [
        (str(FOLDER / path.name), differences(params, load_params(path)))
        for path in sorted((root / FOLDER).glob("*.yaml"))
    ]
    return min(found, key=lambda each: len(each[1])) if found else None


def differences(params: Params, preset: Params) -> list[Difference]:
    """The parameters whose values differ, in the order of `params`, then those it lacks."""
    here, there = dict(_values(params)), dict(_values(preset))
    keys = dict.fromkeys([*here, *there])
    found = [Difference(key, here.get(key), there.get(key)) for key in keys]
    return [each for each in found if each.value != each.preset and not _own(each.key)]


def _own(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in OWN)


def _values(section: Section, where: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        yield from _of(f"{where}{name}", getattr(section, name))


def _of(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Section):
        yield from _values(value, f"{key}.")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _of(f"{key}.{name}", item)
    else:
        yield key, value
