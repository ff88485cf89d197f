"""The parameters of a run: typed, checked before any work, and read from params.yaml only here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.errors import ParameterError
from pipeline.params_errors import one_line

PARAMS_FILE = Path("params.yaml")

Views = Literal["centre", "flip", "five_crop", "ten_crop", "jitter"]
Operation = Literal[
    "identity",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "scale",
    "elastic",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "posterize",
    "solarize",
    "equalize",
    "autocontrast",
]


class Section(BaseModel):
    """A group of parameters: unknown keys are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataParams(Section):
    """Where the images come from, how they are stored, and how they are split."""

    source: Literal["digits", "folder", "parquet"] = Field(description="what holds the images")
    path: str | None = Field(None, description="folder, file or glob of the source")
    image_size: int = Field(ge=8, le=1024, description="side of the stored square images, pixels")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: RGB")
    labels: int | None = Field(
        None, ge=2, description="label budget, validation included; null: every label"
    )
    validation_fraction: float = Field(
        0.2, ge=0, lt=1, description="share of the labelled images kept for choices"
    )
    test_fraction: float = Field(
        0.2, ge=0, lt=1, description="share tested on, where the source names no test images"
    )
    max_pixels: int = Field(64_000_000, ge=64, description="larger images are quarantined")
    max_bad_fraction: float = Field(
        0.05, ge=0, le=1, description="share of unusable images past which prepare fails"
    )
    near_duplicate_distance: float = Field(
        1.0,
        ge=0,
        le=255,
        description="mean grey-level difference (0 to 255) under which two images are one; "
        "0: exact copies only",
    )
    images_per_shard: int = Field(4096, ge=1, description="rows of one shard file")

    @model_validator(mode="after")
    def _path_where_needed(self) -> DataParams:
        if self.source != "digits" and not self.path:
            raise ValueError(f"data.path is needed for data.source = {self.source}")
        return self


class ModelParams(Section):
    """The network."""

    name: str = Field("resnet_small", description="resnet_small, or a torchvision or timm name")
    width: int = Field(16, ge=1, le=1024, description="channels of resnet_small's first stage")
    depth: int = Field(1, ge=1, le=32, description="residual blocks in each stage of resnet_small")
    stem_stride: Literal[1, 2] = Field(
        1, description="of resnet_small's first convolution; 2 costs a quarter"
    )
    dropout_rate: float = Field(0.0, ge=0, lt=1, description="dropout before the classifier")
    stochastic_depth_rate: float = Field(
        0.0, ge=0, lt=1, description="chance that the last residual block is skipped"
    )


class AugmentParams(Section):
    """The weak and the strong view of a training image."""

    flip: bool = Field(False, description="mirror images left-right; wrong for digits and text")
    shift: float = Field(0.125, ge=0, le=0.5, description="weak: largest shift, share of the side")
    padding: Literal["reflect", "zeros"] = Field(
        "reflect", description="what a shift moves in: the mirrored image, or black"
    )
    num_ops: int = Field(2, ge=0, le=16, description="strong: RandAugment operations an image")
    magnitude: float = Field(10.0, ge=0, le=30, description="strong: their strength, 0 to 30")
    magnitude_std: float = Field(0.0, ge=0, le=30, description="strong: its standard deviation")
    magnitude_sampling: Literal["normal", "uniform"] = Field(
        "normal", description="strong: about the magnitude, or between 0 and it"
    )
    distinct_ops: bool = Field(False, description="strong: no operation twice for one image")
    cutout: float = Field(0.0, ge=0, le=1, description="strong: side of an erased square, share")
    operations: tuple[Operation, ...] = Field(
        (
            "identity",
            "rotate",
            "shear_x",
            "shear_y",
            "translate_x",
            "translate_y",
            "brightness",
            "contrast",
            "saturation",
            "sharpness",
            "posterize",
            "solarize",
            "equalize",
            "autocontrast",
        ),
        strict=False,
        min_length=1,
        description="strong: what RandAugment draws from",
    )


