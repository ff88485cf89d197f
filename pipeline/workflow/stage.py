"""What every DVC stage has around its work: parameters, a lock, scratch space, tracking, errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from pipeline.errors import BusyError, ParameterError
from pipeline.files import value_digest
from pipeline.params import Params, load_params
from pipeline.program import CODE, folder_digest
from pipeline.progress import say
from pipeline.ray.session import VERBOSE
from pipeline.tasks import Task, open_task
from pipeline.tracking.server import tracking_uri
from pipeline.tracking.tracker import RunInfo, Tracker
from pipeline.workflow.command import command_parser, exit_code
from pipeline.workflow.in_use import Marks
from pipeline.workflow.layout import STATE, Layout
from pipeline.workflow.scratch import LOCK_FILE, finish_scratch, prepare_scratch, scratch_damage
from pipeline.workflow.stop import end_with_dvc, interrupt_on_signals
from pipeline.workflow.times import check_planned, note_time, position
from pipeline.workflow.unchanged import unchanged_dependencies

if TYPE_CHECKING:
    from pipeline.data.storage import StoredFolder

LOCK_SECONDS = 8.0  # that a stage which is asked to end, as when its DVC was killed, may take
PARTS = ("labeled", "unlabeled", "validation", "test")


@dataclass
class Run:
    """One execution of a stage: a scratch folder of its own and where its figures go.

    The scratch folder is named by the digest of code, parameters and inputs: what a killed run
    left there is taken up by a rerun of the same and never seen by another. It stays until DVC has
    recorded the outputs, since a kill before that lets DVC delete them and run the stage again.
    `fingerprint` is that digest, SHA-256; `images`: how many went through, each time it did, for
    the table of times.
    """

    scratch: Path
    tracker: Tracker
    fingerprint: str
    marks: Marks
    images: int = 0

    def destination(
        self, storage: StoredFolder | None, kind: str, folder: Path, *parts: str
    ) -> Path | StoredFolder:
        """Where workers write shards: `folder`, or their place in storage, marked as in use.

        parts: which of this stage's folders of that kind, where it has several.
        """
        if storage is None:
            return folder
        from pipeline.data.stored_shards import stored_prefix

        digest = value_digest([self.fingerprint, *parts]) if parts else self.fingerprint
        prefix = stored_prefix(storage, kind, digest)
        self.marks.add(prefix)
        return prefix


@dataclass(frozen=True)
class Stage:
    """A stage at work in the repository's folder."""

    name: str
    generation: str | None
    params: Params
    root: Path
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def layout(self) -> Layout:
        """Where the stages' outputs lie."""
        return Layout(self.root)

    @cached_property
    def task(self) -> Task:
        """What is learnt of the images."""
        return open_task(self.params.task)

    @cached_property
    def marks(self) -> Marks:
        """Of what it works on in storage."""
        return Marks(self.root)

    @property
    def title(self) -> str:
        """The stage's name as DVC shows it."""
        return self.name if self.generation is None else f"{self.name}@{self.generation}"

    @property
    def model(self) -> str:
        """The name of the model at work: its generation, "2.1" of ensemble.seeds, "0.longer" of
        controls."""
        return self.generation or "0"

    @property
    def key(self) -> str:
        """The generation; "0" where the stage has none."""
        return self.model.partition(".")[0]

    def fingerprint(self, inputs: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
        """SHA-256 of the code, of the digests of inputs and of parameters: what names a scratch
        folder."""
        return value_digest(
            {
                "stage": self.title,
                "code": [folder_digest(CODE / "pipeline"), folder_digest(CODE / "stages")],
                "inputs": dict(inputs),
                "parameters": dict(parameters),
            }
        )

    @contextmanager
    def run(self, inputs: Mapping[str, str], parameters: Mapping[str, Any]) -> Iterator[Run]:
        """Scratch space and tracking for the work in the block.

        `inputs`: digests by name; `parameters`: all that the outputs depend on, as JSON values.
        """
        fingerprint = self.fingerprint(inputs, parameters)
        scratch = prepare_scratch(self.root, f"{self.title}-{fingerprint[:16]}")
        taken_up = any(scratch.iterdir())
        commit = git_commit(self.root)
        tracker = self._tracker(fingerprint, dict(inputs), commit)
        run = Run(scratch, tracker, fingerprint, self.marks)
        try:
            tracker.parameters(flat(parameters))
            tracker.parameters(flat(self._parameters), lineage=True)
            tracker.inputs(self.params.data.source, self._datasets(inputs))
            if (recorded := self.root / LOCK_FILE).exists():
                tracker.artifact(recorded)  # as DVC has recorded what this stage reads
            yield run
            seconds = time.monotonic() - self.started
            tracker.metrics({"seconds": seconds})
            note_time(self.root, self.title, seconds=seconds, images=run.images, commit=commit)
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt)
            with suppress(OSError):  # a full disk, which `error` tells of
                tracker.finish("KILLED" if killed else "FAILED")
            if taken_up and (damage := scratch_damage(scratch, error)):
                raise damage from error
            raise
        tracker.finish("FINISHED")
        finish_scratch(self.root, scratch)

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """Those of the whole run that its outputs may depend on."""
        return self.params.model_dump(mode="json", exclude={"run", "tracking", "storage"})

    def _tracker(self, fingerprint: str, inputs: dict[str, str], commit: str) -> Tracker:
        lineage_key, lineage_name = self.layout.lineage(self.params.data.title, self._parameters)
        tags = {"stage": self.name, "fingerprint": fingerprint, "git_commit": commit}
        tags |= {
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": f"stages/{self.name}.py",
            "mlflow.source.git.commit": commit,
        }
        if self.generation is not None or self.name == "train_teacher":
            tags["generation"] = self.model
        tags |= {f"input.{name}": digest for name, digest in inputs.items()}
        info = RunInfo(
            run_key=f"{self.title}-{fingerprint[:16]}",
            name=self.title,
            lineage_key=lineage_key,
            lineage_name=lineage_name,
            tags=tags,
            started=time.time() - (time.monotonic() - self.started),
            experiment=self.params.tracking.experiment or self.params.data.title,
        )
        return Tracker(self.root, info, self.params.tracking.uri)

    def _datasets(self, inputs: Mapping[str, str]) -> dict[str, tuple[Path, str]]:
        """The folder of shards and the digest of each of `inputs` that has one, by name."""
        layout, prepared = self.layout, self.layout.prepared
        folders = {part: prepared / part for part in PARTS}
        folders |= {
            "predictions": layout.predictions(self.key),
            "pseudo_labels": layout.pseudo_labels(self.key),
        }
        return {name: (folders[name], inputs[name]) for name in folders if name in inputs}


