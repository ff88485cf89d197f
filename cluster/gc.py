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
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.filesize import decimal

from cluster.named_prefixes import named_prefixes
from pipeline.data.storage import StoredFolder, StoredObject, open_storage
from pipeline.data.stored_shards import IN_USE, MARK_LASTS, OBJECT_NAME, PREFIX_NAME, ROOT
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

    def marked(self, now: datetime) -> bool:
        """Whether a job that reads or writes there has said so just now."""
        marks = [item for item in self.objects if item.path.endswith(f"/{IN_USE}")]
        return any(now - mark.written <= MARK_LASTS for mark in marks)

    def in_use(self, now: datetime, min_age: timedelta) -> bool:
        """Whether a job is at work there, or may be: it was written to lately."""
        return self.marked(now) or self.age(now) <= min_age

    def as_it_is(self, shards: StoredFolder) -> Prefix:
        """The same, listed anew."""
        found = (shards / self.name).listing()
        moved = [replace(item, path=f"{self.name}/{item.path}") for item in found]
        return next(iter(prefixes_in(moved)), replace(self, objects=()))

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
    now, shards = storage.clock() if delete else datetime.now(UTC), storage / ROOT
    prefixes = prefixes_in(shards.listing())
    unnamed = [prefix for prefix in prefixes if prefix.name not in named]
    unused = [prefix for prefix in unnamed if not prefix.in_use(now, min_age)]
    for prefix in unnamed:
        days = prefix.age(now) / timedelta(days=1)
        why = "in use" if prefix.marked(now) else "young"
        note = "" if prefix in unused else f", {why}: left alone"
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
        unused = [prefix for prefix in unused if removed(prefix, shards, now, min_age)]
    if delete or unused:
        done = "removed" if delete else "--delete removes"
        say(f"gc: {done} {len(unused)} ({size_of(unused)})")


def removed(listed: Prefix, shards: StoredFolder, now: datetime, min_age: timedelta) -> bool:
    """Remove a prefix unless a job has come to it since it was listed; whether it was removed."""
    prefix = listed.as_it_is(shards)
    if prefix.objects and prefix.in_use(now, min_age):
        say(f"  {prefix.name}: in use since it was listed: left alone")
        return False
    prefix.remove_from(shards)
    return True


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
