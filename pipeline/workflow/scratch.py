"""The scratch folders of the stages: what is half done, and what DVC has not yet recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DataError, SelftrainError
from pipeline.files import discard_folder, file_digest, remove_partials, write_text
from pipeline.workflow.layout import STATE

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


@contextmanager
def only_scratch(root: Path, stage: str, fingerprint: str) -> Iterator[Path]:
    """The scratch folder of a stage for the block, removed with its end.

    What a killed block left is taken up; that of another fingerprint, which may be large, goes.
    """
    scratch = prepare_scratch(root, f"{stage}-{fingerprint[:16]}")
    for other in scratch.parent.glob(f"{stage}-*"):
        if other != scratch:
            discard_folder(other)
    taken_up = any(scratch.iterdir())
    try:
        yield scratch
    except Exception as error:
        if taken_up and (damage := scratch_damage(scratch, error)):
            raise damage from error
        raise
    discard_folder(scratch)


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