def run_stage(
    name: str,
    work: Callable[[Stage], None],
    *,
    models: Literal["generations", "ensemble", "controls", "all"] | None = None,
) -> None:
    """Run `work` as the stage `name` and exit with its code.

    models: which of them it can work on, one at a time, as `--generation` names it: "2", "2.1" of
    ensemble.seeds, "0.longer" of controls; None: on no single one. A SelftrainError is shown as
    one line on stderr: exit code 2 for a wrong parameter, else 1.
    """
    parser = command_parser(name, work.__doc__, "python -m stages.{}")
    if models is not None:
        parser.add_argument("--generation", required=True, help='generation, "0" for the labels')
    parser.add_argument("--verbose", action="store_true", help=f"show what Ray says; {VERBOSE}=1")
    arguments = parser.parse_args()
    generation = getattr(arguments, "generation", None)
    if arguments.verbose:
        os.environ[VERBOSE] = "1"

    def run() -> None:
        params = load_params()
        check_planned(params)
        tracking_uri(Path.cwd(), params.tracking.uri)  # refused before any work
        if generation is not None:
            _check_model(params, models, generation)
        stage = Stage(name, generation, params, Path.cwd())
        interrupt_on_signals()
        end_with_dvc()
        with unchanged_dependencies(stage.root), _locked(stage), stage.marks.renewed():
            if line := position(stage.title):
                say(f"{stage.title}: {line}")
            stage.layout.remove_partials()
            work(stage)

    if code := exit_code(name, run, "a rerun goes on from here"):
        sys.exit(code)


def _check_model(params: Params, models: str | None, key: str) -> None:
    there = {
        "generations": [*params.generations],
        "ensemble": [*params.generations, *params.seed_keys],
        "controls": params.control_keys,
        "all": params.all_models,
    }[str(models)]
    if key not in there:
        names = ", ".join(there) or "none"
        raise ParameterError(f"--generation {key}: params.yaml has {names}")


@contextmanager
def _locked(stage: Stage) -> Iterator[None]:
    folder = stage.root / STATE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{stage.title}.lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise BusyError(
            f"another process runs {stage.title} in this folder; wait for it, or end it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def git_commit(root: Path) -> str:
    """The commit checked out in `root`; without one what SELFTRAIN_COMMIT says, else "none"."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        commit = answer.stdout.strip()
    except OSError:
        commit = ""
    return commit or os.environ.get("SELFTRAIN_COMMIT", "none")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def result_line(stage: Stage, text: str) -> None:
    """The one line that says what a stage came to."""
    say(f"{stage.title}: {text}")
