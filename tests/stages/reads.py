"""Which parameters a stage reads, from its code: the functions that it calls, however far away."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.params import Params
from pipeline.params.presets import OWN

ROOT = Path(__file__).parents[2]
FRAME = "pipeline.workflow.stage."  # around every stage: what it reads is in no output
ALL = "pipeline.params.presets.nearest_preset"  # compares every parameter but OWN
Definition = ast.FunctionDef | ast.ClassDef
Scope = dict[str, str]  # what a name in a file means: a function, a class or a module


def read_members(module: str) -> set[str]:
    """The fields, properties and methods of Params that running `module` reads."""
    members: set[str] = set()
    seen: set[str] = set()
    todo = list(_called(ast.Module(_body_of(module), []), _scope(module)))
    while todo:
        name = todo.pop()
        if name in seen or name.startswith(FRAME):
            continue
        seen.add(name)
        if name == ALL:
            members |= set(Params.model_fields) - set(OWN)
        found = _definition(name)
        if found is None:
            continue
        tree, where = found
        members |= _members(tree)
        todo += _called(tree, _scope(where) | _imports(tree.body))
    return members


def read_parameters(members: Iterable[str], params: Params, model: str) -> set[str]:
    """The keys of params.yaml behind the members, for the work on one model: "seed",
    "generations.1.student"."""
    key = model.partition(".")[0]
    arguments = {
        "training": (model,),
        "selection": (key,),
        "model_seed": (model,),
        "with_mode": ("head",),
        "with_policy": (1, 1.0),
    }
    reads: set[str] = set()
    seen = _Reader(params, "", reads)
    for member in members:
        value = getattr(seen, member)
        if callable(value):
            value(*arguments[member])
    return reads


class _Reader:
    """Params, or a part of it, that notes which keys are asked for."""

    def __init__(self, value: Any, where: str, reads: set[str]) -> None:
        self._value, self._where, self._reads = value, where, reads

    def __getattr__(self, name: str) -> Any:
        member = getattr(type(self._value), name, None)
        if isinstance(member, property):
            assert member.fget is not None
            return member.fget(self)
        if isinstance(member, types.FunctionType) and name not in ("model_copy", "model_dump"):
            return types.MethodType(member, self)
        return self._noted(name, getattr(self._value, name))

    def _noted(self, name: str, value: Any) -> Any:
        where = f"{self._where}{name}"
        if where in ("generations", "controls"):  # each key has a stage of its own
            return {
                key: _Reader(part, f"{where}.{key}.", self._reads) for key, part in value.items()
            }
        if name in type(self._value).model_fields:
            self._reads.add(where)
        return value


def _members(tree: ast.AST) -> set[str]:
    """The members of Params that a function or class asks for."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and _is_params(node.annotation):
            names.add(node.arg)
        if isinstance(node, ast.Assign):
            names |= {name for name, value in _pairs(node) if _gives_params(value, names)}
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and _gives_params(node.value, names)
        and (node.attr in Params.model_fields or node.attr in vars(Params))
    }


def _is_params(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "Params"


def _gives_params(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, ast.Call):  # of with_choices, with_mode, load_params
        callee = node.func
        name = callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")
        return name in ("with_choices", "with_mode", "with_policy", "load_params")
    if isinstance(node, ast.Attribute):
        return node.attr == "params"
    return isinstance(node, ast.Name) and node.id in names


def _pairs(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    for target in node.targets:
        if isinstance(target, ast.Name):
            yield target.id, node.value
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            for part, value in zip(target.elts, node.value.elts, strict=True):
                if isinstance(part, ast.Name):
                    yield part.id, value


def _called(tree: ast.AST, scope: Scope) -> Iterator[str]:
    """What a piece of code names of its own program, as "pipeline.files.write_json"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in scope:
            yield scope[node.id]


@cache
def _body_of(module: str) -> list[ast.stmt]:
    path = ROOT / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")).body if file.exists() else []


@cache
def _scope(module: str) -> Scope:
    body = _body_of(module)
    own = {node.name: f"{module}.{node.name}" for node in body if isinstance(node, Definition)}
    return _imports(body) | own


def _imports(body: list[ast.stmt]) -> Scope:
    return {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(ast.Module(body, []))
        if isinstance(node, ast.ImportFrom)
        and node.module is not None
        and node.module.split(".")[0] in ("pipeline", "stages")
        for name in node.names
    }


def _definition(name: str) -> tuple[Definition, str] | None:
    """The function or class of this name, and the module that it is in."""
    module, _, last = name.rpartition(".")
    for node in _body_of(module):
        if isinstance(node, Definition) and node.name == last:
            return node, module
    again = _scope(module).get(last)
    return None if again in (None, name) else _definition(str(again))
