"""docs/parameters.md says what the program takes."""

from __future__ import annotations

from pipeline.params.doc import DOCUMENT, parameters_document


def test_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == parameters_document(), "run `make docs`"


def test_document_names_keys_limits_and_meaning() -> None:
    text = parameters_document()
    assert "| `validation_fraction` | float ≥ 0 < 1 | `0.2` |" in text
    assert "| `label_kind` | `soft`, `hard` | `soft` |" in text
    assert '## `generations."g"`' in text
