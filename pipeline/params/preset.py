"""A preset's file with some of its parameters set anew, each with a comment; the rest as it was."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import ParameterError

FOLDER = Path("presets")
COMMENT_COLUMN = 30
WIDTH = 4096  # no value is broken over lines


def filled_preset(
    name: str, settings: Iterable[tuple[str, Any, str]], opening: Iterable[str], *, root: Path
) -> str:
    """The text of presets/NAME.yaml under `root` with (dotted key, value, comment) set.

    `opening`: lines of comment in place of the preset's own. Raises ParameterError where the preset
    is not there.
    """
    path = root / FOLDER / f"{name}.yaml"
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file; run from the repository's folder") from None
    body = "".join(lines[next(n for n, line in enumerate(lines) if line[:1] != "#") :])
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = WIDTH, True
    yaml.representer.add_representer(type(None), _null)
    values = yaml.load(body)
    for key, value, comment in settings:
        *sections, last = key.split(".")
        section = values
        for each in sections:
            section = section[each]
        _set(section, last, value, comment)
    out = io.StringIO()
    yaml.dump(values, out)
    return "".join(f"# {line}\n" for line in opening) + out.getvalue()


def _null(representer: Any, value: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _set(section: Any, key: str, value: Any, comment: str) -> None:
    """Set and comment one key, the blank lines that follow it kept."""
    old = section.ca.items.get(key)
    token = old[2] if old and old[2] else None
    after = token.value.partition("\n")[2] if token else ""
    section[key] = value
    section.ca.items.pop(key, None)
    section.yaml_add_eol_comment(comment, key, column=COMMENT_COLUMN)
    section.ca.items[key][2].value += f"\n{after}" if token else ""