class TrainParams(Section):
    """One training run."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(64, ge=1, description="labelled images a step, over all workers")
    unlabeled_ratio: int = Field(
        3, ge=0, le=64, description="pseudo-labelled images a step for each labelled one"
    )
    unlabeled_weight: float = Field(1.0, ge=0, description="weight of the pseudo-label loss")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="on the true labels")
    labeled_augment: Literal["none", "weak", "strong"] = Field(
        "strong", description="view of the labelled images"
    )
    unlabeled_augment: Literal["none", "weak", "strong"] = Field(
        "strong", description="view of the pseudo-labelled images"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="SGD is with Nesterov momentum")
    learning_rate: float = Field(1e-3, gt=0, description="at its highest")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="not on biases and normalisation")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="of the steps, linear")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="of the averaged weights; 0: none")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; null: no limit")
    workers: int = Field(0, ge=0, description="Ray workers; 0: in the stage's own process")
    threads: int = Field(2, ge=1, description="CPU threads of each worker; part of the result")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one"
    )
    cache_gib: float = Field(4.0, gt=0, description="most memory for decoded images, GiB")
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="longest stretch of training a kill can cost"
    )
    log_every: int = Field(20, ge=1, description="steps between two logged points")

    @model_validator(mode="after")
    def _batches_divide(self) -> TrainParams:
        if self.workers and self.batch_size % self.workers:
            raise ValueError(
                f"train.batch_size = {self.batch_size}: must be a multiple of "
                f"train.workers = {self.workers}"
            )
        return self


class PredictParams(Section):
    """How a teacher labels the unlabelled images."""

    views: Views = Field("centre", description="views averaged for each image")
    jitter_views: int = Field(8, ge=1, le=256, description="number of views where views is jitter")
    batch_size: int = Field(512, ge=1, description="images a forward pass")
    actors: int = Field(1, ge=1, description="Ray actors at work at once")
    threads: int = Field(1, ge=1, description="CPU threads of each actor")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one"
    )


class SelectParams(Section):
    """Which predictions become pseudo-labels, and in which form."""

    confidence_threshold: float = Field(0.0, ge=0, le=1, description="least confidence kept")
    images_per_class: int | None = Field(
        None, ge=1, description="the surest so many of each class; null: see fraction_per_class"
    )
    fraction_per_class: float | None = Field(
        1.0,
        gt=0,
        description="the same as a share of (unlabelled images / classes); null: no balancing",
    )
    max_repeats: int = Field(4, ge=1, le=1000, description="times an image of a rare class counts")
    label_kind: Literal["soft", "hard"] = Field("soft", description="form of the target")
    temperature: float = Field(1.0, gt=0, description="of soft targets; under 1 sharpens")


class EvaluateParams(Section):
    """How models are measured."""

    views: Views = Field("centre", description="test-time views averaged for each image")
    jitter_views: int = Field(8, ge=1, le=256, description="number of views where views is jitter")
    batch_size: int = Field(512, ge=1, description="images a forward pass")
    bootstrap_samples: int = Field(1000, ge=100, description="resamples for the intervals")
    interval: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")
    threads: int = Field(2, ge=1, description="CPU threads")
    cache_gib: float = Field(4.0, gt=0, description="most memory for decoded images, GiB")


class TrackingParams(Section):
    """MLflow; MLFLOW_TRACKING_URI overrides uri."""

    uri: str | None = Field(None, description="null: sqlite:///mlflow.db in the repository")
    experiment: str = Field("selftrain", min_length=1, description="MLflow experiment")


class TrainingOverrides(Section):
    """What one model has other than the shared sections say."""

    model: dict[str, Any] = Field(default_factory=dict)
    augment: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)


class Generation(Section):
    """One generation: its teacher, and what it has other than the shared sections say."""

    teacher: str = Field(description='the generation that teaches it: the one before, as "0"')
    select: dict[str, Any] = Field(description="overrides of select; {} for none")
    student: TrainingOverrides = Field(description="overrides of its training; {} for none")


class Training(BaseModel):
    """The parameters of one training run, overrides applied."""

    model_config = ConfigDict(frozen=True)

    model: ModelParams
    augment: AugmentParams
    train: TrainParams


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(0, ge=0, lt=2**31, description="of the split and of every random draw")
    data: DataParams
    model: ModelParams = ModelParams()
    augment: AugmentParams = AugmentParams()
    train: TrainParams
    predict: PredictParams = PredictParams()
    select: SelectParams = SelectParams()
    evaluate: EvaluateParams = EvaluateParams()
    tracking: TrackingParams = TrackingParams()
    teacher: TrainingOverrides = TrainingOverrides()
    generations: dict[str, Generation] = Field(default_factory=dict)

    def training(self, generation: str) -> Training:
        """The training parameters of a generation; "0" is the teacher on the labels alone."""
        where, overrides = ("teacher", self.teacher)
        if generation != "0":
            where = f"generations.{generation}.student"
            overrides = self.generations[generation].student
        return Training(
            model=_merged(self.model, overrides.model, f"{where}.model"),
            augment=_merged(self.augment, overrides.augment, f"{where}.augment"),
            train=_merged(self.train, overrides.train, f"{where}.train"),
        )

    def selection(self, generation: str) -> SelectParams:
        """The selection parameters of a generation."""
        overrides = dict(self.generations[generation].select)
        targets = ("images_per_class", "fraction_per_class")
        if any(name in overrides for name in targets):  # either says the target anew
            overrides = dict.fromkeys(targets) | overrides
        return _merged(self.select, overrides, f"generations.{generation}.select")

    @property
    def model_keys(self) -> list[str]:
        """The generations that have a model, in order, "0" first."""
        return ["0", *self.generations]


SectionType = TypeVar("SectionType", bound=Section)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check every parameter in `path`.

    Raises ParameterError, one line: the file, the key, its value and what is allowed.
    """
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file; run from the folder that holds it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: can't be read ({error})") from None
    except YAMLError as error:
        raise ParameterError(f"{path}: not YAML: {_yaml_reason(error)}") from None
    return parse_params(values, str(path))


