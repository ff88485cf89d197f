"""The files in presets/: the nearest to a run's parameters, and one with some of them set anew."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from pipeline.errors import ParameterError
from pipeline.params.load import load_params
from pipeline.params.run import Params
from pipeline.params.sections import Section

OWN = (
    "data.path",
    "data.name",
    "tracking",
    "storage",
    "run",
)  # of a run's place, whatever it was made from
COMMENT_COLUMN = 30
WIDTH = 4096  # no value is broken over lines


@dataclass(frozen=True)
class Difference:
    """A parameter by its dotted key, and its value here and in the preset; None: it has none."""

    key: str
    value: Any
    preset: Any


def nearest_preset(params: Params, presets: Path) -> tuple[str, list[Difference]]:
    """The file in the folder `presets` that differs in the fewest parameters, as presets/NAME.yaml.

    Parameters that say where a run takes place do not count. Raises ParameterError for one that
    can't be read.
    """
    compared = [
        (f"presets/{path.name}", differences(params, load_params(path)))
        for path in sorted(presets.glob("*.yaml"))
    ]
    return min(compared, key=lambda preset: len(preset[1]))


def differences(params: Params, preset: Params) -> list[Difference]:
    """The parameters whose values differ, in the order of `params`, then those it lacks."""
    values, preset_values = dict(_leaves("", params)), dict(_leaves("", preset))
    return [
        Difference(key, values.get(key), preset_values.get(key))
        for key in dict.fromkeys([*values, *preset_values])
        if values.get(key) != preset_values.get(key)
        and not any(f"{key}.".startswith(f"{name}.") for name in OWN)
    ]


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values below a section or mapping, by their dotted keys."""
    if not isinstance(value, Section | dict):
        yield key, value
        return
    for name, item in dict(value).items():
        yield from _leaves(f"{key}.{name}" if key else name, item)


def filled_preset(
    preset: Path, settings: Iterable[tuple[str, Any, str]], opening: Iterable[str]
) -> str:
    """The text of the file `preset` with (dotted key, value, comment) set.

    `opening`: lines of comment in place of the preset's own. Raises ParameterError for a value that
    would read back as another.
    """
    lines = preset.read_text(encoding="utf-8").splitlines(keepends=True)
    body = "".join(lines[next(n for n, line in enumerate(lines) if line[:1] != "#") :])
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = WIDTH, True
    yaml.representer.add_representer(
        type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    values = yaml.load(body)
    for key, value, comment in settings:
        *sections, last = key.split(".")
        section = values
        for each in sections:
            section = section[each]
        _set(section, last, _written(yaml, key, value), comment)
    out = io.StringIO()
    yaml.dump(values, out)
    return "".join(f"# {line}\n" for line in opening) + out.getvalue()


def _written(yaml: YAML, key: str, value: Any) -> Any:
    """`value` such that it reads back as it is, with escapes where it can't be printed."""
    hidden = isinstance(value, str) and not value.isprintable()
    written, out = DoubleQuotedScalarString(value) if hidden else value, io.StringIO()
    yaml.dump([written], out)
    try:
        found = YAML(typ="safe").load(out.getvalue())  # as DVC reads it
    except YAMLError:
        found = None
    if found != [value]:
        raise ParameterError(
            f"{key} = {value!r}: YAML can't hold it such that it reads back the same; rename it"
        )
    return written


def _set(section: Any, key: str, value: Any, comment: str) -> None:
    """Set and comment one key, the blank lines that follow it kept."""
    old = section.ca.items.pop(key, None)
    after = old[2].value.partition("\n")[2] if old and old[2] else None
    section[key] = value
    section.yaml_add_eol_comment(comment, key, column=COMMENT_COLUMN)
    if after is not None:
        section.ca.items[key][2].value += f"\n{after}"
