"""What the source's files are: by this prepare runs again where they change."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import counted
from pipeline.params import DataParams
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