def parse_params(values: Any, file: str = str(PARAMS_FILE)) -> Params:
    """Check a dictionary as load_params does a file; `file` names it in the error."""
    if not isinstance(values, dict):
        raise ParameterError(f"{file}: must be a mapping of parameters, not {values!r}")
    params = _validated(Params, values, "", file)
    _check_generation_keys(params, file)
    for generation in params.model_keys:
        try:
            params.training(generation)
            if generation != "0":
                params.selection(generation)
        except ParameterError as error:
            raise ParameterError(f"{file}: {error}") from None
    return params


def _yaml_reason(error: YAMLError) -> str:
    """What ruamel.yaml found and where, without its advice on how to switch the check off."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        mark = error.problem_mark
        problem = " ".join(error.problem.split())
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return " ".join(str(error).split())


def _check_generation_keys(params: Params, file: str) -> None:
    for number, (key, generation) in enumerate(params.generations.items(), start=1):
        if key != str(number):
            raise ParameterError(
                f'{file}: generations.{key}: keys count up in order, "{number}" goes here'
            )
        if generation.teacher != str(number - 1):
            raise ParameterError(
                f"{file}: generations.{key}.teacher = {generation.teacher!r}: "
                f'must be the generation before, "{number - 1}"'
            )


def _merged(base: SectionType, overrides: dict[str, Any], where: str) -> SectionType:
    values = base.model_dump(mode="python") | overrides
    return _validated(type(base), values, where)


def _validated(
    section: type[SectionType], values: dict[str, Any], where: str = "", file: str = ""
) -> SectionType:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ParameterError(
            f"{file + ': ' if file else ''}{one_line(error, section, where)}"
        ) from None
