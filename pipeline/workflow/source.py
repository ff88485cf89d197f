"""What a run starts from: the source's files, by whose change prepare runs again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import SourceError, counted
from pipeline.files import stage_json
from pipeline.params import DataParams
from pipeline.params.sections import EMBEDDED
from pipeline.progress import say
from pipeline.workflow.layout import Layout


def source_facts(root: Path, data: DataParams) -> tuple[dict[str, int | str], str]:
    """What source.json says: how many files the source holds, and the digest of all; and the same
    in words.

    Files that have not changed since the last time are not read. Raises SourceError as list_source.
    """
    if data.path is None:  # comes with an installed package
        from importlib.metadata import version

        package = f"scikit-learn {version('scikit-learn')}"
        return {"digest": package}, f"the {data.source} of {package}"
    from pipeline.data.preparation.listing import list_source

    listing = list_source(data.path, Layout(root).listing(data.path), project=root)
    facts: dict[str, int | str] = {
        "files": listing.files,
        "bytes": listing.bytes,
        "digest": listing.digest,
    }
    return facts, f"{counted(listing.files, 'file')} in {data.path}, {listing.read} not seen before"


def source_check(root: Path, data: DataParams) -> tuple[str, Callable[[], None]]:
    """The digest of the source that scan has seen, or, where it did not run, of that of now; and
    what raises SourceError where the files are no longer those."""
    file = Layout(root).source
    facts = stage_json(file) if data.path and file.exists() else source_facts(root, data)[0]
    digest = facts.get("digest") if isinstance(facts, dict) else None

    def check() -> None:
        if digest != source_facts(root, data)[0]["digest"]:
            raise SourceError(
                f"{data.path}: files changed while they were read; selftrain run again"
            )

    return str(digest), check


def say_demonstration(command: str, data: DataParams) -> None:
    """Say that these are no images of the user's, where `init` has not looked at any yet."""
    if data.source in EMBEDDED:
        say(
            f"{command}: these are the handwritten digits of the demonstration; your own images: "
            "selftrain init IMAGES"
        )


def say_unread_answers(command: str, root: Path, data: DataParams) -> None:
    """Say that corrections.csv, which `new` makes with its head alone, holds what nothing reads."""
    file = root / "corrections.csv"
    if data.corrections is None and file.is_file() and file.read_bytes()[:4096].count(b"\n") > 1:
        say(
            f"{command}: corrections.csv has answers that nothing reads; set data.corrections: "
            "corrections.csv"
        )
