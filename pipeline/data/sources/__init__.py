"""Where images come from: each source turns what a user has into the same rows."""

from __future__ import annotations

import json

from pipeline.data.sources.columns import ColumnNames
from pipeline.data.sources.rows import Row, Source
from pipeline.errors import ParameterError, SourceError
from pipeline.params.sections import DEFAULT_TASK, SOURCES, TaskName

__all__ = ["ColumnNames", "Row", "Source", "open_source"]

MOST_CLASS_BYTES = 3 << 20  # of names, which each model's description holds


def open_source(
    name: str,
    path: str | None,
    *,
    seed: int,
    columns: ColumnNames | None = None,
    group_pattern: str | None = None,
    task: TaskName = DEFAULT_TASK,
) -> Source:
    """Open the source `name` at `path`, also an address s3://, gs:// or file://; digits and
    digit_scenes need no path, and alone use the seed.

    columns: of a table or Parquet; group_pattern: of a folder, of masks or of COCO; task: what
    answers are for, where a source may have several kinds. Raises SourceError
    where it can't be read or names more classes than a model can, ParameterError for an unknown
    name, no path or what the source has no use for.
    """
    source = _opened(name, path, seed, columns or ColumnNames(), group_pattern, task)
    size = sum(len(json.dumps(each)) + 1 for each in source.classes)
    if size > MOST_CLASS_BYTES:
        raise SourceError(
            f"{path}: the names of its {len(source.classes):,} classes take {size:,} bytes, over "
            f"{MOST_CLASS_BYTES >> 20} MiB; shorten them"
        )
    return source


def _opened(
    name: str,
    path: str | None,
    seed: int,
    columns: ColumnNames,
    group_pattern: str | None,
    task: TaskName,
) -> Source:
    if name == "digits":
        from pipeline.data.sources.digits import DigitsSource

        return DigitsSource(seed)
    if name == "digit_scenes":
        from pipeline.data.sources.digit_scenes import DigitScenesSource

        return DigitScenesSource(seed)
    if not any(name in sources for sources in SOURCES.values()):
        names = dict.fromkeys(each for sources in SOURCES.values() for each in sources)
        raise ParameterError(f"data.source = {name!r}: must be one of {', '.join(names)}")
    if not path:
        raise ParameterError(f"data.path is needed for data.source = {name}")
    if name in ("folder", "coco"):
        from pipeline.data.sources.coco import CocoSource
        from pipeline.data.sources.folder import FolderSource

        for use, column in vars(columns).items():
            if column is not None:
                raise ParameterError(
                    f"data.{use}_column = {column!r}: a {name} source has no columns; set it to "
                    "null"
                )
        return (FolderSource if name == "folder" else CocoSource)(path, group_pattern)
    if name == "masks":
        from pipeline.data.sources.masks import MasksSource

        return MasksSource(path, columns, group_pattern)
    if group_pattern is not None:
        raise ParameterError(
            f"data.group_pattern = {group_pattern!r}: for data.source = folder; set "
            "data.group_column instead"
        )
    if name == "manifest":
        from pipeline.data.sources.manifest import ManifestSource

        return ManifestSource(path, columns)
    if task == "segmentation":
        from pipeline.data.sources.parquet import ParquetMasksSource

        return ParquetMasksSource(path, columns)
    from pipeline.data.sources.parquet import ParquetSource

    return ParquetSource(path, columns)
