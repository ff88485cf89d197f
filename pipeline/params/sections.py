"""The sections of params.yaml: each parameter with its type, limits, default and meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipeline.addresses import CREDENTIALS, has_credentials, storage_problem, without_secrets

Device = Literal["auto", "cpu", "cuda"]
TaskName = Literal["classification", "segmentation"]
EMBEDDED = ("digits", "digit_scenes")  # sources that need no path
SOURCES: dict[TaskName, tuple[str, ...]] = {
    "classification": ("digits", "folder", "manifest", "parquet"),
    "segmentation": ("digit_scenes", "masks", "coco", "parquet"),
}
DEFAULT_TASK: TaskName = "classification"
ADDRESSES = ("uri", "url")  # fields that hold nothing else
MaxPixels = Annotated[int, Field(ge=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def tasks_of(source: str) -> list[TaskName]:
    """The tasks that a source may have answers for, the usual one first."""
    return [task for task, sources in SOURCES.items() if source in sources]


class Section(BaseModel):
    """A group of parameters: unknown keys are refused, types are not guessed."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_credentials(cls, value: Any, info: ValidationInfo) -> Any:
        is_address = isinstance(value, str) and ("://" in value or info.field_name in ADDRESSES)
        if is_address and has_credentials(value):
            raise PydanticCustomError("credentials", CREDENTIALS)
        return value


class DataParams(Section):
    """Where the images come from, how they are stored, and how they are split."""

    source: Literal["digits", "digit_scenes", "folder", "manifest", "masks", "coco", "parquet"]
    """what holds the images"""
    path: str | None = Field(None)
    """folder, file or glob of the source; also an address, as s3://bucket/folder
    (docs/storage.md)"""
    name: str | None = Field(None, min_length=1, max_length=100)
    """of the data in the report and in MLflow; null: the folder's or file's"""
    path_column: str | None = None
    """manifest, masks, parquet: column of paths or images; null: found by name"""
    label_column: str | None = None
    """manifest, parquet: column of labels, or of masks; masks: of their files; null: found by
    name"""
    group_column: str | None = None
    """manifest, masks, parquet: column of what must not be split, as a patient's name; null: every
    image stands alone"""
    group_pattern: str | None = None
    r"""folder, masks, coco: regular expression with one group, searched in the path, as
    (patient_\d+); images with the same match are not split; null: every image stands alone"""
    image_size: int = Field(ge=8, le=1024, description="side of the stored square images, pixels")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: RGB")
    labels: int | None = Field(None, ge=2)
    """label budget, validation included; null: every label"""
    validation: Literal["held_out", "folds"] = "held_out"
    """what choices rest on; held_out: labelled images that nothing is trained on; folds: no image
    is given up, classifiers on features are cross-validated"""
    validation_fraction: float = Field(0.2, ge=0, lt=1)
    """held_out: share of the labelled images kept for choices"""
    folds: int = Field(5, ge=2, le=20, description="folds: parts of the cross-validation")
    test_fraction: float = Field(0.2, ge=0, lt=1)
    """share tested on, where the source names no test images"""
    bits: int | None = Field(None, ge=8, le=16)
    """those in use of images of 16 bits, as 12 of scans; null: 16"""
    max_pixels: MaxPixels = Field(64_000_000, description="larger images are quarantined")
    max_bad_fraction: float = Field(0.05, ge=0, le=1)
    """share of unusable images past which prepare fails"""
    near_duplicate_distance: float = Field(1.0, ge=0, le=255)
    """mean grey-level difference (0 to 255) up to which two images may be one, if nothing but
    compression or scaling tells them apart; 0: exact copies only"""
    images_per_shard: int = Field(4096, ge=1, description="rows of one shard file")
    corrections: str | None = None
    """corrections.csv: labels that a person gave to single images, beyond the budget
    (docs/corrections.md); null: not"""

    @property
    def title(self) -> str:
        """`name`, else that of the folder or file, of a glob that of the folder it is in."""
        if self.name or not self.path:
            return self.name or self.source
        path = self.path.partition("?")[0] if "://" in self.path else self.path
        parts = [part for part in Path(path).absolute().parts if not re.search(r"[*?[]", part)]
        return re.sub(r"\.(parquet|csv|tsv)$", "", parts[-1]).strip("/") or self.source

    @property
    def columns(self) -> dict[str, str | None]:
        """The columns that are named, by what they hold."""
        return {"path": self.path_column, "label": self.label_column, "group": self.group_column}

    @property
    def held_out_fraction(self) -> float:
        """The share of the labelled images that nothing is trained on."""
        return self.validation_fraction if self.validation == "held_out" else 0.0

    @model_validator(mode="after")
    def _path_where_needed(self) -> DataParams:
        if self.source not in EMBEDDED and not self.path:
            raise ValueError(f"data.path is needed for data.source = {self.source}")
        if "://" in (self.path or "") and (problem := storage_problem(self.path or "")):
            raise ValueError(f"data.path = {without_secrets(self.path or '')!r}: {problem}")
        if self.corrections not in (None, "corrections.csv"):
            raise ValueError(
                f"data.corrections = {self.corrections!r}: must be corrections.csv, the file that "
                "DVC watches, or null"
            )
        return self


