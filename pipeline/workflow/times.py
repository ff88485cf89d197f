"""How long each stage took when it last ran here, and how far a run is: never in an output."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import ParameterError
from pipeline.files import read_json, value_digest, write_json
from pipeline.params import Params
from pipeline.workflow.layout import STATE

FOLDER = STATE / "times"
PLAN = "SELFTRAIN_PLAN"  # of the environment: the seconds of each stage that is to run, in order
PARAMS = "SELFTRAIN_PARAMS"  # the digest of the parameters that they were planned for


@dataclass(frozen=True)
class StageTime:
    """One run of a stage: seconds, images that went through it (0: not counted), commit, end."""

    stage: str
    seconds: float
    images: int
    commit: str
    ended: str

    @property
    def images_per_second(self) -> float | None:
        """Images by seconds, those of starting included; None where none were counted."""
        return self.images / self.seconds if self.images and self.seconds > 0 else None


def note_time(root: Path, stage: str, *, seconds: float, images: int, commit: str) -> None:
    """Keep the time of a stage's run, in place of that of the run before."""
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        root / FOLDER / f"{stage}.json", asdict(StageTime(stage, seconds, images, commit, ended))
    )


def read_times(root: Path, stages: Sequence[str]) -> list[StageTime]:
    """What is known of these stages, in this order; those that did not run here are left out."""
    found = []
    for stage in stages:
        with suppress(FileNotFoundError, ValueError, TypeError):  # an older form is not known
            found.append(StageTime(**read_json(root / FOLDER / f"{stage}.json")))
    return found


def stage_names(
    generations: Sequence[str], seeds: Sequence[str], controls: Sequence[str] = ()
) -> list[str]:
    """The stages of a run in order; generations without "0"; seeds: "2.1"; controls: "0.longer"."""
    names = ["prepare", "embed", "search", "train_teacher", "evaluate@0"]
    for key in generations:
        names += [f"{stage}@{key}" for stage in ("pseudo_label", "select", "train_student")]
        names.append(f"evaluate@{key}")
    names += [f"{stage}@{key}" for key in seeds for stage in ("train_student", "evaluate")]
    names += [f"{stage}@{key}" for key in controls for stage in ("train_control", "evaluate")]
    return [*names, "ensemble", "baseline"]


def position(stage: str) -> str | None:
    """Where the stage is in the plan of `selftrain run`, and how long is left; None without one."""
    plan: dict[str, float | None] = json.loads(os.environ.get(PLAN, "{}"))
    if stage not in plan:
        return None
    number = [*plan].index(stage)
    left = [seconds for seconds in [*plan.values()][number:] if seconds is not None]
    known = f", {minutes(sum(left))} left" if len(left) == len(plan) - number else ""
    return f"stage {number + 1} of {len(plan)}{known}"


def parameters_digest(params: Params) -> str:
    """Of all that an output may depend on."""
    return value_digest(params.model_dump(mode="json", exclude={"run"}))


def check_planned(params: Params) -> None:
    """Raise ParameterError where these are not the parameters that `selftrain run` started with:
    its stages would make one run of two sets of them."""
    if os.environ.get(PARAMS, digest := parameters_digest(params)) != digest:
        raise ParameterError("params.yaml: changed while the run was at work; selftrain run again")


def in_words(seconds: dict[str, float]) -> str:
    """Seconds by stage as a person says it: "about 25 minutes (train_student 14, embed 3, …)"."""
    kinds: dict[str, float] = {}
    for stage, each in seconds.items():
        kind = stage.partition("@")[0]
        kinds[kind] = kinds.get(kind, 0.0) + each
    shown = ", ".join(
        f"{kind} {each / 60:.0f}"
        for kind, each in sorted(kinds.items(), key=lambda part: -part[1])
        if each >= 30
    )
    return minutes(sum(seconds.values())) + (f" ({shown})" if shown else "")


def minutes(seconds: float) -> str:
    """A length of time as a person says it."""
    whole = max(1, round(seconds / 60))
    return f"about {whole} minute{'s' if whole > 1 else ''}"
