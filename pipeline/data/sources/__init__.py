"""Where images come from: each source turns what a user has into the same rows."""

from __future__ import annotations

from pipeline.data.sources.rows import Row, Source
from pipeline.errors import ParameterError

__all__ = ["Row", "Source", "open_source"]

SOURCES = ("digits", "folder", "class_folders", "manifest", "parquet")


def open_source(name: str, path: str | None, *, seed: int) -> Source:
    """Open the source `name` at `path`; digits needs no path, and alone uses the seed.

    Raises SourceError where it can't be read, ParameterError for an unknown name or no path.
    """
    if name == "digits":
        from pipeline.data.sources.digits import DigitsSource

        return DigitsSource(seed)
    if name not in SOURCES:
        raise ParameterError(f"data.source = {name!r}: must be one of {', '.join(SOURCES)}")
    if not path:
        raise ParameterError(f"data.path is needed for data.source = {name}")
    if name == "folder":
        from pipeline.data.sources.folder import FolderSource

        return FolderSource(path)
    if name == "class_folders":
        from pipeline.data.sources.class_folders import ClassFoldersSource

        return ClassFoldersSource(path)
    if name == "manifest":
        from pipeline.data.sources.manifest import ManifestSource

        return ManifestSource(path)
    from pipeline.data.sources.parquet import ParquetSource

    return ParquetSource(path)