class SelectParams(Section):
    """Which predictions become pseudo-labels, and in which form."""

    confidence_threshold: float = Field(0.0, ge=0, le=1, description="least confidence kept")
    class_thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """the same for single classes, by name; replaces it there"""
    threshold_kind: Literal["fixed", "relative"] = "fixed"
    """relative: a class's threshold is lowered to its share of sure images (of the class that has
    most); class_thresholds stay"""
    distribution_alignment: Literal["none", "uniform", "labeled", "estimated"] = "none"
    """first move all predictions together until their mean has equal shares of the classes, those
    of the labelled images, or those that the predictions say the unlabelled have"""
    images_per_class: int | None = Field(None, ge=1)
    """the surest so many images of each class; null: see fraction_per_class"""
    fraction_per_class: float | None = Field(1.0, gt=0)
    """balancing: images_per_class as a share of (unlabelled images / classes); of pixels the share
    of those predicted as a class that is kept of it; null: none"""
    max_repeats: int = Field(4, ge=1, le=1000, description="times an image of a rare class counts")
    strangers: Literal["keep", "drop"] = "keep"
    """images that predictions call strangers, of none of the classes: keep: treated as the others;
    drop: left out before anything is counted"""
    label_kind: Literal["soft", "hard"] = Field("soft", description="form of the target")
    temperature: float = Field(1.0, gt=0, description="of soft targets; under 1 sharpens")


class GuardParams(Section):
    """When a generation is a step back; measured on validation and unlabelled images, not test."""

    on_regression: Literal["warn", "stop", "ignore"] = "warn"
    """stop: no later generation is taught; ignore: nothing is looked for"""
    interval: float = Field(0.95, gt=0, lt=1)
    """of the paired test of a student against its teacher"""
    min_coverage: float = Field(0.0, ge=0, le=1)
    """least share of the unlabelled images kept"""
    min_class_images: int = Field(1, ge=0)
    """fewest pseudo-labelled images of a class; 0: it may vanish"""


class SeedMember(Section):
    """A generation's student trained once more, with another seed, for the ensemble alone."""

    generation: str = Field(description='which one, as in the key: "2"')
    teacher: str = Field(description='the generation that teaches it, as there: "1"')


class EnsembleParams(Section):
    """All generations as one model."""

    method: Literal["equal", "greedy", "none"] = "equal"
    """greedy: members and weights chosen on validation images"""
    seeds: dict[str, SeedMember] = Field(default_factory=dict)
    """students trained once more with another seed, by generation and a number that counts up,
    quoted; {} for none"""
    ship: Literal["champion", "ensemble"] = "champion"
    """what the stage ensemble logs and `selftrain predict` uses: the champion alone, or the
    ensemble; images are seen as evaluate says"""
    label_issue_margin: float = Field(0.5, ge=0, le=1)
    """how much surer of another class than of its label the models must be for a labelled image to
    be listed in label_issues.csv"""


class ControlParams(Section):
    """Generation 0 trained once more, on the labels alone, to compare the generations with."""

    steps: int = Field(ge=1)
    """optimizer steps; as many as all generations together are a fair match"""
    like: Literal["teacher", "student"] = "teacher"
    """whose training it has: generation 0's, or that of the shared sections, each step with as many
    images as a student's, labelled ones alone"""


class TrackingParams(Section):
    """MLflow; MLFLOW_TRACKING_URI overrides uri."""

    uri: str | None = Field(None, description="null: sqlite:///mlflow.db in the repository")
    experiment: str | None = Field(None, min_length=1, description="MLflow's; null: data.name")


class StorageParams(Section):
    """Shared storage for shards; the repository then holds their manifests alone."""

    url: str | None = None
    """a folder, as file:///shared/mine, s3://bucket/mine or gs://bucket/mine; null: in the
    repository"""

    @model_validator(mode="after")
    def _address_allowed(self) -> StorageParams:
        if self.url is not None and (problem := storage_problem(self.url)):
            raise ValueError(f"storage.url = {without_secrets(self.url)!r}: {problem}")
        return self


class RunParams(Section):
    """How fast a run goes; no output depends on it, so a change makes no stage run again, and what
    was stopped goes on. The section may be left out."""

    actors: int | list[int] = 0
    """Ray actors that predict or embed at once; [fewest, most]: as many as there is room for; 0: in
    the stage's own process"""
    gpus_per_actor: float = Field(1.0, gt=0, le=1)
    """of an actor that works on a GPU; 0.5: two share one"""
    prepare_workers: int = Field(0, ge=0)
    """Ray tasks that prepare at once; 0: threads of the stage's own process, one a core"""
    select_workers: int = Field(0, ge=0)
    """Ray tasks that select, or look for the report's images, at once; 0: in the stage's own
    process"""
    select_threads: int = Field(2, ge=1)
    """CPU threads of select in the stage's own process"""
    checkpoint_minutes: float = Field(5.0, gt=0)
    """longest stretch of training a kill can cost"""

    @field_validator("actors", mode="before")
    @classmethod
    def _one_or_two_counts(cls, value: Any) -> Any:
        if type(value) is int and value >= 0:
            return value
        counts = value if isinstance(value, list) else []
        if list(map(type, counts)) != [int, int] or not 1 <= counts[0] <= counts[1]:
            raise ValueError(f"run.actors = {value!r}: must be a number from 0, or [fewest, most]")
        return value

    @property
    def actor_range(self) -> tuple[int, int]:
        """The fewest and the most actors at work; (0, 0): none."""
        fewest, most = [self.actors] * 2 if isinstance(self.actors, int) else self.actors
        return fewest, most
