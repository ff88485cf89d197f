"""Read params.yaml and check it whole."""

from __future__ import annotations

import math
import re
from itertools import chain
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.errors import ParameterError
from pipeline.files import read_text
from pipeline.params.errors import shown_value, validated
from pipeline.params.run import Params

PARAMS_FILE = Path("params.yaml")
LARGEST_FILE = 256 << 10  # bytes; parsing takes up to 5 seconds for them
MOST_VALUES = 100_000  # that a file stands for, its anchors written out


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check every parameter in `path`.

    Raises ParameterError, one line: the file, the key, its value and what is allowed.
    """
    try:
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise ParameterError(f"{path}: can't be read (larger than {LARGEST_FILE >> 10} KiB)")
        text = read_text(path)
    except FileNotFoundError:
        raise ParameterError(
            f"{path}: no such file; run in a project, which selftrain new makes"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: can't be read ({error})") from None
    return parse_text(text, str(path))


def parse_text(text: str, file: str = str(PARAMS_FILE)) -> Params:
    """Check YAML text as load_params does a file; `file` names it in the error."""
    try:
        values = parse_yaml(text)
    except YAMLError as error:
        raise ParameterError(f"{file}: not YAML: {_yaml_reason(error)}") from None
    except Exception as error:  # whatever odd text leads ruamel's constructors to
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ParameterError(f"{file}: not YAML that can be used: {reason}") from None
    return parse_params(values, file)


def parse_yaml(text: str) -> Any:
    """The value of YAML, whoever wrote it; raises YAMLError, or ValueError for more than
    MOST_VALUES, and whatever odd text leads to."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Bounded
    return yaml.load(text)


class _Bounded(SafeConstructor):
    """Makes values of what was parsed where they are not too many: a few anchors, merged in each
    other, stand for any number."""

    def construct_document(self, node: Any) -> Any:
        if _count(node, {}) > MOST_VALUES:
            raise ValueError(f"its anchors stand for more than {MOST_VALUES:,} values")
        return super().construct_document(node)


def _count(node: Any, counts: dict[int, float]) -> float:
    """How many values a node stands for, infinitely many where it is in itself."""
    if isinstance(node.value, str):
        return 1
    if id(node) not in counts:
        counts[id(node)] = math.inf  # to be found in itself, until all in it are counted
        inner = chain.from_iterable(
            each if isinstance(each, tuple) else [each] for each in node.value
        )
        counts[id(node)] = 1 + sum(_count(each, counts) for each in inner)
    return counts[id(node)]


def parse_params(values: Any, file: str = str(PARAMS_FILE)) -> Params:
    """Check a dictionary as load_params does a file; `file` names it in the error."""
    if not isinstance(values, dict):
        raise ParameterError(f"{file}: must be a mapping of parameters, not {shown_value(values)}")
    try:
        params = validated(Params, values)
        _check_keys(params)
        search = params.augment.search
        most = params.with_policy(*max(search.pairs)) if search is not None else params
        for key in params.model_keys + params.control_keys:
            _check_mode(params, key)
            most.training(key)
            if key in params.generations:
                params.selection(key)
    except ParameterError as error:
        raise ParameterError(f"{file}: {error}") from None
    return params


def _yaml_reason(error: YAMLError) -> str:
    """What ruamel.yaml found and where, without its advice on how to switch the check off."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        mark = error.problem_mark
        problem = " ".join(error.problem.split())
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return " ".join(str(error).split())


def _check_keys(params: Params) -> None:
    """Generations and seeds count up, each with its teacher; controls have names."""
    generations = params.generations
    for number, (key, generation) in enumerate(generations.items(), start=1):
        if key != str(number):
            raise ParameterError(f'generations.{key}: keys count up in order, "{number}" goes here')
        if generation.teacher != str(number - 1):
            raise ParameterError(
                f"generations.{key}.teacher = {generation.teacher!r}: "
                f'must be the generation before, "{number - 1}"'
            )
    for number, (key, member) in enumerate(params.ensemble.seeds.items(), start=1):
        where = f"ensemble.seeds.{key}"
        if key != f"{member.generation}.{number}":
            raise ParameterError(
                f"{where}: keys are the generation and a number that counts up, "
                f'"{member.generation}.{number}" goes here'
            )
        if member.generation not in generations:
            raise ParameterError(
                f"{where}.generation = {member.generation!r}: must be one of generations: "
                f"{', '.join(generations) or 'none'}"
            )
        if member.teacher != (teacher := generations[member.generation].teacher):
            raise ParameterError(
                f"{where}.teacher = {member.teacher!r}: must be the teacher of generation "
                f'{member.generation}, "{teacher}"'
            )
    for key in params.controls:
        if not re.fullmatch("[a-z][a-z0-9_]{0,31}", key):
            raise ParameterError(
                f"controls.{key}: names begin with a small letter and hold such letters, digits "
                "and _, at most 32"
            )


def _check_mode(params: Params, key: str) -> None:
    """Raise ParameterError for a transfer.mode that needs what is not there."""
    training = params.training(key)
    mode, where = training.transfer.mode, "teacher" if key == "0" else f"generations.{key}.student"
    if mode in ("head", "auto") and params.embed.source is None:
        raise ParameterError(
            f"{where}: transfer.mode = {mode!r}: needs the features of a frozen body; set "
            "embed.source, for instance to packaged, or another mode"
        )
    if mode == "auto" and params.data.validation != "folds":
        raise ParameterError(
            f"{where}: transfer.mode = 'auto': chooses by cross-validation on the labels; set "
            "data.validation: folds, or the mode to head or layerwise"
        )
    training.check_mode(where)
