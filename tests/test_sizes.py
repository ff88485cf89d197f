"""What a reader can take in at once: modules, functions and folders stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "stages", "selftrain", "cluster", "benchmarks", "tests")
MODULE_LINES, FUNCTION_LINES, STAGE_LINES, FOLDER_MODULES = 300, 60, 80, 20


@pytest.mark.parametrize("folder", FOLDERS)
def test_modules_and_their_functions_are_short(folder: str) -> None:
    limit = STAGE_LINES if folder == "stages" else MODULE_LINES
    too_long: dict[str, int] = {}
    for path in (ROOT / folder).rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if (lines := len(source.splitlines())) > limit:
            too_long[str(path)] = lines
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    too_long[f"{path}:{node.name}"] = lines
    assert not too_long


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_holds_few_modules(folder: str) -> None:
    modules = [path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
    counts = {str(path.parent): 0 for path in modules}
    for path in modules:
        counts[str(path.parent)] += 1
    assert {name: count for name, count in counts.items() if count > FOLDER_MODULES} == {}
