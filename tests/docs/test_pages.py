"""What the pages point to is there: files, headings, targets of make, modules, parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.data.preparation.targets import Targets
from pipeline.params import parse_params
from pipeline.tasks import Task
from selftrain.__main__ import COMMANDS
from tests.docs.blocks import PAGES, ROOT, blocks

NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
pages = pytest.mark.parametrize("page", NAMES)


def prose(path: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", path.read_text("utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """The fragments that a page's headings can be reached by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pages
def test_links_lead_to_files_and_headings(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, fragment = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), f"{page}: {target}"
        if fragment:
            assert fragment in anchors(linked), f"{page}: {target}"


def commands() -> Iterator[tuple[str, str]]:
    """Each `make NAME`, `selftrain NAME` and `python -m MODULE` of the pages."""
    for path, name in zip(PAGES, NAMES, strict=True):
        for text in (*re.findall(r"`([^`\n]+)`", prose(path)), *blocks(name, "bash")):
            for kind, what in re.findall(r"\b(make|python -m|selftrain) ([\w.-]+)", text):
                yield name, f"{kind} {what}"


def test_commands_name_a_target_or_a_module() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    found = sorted(set(commands()))
    assert len(found) > 40
    for page, command in found:
        what = command.rsplit(" ", 1)[1]
        if command.startswith("selftrain "):
            assert what in COMMANDS or what.startswith("--"), f"{page}: {command}"
            continue
        if command.startswith("make "):
            assert what in targets or what == "bench-NAME", f"{page}: {command}"
            continue
        path = ROOT / what.replace(".", "/")
        if path.parts[len(ROOT.parts)] in ("stages", "pipeline", "cluster", "benchmarks"):
            there = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
            assert there or what.endswith(".X"), f"{page}: {command}"


def snippets() -> list[tuple[str, dict[str, Any]]]:
    """The YAML blocks of the pages."""
    reader = YAML(typ="safe", pure=True)
    return [(name, reader.load(block)) for name in NAMES for block in blocks(name, "yaml")]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with what `changes` sets, section by section; `base` stays as it was."""
    both = dict(base)
    for key, value in changes.items():
        inner = base.get(key)
        sections = isinstance(inner, dict) and isinstance(value, dict)
        both[key] = merged(base[key], value) if sections else value
    return both


def test_every_yaml_snippet_is_a_change_that_params_yaml_takes() -> None:
    file = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text("utf-8"))
    file["data"]["image_size"] = 320  # what is said of large networks is said of large images
    found = snippets()
    assert len(found) >= 5
    for page, snippet in found:
        parse_params(merged(file, snippet), page)


def test_every_page_is_named_where_a_reader_starts() -> None:
    start = "".join((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/README.md"))
    pages_of_docs = [path.name for path in PAGES if path.parent == ROOT / "docs"]
    assert [name for name in pages_of_docs if name not in start] == []


def shown_words(path: Path) -> Iterator[str]:
    """What a user may read of a file: all of it, of a module its strings but for docstrings."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield text
        return
    nodes = [*ast.walk(ast.parse(text))]
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def test_a_run_is_called_by_one_name() -> None:
    folders = ("pipeline", "stages", "selftrain", "presets")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    kinds = (".py", ".html", ".js", ".yaml")
    shown = [ROOT / "params.yaml", *(path for path in paths if path.suffix in kinds)]
    other = {path for path in shown for words in shown_words(path) if "dvc repro" in words}
    assert other <= {ROOT / "selftrain/run.py"}  # whose help says what it calls


def test_the_page_of_the_architecture_names_all_that_a_task_says() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    members = {*vars(Task), *vars(Targets), *Task.__annotations__, *Targets.__annotations__}
    public = sorted(name for name in members if not name.startswith("_"))
    assert len(public) > 30
    assert [name for name in public if f"`{name}`" not in page] == ["name"]
