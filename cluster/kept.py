"""Which prefixes in storage the commits of a repository name, by dvc.lock and DVC's cache.

A stage's outputs are a function of its parameters, `storage` among them: where dvc.lock says that
a stage ran without storage.url, its manifests name no prefix and are not looked for.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.data.shards import MANIFEST, read_manifest
from pipeline.data.storage import StoredFolder
from pipeline.errors import DataError, SelftrainError

SHARD_FOLDERS = ("prepared", "features", "predictions", "pseudo_labels")
NO_SHARDS = "features/body"  # a model
WORKING_TREE = "the working tree"
LOCK = "dvc.lock"


@dataclass(frozen=True)
class Kept:
    """The names of the prefixes that are in use, and the outputs of which that is not known."""

    prefixes: frozenset[str]
    unreadable: tuple[str, ...]
    commits: int


@dataclass(frozen=True)
class Output:
    """A folder of shards, as a dvc.lock names it: its path and the MD5 of its listing."""

    path: str
    md5: str


def kept_prefixes(root: Path, newest: int | None) -> Kept:
    """What the working tree and the commits of every ref in `root` name.

    newest: only so many commits of each ref; None: all. Raises DataError outside git and DVC.
    """
    commits = _commits(root, newest)
    found, unreadable = _of_working_tree(root)
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        unreadable.append("the commits that this shallow clone lacks (git fetch --unshallow)")
    outputs: dict[Output, str] = {}
    for where, text in _locks(root, commits):
        try:
            for output in stored_outputs(text):
                outputs.setdefault(output, where)
        except DataError as error:
            unreadable.append(f"{where}: {LOCK} ({error})")
    databases = _databases(root) if outputs else []
    for output, where in outputs.items():
        try:
            found |= _prefix_in(_manifest(databases, output))
        except DataError as error:
            unreadable.append(f"{where}: {output.path} ({error})")
    return Kept(frozenset(found), tuple(unreadable), len(commits))


def stored_outputs(lock: str) -> list[Output]:
    """The folders of shards that a dvc.lock's stages wrote with storage.url; raises DataError."""
    try:
        stages = YAML(typ="safe", pure=True).load(lock)["stages"].values()
        return [
            Output(str(out["path"]), str(out["md5"]))
            for stage in stages
            if _used_storage(stage)
            for out in stage.get("outs", [])
            if _holds_shards(str(out["path"])) and str(out["md5"]).endswith(".dir")
        ]
    except (YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not what DVC writes: {' '.join(str(error).split())[:120]}") from None


def _holds_shards(path: str) -> bool:
    return path.split("/")[0] in SHARD_FOLDERS and path != NO_SHARDS


def _used_storage(stage: dict[str, Any]) -> bool:
    for values in stage.get("params", {}).values():
        section = values.get("storage") or {}
        if section.get("url") is not None or values.get("storage.url") is not None:
            return True
    return False


def _of_working_tree(root: Path) -> tuple[set[str], list[str]]:
    """What the manifests that lie in the repository name, and those that can't be read."""
    found: set[str] = set()
    unreadable: list[str] = []
    for name in SHARD_FOLDERS:
        for path in sorted((root / name).glob(f"*/{MANIFEST}")):
            try:
                entries = read_manifest(path.parent).shards
            except SelftrainError as error:
                unreadable.append(f"{WORKING_TREE}: {error}")
                continue
            found |= {StoredFolder(e.prefix).name for e in entries if e.prefix is not None}
    return found, unreadable


def _commits(root: Path, newest: int | None) -> list[str]:
    refs = _git(root, "for-each-ref", "--format=%(refname)").split()
    if _git(root, "rev-parse", "--verify", "--quiet", "HEAD", check=False):
        refs.append("HEAD")
    if newest is None:
        return _git(root, "rev-list", *refs).split() if refs else []
    lists = [_git(root, "rev-list", f"--max-count={newest}", ref).split() for ref in refs]
    return list(dict.fromkeys(commit for part in lists for commit in part))


def _locks(root: Path, commits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each different dvc.lock with the first place that has it, the working tree's first."""
    if (root / LOCK).exists():
        yield WORKING_TREE, (root / LOCK).read_text(encoding="utf-8")
    inside = _git(root, "rev-parse", "--show-prefix").strip()
    asked = "".join(f"{commit}:{inside}{LOCK}\n" for commit in commits)
    seen: set[str] = set()
    answers = _git(root, "cat-file", "--batch-check", text=asked).splitlines()
    for commit, answer in zip(commits, answers, strict=True):
        blob, kind = answer.split()[:2]
        if kind == "blob" and blob not in seen:
            seen.add(blob)
            yield f"commit {commit[:10]}", _git(root, "cat-file", "blob", blob)


def _git(root: Path, *arguments: str, text: str = "", check: bool = True) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=root, input=text, capture_output=True, text=True, check=False
    )
    if check and answer.returncode != 0:
        raise DataError(f"{root}: git {arguments[0]}: {' '.join(answer.stderr.split())[:200]}")
    return answer.stdout


def _databases(root: Path) -> list[Any]:
    """DVC's cache, and its remote where it has one."""
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
        try:
            return [repo.cache.local, repo.cloud.get_remote_odb()]
        except NoRemoteError:
            return [repo.cache.local]
    except DvcException as error:
        raise DataError(f"{root}: DVC: {' '.join(str(error).split())[:200]}") from None


def _manifest(databases: Sequence[Any], output: Output) -> Any:
    """The manifest in an output, as DVC keeps it."""
    try:
        listing = json.loads(_object(databases, output.md5))
        digest = next(item["md5"] for item in listing if item["relpath"] == MANIFEST)
        return json.loads(_object(databases, str(digest)))
    except (ValueError, KeyError, TypeError, StopIteration):
        raise DataError(f"holds no {MANIFEST} that can be read") from None


def _object(databases: Sequence[Any], md5: str) -> bytes:
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


def _prefix_in(manifest: Any) -> set[str]:
    if not isinstance(manifest, dict):
        raise DataError(f"its {MANIFEST} is no manifest")
    prefix = manifest.get("prefix")
    return set() if prefix is None else {StoredFolder(str(prefix)).name}
