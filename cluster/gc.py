"""List the shards in storage that no kept commit names, and remove them where asked to.

selftrain gc [--delete] [--commits N] [--min-age HOURS]

Kept are the working tree and all commits of every branch, tag and experiment, or the newest N of
each. If what one of them names can't be read, nothing is removed. Only what selftrain wrote under
storage.url is ever counted or removed, and nothing written to within the last day.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.filesize import decimal

from cluster.named_prefixes import named_prefixes
from pipeline.data.storage import StoredFolder, StoredObject, open_storage
from pipeline.data.stored_shards import OBJECT_NAME, PREFIX_NAME, ROOT
from pipeline.errors import DataError, ParameterError
from pipeline.params import PARAMS_FILE, load_params
from pipeline.progress import say
from pipeline.workflow.command import command_parser, run_command

NAMED = 3  # outputs that an error names


@dataclass(frozen=True)
class Prefix:
    """A folder of shards in storage; `foreign`: something else lies in it too."""

    name: str
    objects: tuple[StoredObject, ...]
    foreign: bool

    def age(self, now: datetime) -> timedelta:
        """The time since something was last written there."""
        return now - max(item.written for item in self.objects)

    def in_use(self, now: datetime, min_age: timedelta) -> bool:
        """Whether a job may be at work there: who writes shards renews an object of it."""
        return self.age(now) <= min_age

    def remove_from(self, shards: StoredFolder) -> None:
        """Remove the folder, or, where something else lies in it, the shards alone."""
        folder = shards / self.name
        if not self.foreign:
            folder.remove_all()
            return
        for item in self.objects:
            folder.remove(item.path.partition("/")[2])


def size_of(prefixes: Iterable[Prefix]) -> str:
    """What they take in storage."""
    return decimal(sum(item.size for prefix in prefixes for item in prefix.objects))


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


def collect(root: Path, *, delete: bool, newest: int | None, min_age: timedelta) -> None:
    """List what no commit of `root` names; remove what is not in use where asked to."""
    storage = open_storage(load_params(root / PARAMS_FILE).storage.url, write=False)
    if storage is None:
        raise ParameterError(f"{PARAMS_FILE}: storage.url = null: there is no storage to look at")
    named, unreadable, commits = named_prefixes(root, newest)
    now, shards = datetime.now(UTC), storage / ROOT
    prefixes = prefixes_in(shards.listing())
    unnamed = [prefix for prefix in prefixes if prefix.name not in named]
    unused = [prefix for prefix in unnamed if not prefix.in_use(now, min_age)]
    for prefix in unnamed:
        days = prefix.age(now) / timedelta(days=1)
        note = "" if prefix in unused else ", young: left alone"
        count = len(prefix.objects)
        say(f"  {prefix.name}: {count} objects, {size_of([prefix])}, {days:.1f} days old{note}")
    say(
        f"gc: {len(prefixes)} folders of shards; {len(unnamed)} ({size_of(unnamed)}) that "
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
        for prefix in unused:
            prefix.remove_from(shards)
    if delete or unused:
        done = "removed" if delete else "--delete removes"
        say(f"gc: {done} {len(unused)} ({size_of(unused)})")


def gc(options: argparse.Namespace) -> None:
    """Do what the command line asks."""
    newest, hours = options.commits, options.min_age
    if newest is not None and newest < 1:
        raise ParameterError(f"--commits {newest}: must be at least 1")
    if not hours >= 0:
        raise ParameterError(f"--min-age {hours}: hours, 0 or more")
    collect(Path.cwd(), delete=options.delete, newest=newest, min_age=timedelta(hours=hours))


def main() -> int:
    """The exit code: 2 for a wrong parameter, 1 where something can't be read or reached."""
    parser = command_parser("gc", __doc__)
    parser.add_argument("--delete", action="store_true", help="remove what is listed")
    parser.add_argument("--commits", type=int, help="only the newest N of each ref", metavar="N")
    parser.add_argument("--min-age", type=float, default=24.0, help="hours since the last write")
    return run_command("gc", parser, gc)


if __name__ == "__main__":
    sys.exit(main())
