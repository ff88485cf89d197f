"""The sections of params.yaml: each parameter with its type, limits, default and meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

Views = Literal["centre", "flip", "five_crop", "ten_crop", "multi_scale", "jitter"]


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


class NetworkParams(Section):
    """What builds a network."""

    name: str = Field(
        "resnet_small",
        description="resnet_small, lenet5, wrn_28_2 (any wrn_DEPTH_WIDTH), efficientnet, "
        "deformable_resnet50, or a torchvision or timm name",
    )
    width: int = Field(16, ge=1, le=1024, description="channels of resnet_small's first stage")
    depth: int = Field(1, ge=1, le=32, description="residual blocks in each stage of resnet_small")
    stem_stride: Literal[1, 2] = Field(
        1, description="of resnet_small's first convolution; 2 costs a quarter"
    )
    compound: int = Field(
        0, ge=0, le=7, description="efficientnet's depth, width and image side at once: B0 to B7"
    )
    stem: Literal["auto", "small", "standard"] = Field(
        "auto",
        description="of a library's network; small: 3×3, stride 1, no pooling; auto: small where "
        "the network would shrink images of up to 64 pixels fourfold at once",
    )
    input_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="side that images are resized to for the network; null: data.image_size "
        "(efficientnet: at most the published side of its compound)",
    )
    dropout_rate: float = Field(
        0.0, ge=0, lt=1, description="dropout before the classifier; of wrn in each block"
    )
    stochastic_depth_rate: float = Field(
        0.0, ge=0, lt=1, description="chance that the last residual block is skipped"
    )


class ModelParams(NetworkParams):
    """The network."""

    ladder: tuple[NetworkParams, ...] | None = Field(
        None,
        strict=False,
        min_length=1,
        description="what `grow` climbs: overrides of model, smallest first; null: the sizes of "
        "the network's family",
    )

    @property
    def network(self) -> dict[str, Any]:
        """The parameters that build the network, by name."""
        return self.model_dump(exclude={"ladder"})

    @property
    def rungs(self) -> list[dict[str, Any]] | None:
        """What each rung of the ladder says, None for the family's own ladder."""
        if self.ladder is None:
            return None
        return [rung.model_dump(exclude_unset=True) for rung in self.ladder]

    @field_serializer("ladder")
    def _only_what_is_said(self, ladder: Any) -> list[dict[str, Any]] | None:
        return self.rungs


class OnlineParams(Section):
    """An online teacher: the student's own average labels the weak view while it trains."""

    start_fraction: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="share of the steps before it, on the stored pseudo-labels of the generation",
    )
    confidence_threshold: float = Field(
        0.95, ge=0, le=1, description="least confidence that counts; after alignment"
    )
    label_kind: Literal["soft", "hard"] = Field("hard", description="form of the target")
    temperature: float = Field(1.0, gt=0, description="of soft targets; under 1 sharpens")
    distribution_alignment: bool = Field(
        True, description="scale predictions so that classes come as often as among the labels"
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
    distillation_weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of the teacher's soft labels in the loss on labelled images; the rest is of "
        "the true ones; generation 0 has no teacher",
    )
    distillation_temperature: float = Field(
        1.0, gt=0, description="of soft labels and of the student where it learns from them"
    )
    online: OnlineParams | None = Field(
        None, description="students: the average of the student itself as a teacher"
    )
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
    image_size: int | None = Field(
        None, ge=8, description="side of training images before fine-tuning; null: as stored"
    )
    finetune_steps: int = Field(
        0, ge=0, description="last of the steps, on un-augmented labelled images as stored"
    )
    finetune_learning_rate: float = Field(1e-4, gt=0, description="at the start of fine-tuning")
    keep: Literal["last", "best"] = Field(
        "last", description="averaged weights kept: best: the most accurate on validation"
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="validations (ten a run) without a better one after which training stops; "
        "null: it goes on",
    )
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
        if self.finetune_steps > self.steps:
            raise ValueError(
                f"train.finetune_steps = {self.finetune_steps}: at most "
                f"train.steps = {self.steps}, of which they are the last"
            )
        return self


class PredictParams(Section):
    """How a teacher labels the unlabelled images."""

    teacher: Literal["last", "ensemble"] = Field(
        "last", description="the generation before, or the equal average of all before"
    )
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
    class_thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="the same for single classes, by name; replaces it there"
    )
    threshold_kind: Literal["fixed", "relative"] = Field(
        "fixed",
        description="relative: a class's threshold is lowered to its share of sure images "
        "(of the class that has most); class_thresholds stay",
    )
    distribution_alignment: Literal["none", "uniform", "labeled"] = Field(
        "none",
        description="first move the mean prediction to equal shares of the classes, or to those "
        "of the labelled images",
    )
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


class GuardParams(Section):
    """When a generation is a step back; measured on validation and unlabelled images, not test."""

    on_regression: Literal["warn", "stop", "ignore"] = Field(
        "warn", description="stop: no later generation is taught; ignore: nothing is looked for"
    )
    interval: float = Field(
        0.95, gt=0, lt=1, description="of the paired test of a student against its teacher"
    )
    min_coverage: float = Field(
        0.0, ge=0, le=1, description="least share of the unlabelled images kept"
    )
    min_class_images: int = Field(
        1, ge=0, description="fewest pseudo-labelled images of a class; 0: it may vanish"
    )


class EnsembleParams(Section):
    """All generations as one model."""

    method: Literal["equal", "greedy", "none"] = Field(
        "equal", description="greedy: members and weights chosen on validation images"
    )
    label_issue_margin: float = Field(
        0.5,
        ge=0,
        le=1,
        description="how much surer of another class than of its label the models must be for a "
        "labelled image to be listed in label_issues.csv",
    )


class EvaluateParams(Section):
    """How models are measured."""

    views: Views = Field("centre", description="test-time views averaged for each image")
    jitter_views: int = Field(8, ge=1, le=256, description="number of views where views is jitter")
    batch_size: int = Field(512, ge=1, description="images a forward pass")
    bootstrap_samples: int = Field(1000, ge=100, description="resamples for the intervals")
    interval: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")
    threads: int = Field(2, ge=1, description="CPU threads")
    cache_gib: float = Field(4.0, gt=0, description="most memory for decoded images, GiB")
    knn: int | None = Field(
        None,
        ge=1,
        description="also classify test images by so many nearest labelled ones, compared by the "
        "network's features; null: not",
    )
    robustness_images: int | None = Field(
        None,
        ge=1,
        description="also test on so many of the test images (all, where there are fewer) under "
        "common corruptions at five severities, one centre view: 75 more passes; null: not",
    )


class TrackingParams(Section):
    """MLflow; MLFLOW_TRACKING_URI overrides uri."""

    uri: str | None = Field(None, description="null: sqlite:///mlflow.db in the repository")
    experiment: str = Field("selftrain", min_length=1, description="MLflow experiment")
