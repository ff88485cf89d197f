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

from rich.filesize import decimal

from cluster.named_prefixes import named_prefixes
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

    def remove_from(self, shards: StoredFolder) -> None:
        """Remove the folder, or, where something else lies in it, the shards alone."""
        folder = shards / self.name
        if not self.foreign:
            folder.remove_all()
            return
        for item in self.objects:
            folder.remove(item.path.partition("/")[2])


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


def collect(params_file: Path, *, delete: bool, newest: int | None, min_age: float) -> None:
    """List what no commit names; remove what is older than `min_age` hours where asked to."""
    storage = open_storage(load_params(params_file).storage.url, write=False)
    if storage is None:
        raise ParameterError(f"{params_file}: storage.url = null: there is no storage to look at")
    named, unreadable, commits = named_prefixes(params_file.resolve().parent, newest)
    now, shards = datetime.now(UTC), storage / ROOT
    prefixes = prefixes_in(shards.listing())
    unnamed = [prefix for prefix in prefixes if prefix.name not in named]
    old = [prefix for prefix in unnamed if prefix.written < now - timedelta(hours=min_age)]
    for prefix in unnamed:
        days = (now - prefix.written) / timedelta(days=1)
        note = "" if prefix in old else ", young: left alone"
        count, size = len(prefix.objects), decimal(prefix.size)
        say(f"  {prefix.name}: {count} objects, {size}, {days:.1f} days old{note}")
    size = decimal(sum(prefix.size for prefix in unnamed))
    say(
        f"gc: {len(prefixes)} folders of shards; {len(unnamed)} ({size}) that "
        f"neither the working tree nor {commits} commits name"
    )
    if unreadable:
        more = ", …" if len(unreadable) > NAMED else ""
        raise DataError(
            f"nothing is removed: {len(unreadable)} that may name shards can't be read: "
            f"{'; '.join(unreadable[:NAMED])}{more}; try dvc fetch --all-commits, or keep fewer "
            "commits with --commits N"
        )
    if delete:
        for prefix in old:
            prefix.remove_from(shards)
    if delete or old:
        size = decimal(sum(prefix.size for prefix in old))
        say(f"gc: {'removed' if delete else '--delete removes'} {len(old)} ({size})")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 2 for a wrong parameter, 1 where something can't be read or reached."""
    text = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m cluster.gc", description=text)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help="whose storage.url")
    parser.add_argument("--delete", action="store_true", help="remove what is listed")
    parser.add_argument("--commits", default="all", help="all, or the newest N of each ref")
    parser.add_argument("--min-age", type=float, default=24.0, help="hours since the last write")
    given = parser.parse_args(arguments)
    commits, hours = given.commits, given.min_age
    try:
        if commits != "all" and not (commits.isdecimal() and int(commits) > 0):
            raise ParameterError(f"--commits {commits}: must be all, or a number of commits")
        if not hours >= 0:
            raise ParameterError(f"--min-age {hours}: hours, 0 or more")
        newest = None if commits == "all" else int(commits)
        collect(given.params, delete=given.delete, newest=newest, min_age=hours)
    except SelftrainError as error:
        print(f"gc: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
