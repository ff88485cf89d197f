"""The sections of params.yaml: each parameter with its type, limits, default and meaning."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    knn: int | None = Field(
        None,
        ge=1,
        description="also classify test images by so many nearest labelled ones, compared by the "
        "network's features; null: not",
    )


class TrackingParams(Section):
    """MLflow; MLFLOW_TRACKING_URI overrides uri."""

    uri: str | None = Field(None, description="null: sqlite:///mlflow.db in the repository")
    experiment: str = Field("selftrain", min_length=1, description="MLflow experiment")
