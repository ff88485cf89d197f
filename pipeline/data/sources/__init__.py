"""Where images come from: each source turns what a user has into the same rows."""

from __future__ import annotations

from pipeline.data.sources.columns import ColumnNames
from pipeline.data.sources.rows import Row, Source
from pipeline.errors import ParameterError

__all__ = ["ColumnNames", "Row", "Source", "open_source"]

SOURCES = ("digits", "folder", "manifest", "parquet")


def open_source(
    name: str,
    path: str | None,
    *,
    seed: int,
    columns: ColumnNames | None = None,
    group_pattern: str | None = None,
) -> Source:
    """Open the source `name` at `path`; digits needs no path, and alone uses the seed.

    columns: of a manifest or Parquet; group_pattern: of a folder. Raises SourceError where it can't
    be read, ParameterError for an unknown name, no path or what the source has no use for.
    """
    if name == "digits":
        from pipeline.data.sources.digits import DigitsSource

        return DigitsSource(seed)
    if name not in SOURCES:
        raise ParameterError(f"data.source = {name!r}: must be one of {', '.join(SOURCES)}")
    if not path:
        raise ParameterError(f"data.path is needed for data.source = {name}")
    columns = columns or ColumnNames()
    if name == "folder":
        from pipeline.data.sources.folder import FolderSource

        for use, column in vars(columns).items():
            if column is not None:
                raise ParameterError(
                    f"data.{use}_column = {column!r}: a folder of images has no columns; set it to "
                    "null"
                )
        return FolderSource(path, group_pattern)
    if group_pattern is not None:
        raise ParameterError(
            f"data.group_pattern = {group_pattern!r}: for data.source = folder; set "
            "data.group_column instead"
        )
    if name == "manifest":
        from pipeline.data.sources.manifest import ManifestSource

        return ManifestSource(path, columns)
    from pipeline.data.sources.parquet import ParquetSource

    return ParquetSource(path, columns)
