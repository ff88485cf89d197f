"""List the shards in storage that no kept commit names, and remove them where asked to.

python -m cluster.gc [--params params.yaml] [--delete] [--commits all|N] [--min-age HOURS]

Kept are the working tree and all commits of every branch, tag and experiment, or the newest N of
each. If what one of them names can't be read, nothing is removed. Only what selftrain wrote under
storage.url is ever counted or removed, and nothing written to within the last day.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster.kept import Kept, kept_prefixes
from pipeline.data.storage import StoredFolder, StoredObject, open_storage
from pipeline.data.stored_shards import OBJECT_NAME, PREFIX_NAME, ROOT
from pipeline.errors import DataError, ParameterError, SelftrainError
from pipeline.params import PARAMS_FILE, load_params
from pipeline.progress import say

NAMED = 3  # outputs that an error names


@dataclass(frozen=True)
class Prefix:
    """A folder of shards in storage; `foreign`: something else lies in it too."""

    name: str
    objects: tuple[StoredObject, ...]
    foreign: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.objects)

    @property
    def written(self) -> datetime:
        """When something was last written there."""
        return max(item.written for item in self.objects)


def prefixes_in(listing: Iterable[StoredObject]) -> list[Prefix]:
    """The folders of shards in a listing of `shards/`, by name; what is not of them is left out."""
    own: dict[str, list[StoredObject]] = {}
    foreign: set[str] = set()
    for item in listing:
        folder, _, name = item.path.partition("/")
        if PREFIX_NAME.fullmatch(folder) and OBJECT_NAME.fullmatch(name):
            own.setdefault(folder, []).append(item)
        else:
            foreign.add(folder)
    return [Prefix(name, tuple(own[name]), name in foreign) for name in sorted(own)]


def removable(
    prefixes: Iterable[Prefix], kept: frozenset[str], *, written_before: datetime
) -> list[Prefix]:
    """Those that nothing kept names and that no job may be at work on."""
    return [
        prefix for prefix in prefixes if prefix.name not in kept and prefix.written < written_before
    ]


def remove(shards: StoredFolder, prefix: Prefix) -> None:
    """Remove a folder of shards, or, of a shared one, the shards alone."""
    folder = shards / prefix.name
    if not prefix.foreign:
        folder.remove_all()
        return
    for item in prefix.objects:
        folder.remove(item.path.partition("/")[2])


def collect(params_file: Path, *, delete: bool, commits: str, min_age: float) -> None:
    """Do what the command line asks."""
    newest = _newest(commits)
    if not min_age >= 0:
        raise ParameterError(f"--min-age {min_age}: hours, 0 or more")
    url = load_params(params_file).storage.url
    storage = open_storage(url, write=False)
    if storage is None:
        raise ParameterError(f"{params_file}: storage.url = null: there is no storage to look at")
    kept = kept_prefixes(params_file.resolve().parent, newest)
    now, shards = datetime.now(UTC), storage / ROOT
    prefixes = prefixes_in(shards.listing())
    unnamed = [prefix for prefix in prefixes if prefix.name not in kept.prefixes]
    limit = now - timedelta(hours=min_age)
    old = removable(unnamed, kept.prefixes, written_before=limit)
    for prefix in unnamed:
        say(_line(prefix, now, young=prefix not in old))
    say(_summary(prefixes, unnamed, kept))
    _check_readable(kept)
    if delete:
        for prefix in old:
            remove(shards, prefix)
        say(f"gc: removed {len(old)} ({_bytes(sum(prefix.size for prefix in old))})")
    elif old:
        say(f"gc: --delete removes {len(old)} ({_bytes(sum(prefix.size for prefix in old))})")


def _newest(commits: str) -> int | None:
    if commits == "all":
        return None
    if not (commits.isascii() and commits.isdigit() and int(commits) > 0):
        raise ParameterError(f"--commits {commits}: must be all, or a number of commits")
    return int(commits)


def _check_readable(kept: Kept) -> None:
    if kept.unreadable:
        more = ", …" if len(kept.unreadable) > NAMED else ""
        raise DataError(
            f"nothing is removed: {len(kept.unreadable)} that may name shards can't be read: "
            f"{'; '.join(kept.unreadable[:NAMED])}{more}; try dvc fetch --all-commits, or keep "
            "fewer commits with --commits N"
        )


def _line(prefix: Prefix, now: datetime, *, young: bool) -> str:
    hours = (now - prefix.written).total_seconds() / 3600
    age = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
    note = ", young: left alone" if young else ""
    count, size = len(prefix.objects), _bytes(prefix.size)
    return f"  {prefix.name}: {count} objects, {size}, {age} old{note}"


def _summary(prefixes: Sequence[Prefix], unnamed: Sequence[Prefix], kept: Kept) -> str:
    size = _bytes(sum(prefix.size for prefix in unnamed))
    return (
        f"gc: {len(prefixes)} folders of shards; {len(unnamed)} ({size}) that neither the working "
        f"tree nor {kept.commits} commits name"
    )


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 2 for a wrong parameter, 1 where something can't be read or reached."""
    text = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m cluster.gc", description=text)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help="whose storage.url")
    parser.add_argument("--delete", action="store_true", help="remove what is listed")
    parser.add_argument("--commits", default="all", help="all, or the newest N of each ref")
    parser.add_argument(
        "--min-age", type=float, default=24.0, help="hours since the last write; 24 by default"
    )
    given = parser.parse_args(arguments)
    try:
        collect(given.params, delete=given.delete, commits=given.commits, min_age=given.min_age)
    except SelftrainError as error:
        print(f"gc: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
