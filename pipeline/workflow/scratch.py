"""The scratch folders of the stages: what is half done, and what DVC has not yet recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DataError, SelftrainError
from pipeline.files import discard_folder, file_digest, remove_partials, write_text
from pipeline.workflow.in_use import Marks
from pipeline.workflow.layout import STATE

if TYPE_CHECKING:
    from pipeline.data.storage import StoredFolder
    from pipeline.workflow.stage import Stage

FINISHED = ".finished"  # in the scratch folder of a stage that has come to its end
LOCK_FILE = "dvc.lock"


def prepare_scratch(root: Path, name: str) -> Path:
    """The scratch folder `name` under `root`; removes those that nobody needs any more.

    A stage that runs after another shows that DVC has recorded that other's outputs, as does a
    dvc.lock that is no longer the one at its end: no clock is asked, which may jump.
    """
    above = root / STATE / "scratch"
    scratch = above / name
    for finished in above.glob(f"*/{FINISHED}"):
        with suppress(FileNotFoundError):
            known = finished.read_bytes() != _recorded(root)
            if known or finished.parent != scratch:
                discard_folder(finished.parent)
    remove_partials(above)
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


@dataclass(frozen=True)
class Scratch:
    """A folder for what is half done, and its places in storage, by the fingerprint of both."""

    folder: Path
    fingerprint: str
    storage: StoredFolder | None
    marks: Marks

    def place_of(self, kind: str) -> Path | StoredFolder:
        """Where what is of this kind goes: below the folder, or in storage, marked as in use."""
        if self.storage is None:
            return self.folder / kind
        from pipeline.data.stored_shards import stored_prefix  # pyarrow takes a while to import

        prefix = stored_prefix(self.storage, kind, self.fingerprint)
        self.marks.add(prefix)
        return prefix


@contextmanager
def only_scratch(stage: Stage, fingerprint: str, storage: StoredFolder | None) -> Iterator[Scratch]:
    """A scratch folder for the block, removed with its end, as are the slices in storage.

    What a killed block left is taken up; that of another fingerprint, which may be large, goes.
    """
    folder = prepare_scratch(stage.root, f"{stage.title}-{fingerprint[:16]}")
    for other in folder.parent.glob(f"{stage.title}-*"):
        if other != folder:
            discard_folder(other)
    taken_up = any(folder.iterdir())
    scratch = Scratch(folder, fingerprint, storage, stage.marks)
    try:
        yield scratch
    except Exception as error:
        if taken_up and (damage := scratch_damage(folder, error)):
            raise damage from error
        raise
    slices = scratch.place_of("slices")
    if not isinstance(slices, Path):
        stage.marks.remove(slices)
    discard_folder(folder)


def finish_scratch(root: Path, scratch: Path) -> None:
    """Note that the stage at work in `scratch` has come to its end."""
    write_text(scratch / FINISHED, _recorded(root).decode())


def scratch_damage(scratch: Path, error: BaseException) -> DataError | None:
    """What a user reads where `error` comes of what an earlier run left in `scratch`, else None."""
    if isinstance(error, SelftrainError):
        return DataError(f"{error}; delete {scratch}") if str(scratch) in str(error) else None
    if not isinstance(error, ValueError | LookupError | TypeError):
        return None
    reason = str(error).partition("\n")[0][:200]
    return DataError(f"{scratch}: can't be taken up ({reason}); delete it")


def _recorded(root: Path) -> bytes:
    """The digest of what DVC has recorded by now."""
    lock = root / LOCK_FILE
    return file_digest(lock).encode() if lock.is_file() else b""
