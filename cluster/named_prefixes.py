"""Which prefixes in storage the commits of a repository name, by dvc.lock and DVC's cache.

A stage's outputs are a function of its parameters, `storage` among them: where dvc.lock says that
a stage ran without storage.url, its manifests name no prefix and are not looked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from cluster.package import git
from cluster.remote import opened
from pipeline.data.shards import MANIFEST, read_manifest
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import FOLDERS, manifests_in
from pipeline.errors import DataError, SelftrainError
from pipeline.params.load import parse_yaml

NO_SHARDS = "features/body"  # a model
WORKING_TREE = "the working tree"
LOCK = "dvc.lock"


def named_prefixes(root: Path, newest: int | None) -> tuple[set[str], list[str], int]:
    """What the working tree and the commits of every ref in `root` name.

    newest: only so many commits of each ref; None: all. Returns the prefixes' names, what can't
    be read, and the number of commits. Raises ParameterError outside git and DVC.
    """
    commits = all_commits(root, newest)
    uris: set[str | None] = set()
    unreadable: list[str] = []
    if git(root, "rev-parse", "--is-shallow-repository").strip() == b"true":
        unreadable.append("the commits that this shallow clone lacks (git fetch --unshallow)")
    for folder in manifests_in(root):
        try:
            uris.add(read_manifest(folder).prefix)
        except SelftrainError as error:
            unreadable.append(f"{WORKING_TREE}: {error}")
    outputs: dict[tuple[str, str], str] = {}
    for where, text in locks(root, commits):
        try:
            outputs = dict.fromkeys(stored_outputs(text), where) | outputs
        except DataError as error:
            unreadable.append(f"{where}: {LOCK} ({error})")
    databases = databases_of(root) if outputs else []
    for (name, md5), where in outputs.items():
        try:
            uris.add(prefix_of(databases, md5))
        except DataError as error:
            unreadable.append(f"{where}: {name} ({error})")
    return {StoredFolder(uri).name for uri in uris if uri is not None}, unreadable, len(commits)


def stored_outputs(lock: str) -> list[tuple[str, str]]:
    """The folders of shards that a dvc.lock's stages wrote with storage.url: path and MD5 of each.

    Raises DataError.
    """
    try:
        return [
            (str(out["path"]), str(out["md5"]))
            for stage in parse_yaml(lock)["stages"].values()
            if used_storage(stage)
            for out in stage.get("outs", [])
            if str(out["path"]).split("/")[0] in FOLDERS
            and out["path"] != NO_SHARDS
            and str(out["md5"]).endswith(".dir")
        ]
    except (YAMLError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"not what DVC writes: {' '.join(str(error).split())[:120]}") from None


def used_storage(stage: dict[str, Any]) -> bool:
    """Whether a stage of a dvc.lock ran with storage.url set."""
    return any(
        (values.get("storage") or {}).get("url") is not None
        or values.get("storage.url") is not None
        for values in stage.get("params", {}).values()
    )


def all_commits(root: Path, newest: int | None) -> list[str]:
    """The commits that any ref reaches, or the newest few of each."""
    if newest is None:
        return git(root, "rev-list", "--all", "HEAD").decode().split()
    refs = ["HEAD", *git(root, "for-each-ref", "--format=%(refname)").decode().split()]
    lists = [git(root, "rev-list", f"--max-count={newest}", ref).decode().split() for ref in refs]
    return list(dict.fromkeys(commit for part in lists for commit in part))


def locks(root: Path, commits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each different dvc.lock with the first place that has it, the working tree's first."""
    if (root / LOCK).exists():
        yield WORKING_TREE, (root / LOCK).read_text(encoding="utf-8")
    inside = git(root, "rev-parse", "--show-prefix").decode().strip()
    wanted = "".join(f"{commit}:{inside}{LOCK}\n" for commit in commits)
    answers = git(root, "cat-file", "--batch-check", stdin=wanted.encode()).decode().splitlines()
    first: dict[str, str] = {}
    for commit, answer in zip(commits, answers, strict=True):
        blob, kind = answer.split()[:2]
        if kind == "blob":
            first.setdefault(blob, commit)
    for blob, commit in first.items():
        yield f"commit {commit[:10]}", git(root, "cat-file", "blob", blob).decode()


def databases_of(root: Path) -> list[Any]:
    """DVC's cache, and its remote where it has one."""
    from dvc.config import NoRemoteError

    with opened(root) as repo:
        try:
            return [repo.cache.local, repo.cloud.get_remote_odb()]
        except NoRemoteError:
            return [repo.cache.local]


def prefix_of(databases: Sequence[Any], md5: str) -> str | None:
    """The prefix that the manifest in an output names, as DVC keeps it."""
    try:
        listing = json.loads(read_object(databases, md5))
        digest = next(item["md5"] for item in listing if item["relpath"] == MANIFEST)
        prefix: str | None = json.loads(read_object(databases, str(digest))).get("prefix")
        return prefix
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise DataError(f"holds no {MANIFEST} that can be read") from None


def read_object(databases: Sequence[Any], md5: str) -> bytes:
    """The object with this MD5, from the first database that has it unharmed."""
    for database in databases:
        try:
            data: bytes = database.fs.cat_file(database.oid_to_path(md5))
        except OSError:
            continue
        if hashlib.md5(data, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir"):
            return data
    remote = " nor in its remote" if len(databases) > 1 else ", which has no remote"
    raise DataError(f"not in DVC's cache{remote}")
