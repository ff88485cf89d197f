"""The section of a training run, and all that one run is made of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import ParameterError
from pipeline.params.augment import AugmentParams
from pipeline.params.network import ModelParams
from pipeline.params.sections import Device, Section
from pipeline.params.transfer import TransferParams, check_packaged


class OnlineParams(Section):
    """An online teacher: the student's own average labels the weak view while it trains."""

    start_fraction: float = Field(0.3, ge=0, lt=1)
    """share of the steps before it, on the stored pseudo-labels of the generation"""
    confidence_threshold: float = Field(0.95, ge=0, le=1)
    """least confidence that counts; after alignment"""
    label_kind: Literal["soft", "hard"] = Field("hard", description="form of the target")
    temperature: float = Field(1.0, gt=0, description="of soft targets; under 1 sharpens")
    distribution_alignment: bool = True
    """scale predictions so that classes come as often as among the labels"""


class TrainParams(Section):
    """One training run."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(64, ge=1, description="labelled images a step, over all workers")
    unlabeled_ratio: int = Field(3, ge=0, le=64)
    """pseudo-labelled images a step for each labelled one"""
    unlabeled_weight: float = Field(1.0, ge=0, description="weight of the pseudo-label loss")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="on the true labels")
    distillation_weight: float = Field(0.0, ge=0, le=1)
    """of the teacher's soft labels in the loss on labelled images; the rest is of the true ones;
    generation 0 has no teacher"""
    distillation_temperature: float = Field(1.0, gt=0)
    """of soft labels and of the student where it learns from them"""
    contrastive_weight: float = Field(0.0, ge=0)
    """students: of the loss that tells two noised views of an unlabelled image from those of
    others"""
    contrastive_temperature: float = Field(0.2, gt=0)
    """of how alike two views are; less looks at the closest alone"""
    online: OnlineParams | None = None
    """students: the average of the student itself as a teacher"""
    labeled_augment: Literal["none", "weak", "strong"] = "strong"
    """view of the labelled images"""
    unlabeled_augment: Literal["none", "weak", "strong"] = "strong"
    """view of the pseudo-labelled images"""
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="SGD is with Nesterov momentum")
    learning_rate: float = Field(1e-3, gt=0, description="at its highest")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="not on biases and normalisation")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="of the steps, linear")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="of the averaged weights; 0: none")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; null: no limit")
    image_size: int | None = Field(None, ge=8)
    """side of training images before fine-tuning; null: as stored"""
    finetune_steps: int = Field(0, ge=0)
    """last of the steps, on un-augmented labelled images as stored"""
    finetune_learning_rate: float = Field(1e-4, gt=0, description="at the start of fine-tuning")
    keep: Literal["last", "best"] = "last"
    """averaged weights kept: best: the most accurate on validation"""
    patience: int | None = Field(None, ge=1)
    """validations (ten a run) without a better one after which training stops; null: it goes on"""
    workers: int = Field(0, ge=0, description="Ray workers; 0: in the stage's own process")
    min_workers: int | None = Field(None, ge=1)
    """fewest workers to go on with where nodes are lost; null: all of them"""
    gpus_per_worker: float = Field(1.0, gt=0, le=1)
    """of a worker on a GPU; 0.5: two share one"""
    sync_batchnorm: bool = False
    """batch statistics over all workers, not of each; on GPUs only"""
    threads: int = Field(2, ge=1, description="CPU threads of each worker; part of the result")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the network's passes, not of its weights and losses; auto: bfloat16 on a GPU that has it,
    and on a CPU that has it where the network is large enough to gain by it and has no depthwise
    convolutions"""
    device: Device = Field("auto", description="auto: a GPU if there is one")
    cache_gib: float = Field(4.0, gt=0)
    """most memory for the images of a folder and their masks, GiB: more are streamed from their
    shards"""
    log_every: int = Field(20, ge=1, description="steps between two points of the curves")

    def images_a_step(self, *, taught: bool) -> int:
        """Images of one step: the labelled ones and, where it is taught, the pseudo-labelled, both
        views of them where they are contrasted."""
        views = 2 if self.contrastive_weight > 0 else 1
        return self.batch_size * (1 + (views * self.unlabeled_ratio if taught else 0))

    @model_validator(mode="after")
    def _batches_divide(self) -> TrainParams:
        fewest = self.world_sizes.start
        if fewest > max(1, self.workers):
            raise ValueError(
                f"train.min_workers = {self.min_workers}: at most train.workers = {self.workers}"
            )
        if wrong := [size for size in self.world_sizes if self.batch_size % size]:
            raise ValueError(
                f"train.batch_size = {self.batch_size}: must be a multiple of {wrong[-1]}, "
                f"{self.names_world_size(wrong[-1])}"
            )
        if self.sync_batchnorm and self.device == "cpu":
            raise ValueError(
                "train.sync_batchnorm = True: torch has it for GPUs only, but train.device = cpu"
            )
        if self.finetune_steps > self.steps:
            raise ValueError(
                f"train.finetune_steps = {self.finetune_steps}: at most "
                f"train.steps = {self.steps}, of which they are the last"
            )
        return self

    @property
    def world_sizes(self) -> range:
        """How many workers may train together: the fewest to the most."""
        most = max(1, self.workers)
        return range(self.min_workers or most, most + 1)

    def names_world_size(self, size: int) -> str:
        """Which parameter allows `size` workers, for messages."""
        if size == self.workers:
            return f"train.workers = {self.workers}"
        return f"a number of workers that train.min_workers = {self.min_workers} allows"


class Training(BaseModel):
    """The parameters of one training run, overrides applied."""

    model_config = ConfigDict(frozen=True)

    model: ModelParams
    augment: AugmentParams
    train: TrainParams
    transfer: TransferParams = TransferParams()

    def check(self) -> None:
        """Raise ParameterError for what its sections can't be together."""
        augment, train = self.augment, self.train
        if augment.mix != "none":
            for size in reversed(train.world_sizes):  # each worker's part of a batch is paired
                if train.batch_size % (2 * size):
                    each = "2" if size == 1 else f"2 × {train.names_world_size(size)}: {2 * size}"
                    raise ParameterError(
                        f"train.batch_size = {train.batch_size}: must be a multiple of {each}, "
                        f"since augment.mix = {augment.mix} pairs images"
                    )
            if train.contrastive_weight > 0:
                raise ParameterError(
                    f"augment.mix = {augment.mix}: train.contrastive_weight = "
                    f"{train.contrastive_weight} tells single images apart; set one to none, or "
                    "the other to 0"
                )
        if self.transfer.source == "packaged":
            check_packaged(self.model.name)

    def check_mode(self, where: str) -> None:
        """Raise ParameterError for augmentation that a classifier on stored features can't see."""
        if self.transfer.mode != "head":
            return
        augment, train = self.augment, self.train
        for name in ("labeled_augment", "unlabeled_augment"):
            if (view := getattr(train, name)) != "none":
                raise ParameterError(
                    f"{where}.train.{name} = {view!r}: with transfer.mode: head a classifier reads "
                    "stored features, which no augmentation of images changes; set labeled_augment "
                    "and unlabeled_augment to none, or transfer.mode: layerwise"
                )
        if augment.mix != "none" or train.online is not None or train.contrastive_weight > 0:
            raise ParameterError(
                f"{where}: augment.mix, train.online and train.contrastive_weight need images at "
                "each step, and with transfer.mode: head a classifier reads stored features; leave "
                "them out, or set transfer.mode: layerwise"
            )
