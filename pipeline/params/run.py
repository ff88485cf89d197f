"""All parameters of a run: what each model of it comes to, overrides applied."""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ParameterError
from pipeline.params.augment import AugmentParams
from pipeline.params.errors import one_line
from pipeline.params.ladders import grown
from pipeline.params.network import ModelParams
from pipeline.params.sections import (
    ControlParams,
    DataParams,
    EnsembleParams,
    EvaluateParams,
    GuardParams,
    PredictParams,
    Section,
    SelectParams,
    TrackingParams,
)
from pipeline.params.storage import StorageParams
from pipeline.params.training import TrainParams
from pipeline.params.transfer import TransferParams, check_packaged, transfer_base

SectionType = TypeVar("SectionType", bound=Section)


class TrainingOverrides(Section):
    """What one model has other than the shared sections say."""

    model: dict[str, Any] = Field(default_factory=dict)
    augment: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    grow: int | None = Field(
        None, ge=0, description="in place of a model: the teacher's, so many sizes larger"
    )
    transfer: dict[str, Any] = Field(default_factory=dict)


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
    transfer: TransferParams = TransferParams()


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(0, ge=0, lt=2**31, description="of the split and of every random draw")
    data: DataParams
    model: ModelParams = ModelParams()
    augment: AugmentParams = AugmentParams()
    train: TrainParams
    transfer: TransferParams = TransferParams()
    predict: PredictParams = PredictParams()
    select: SelectParams = SelectParams()
    guard: GuardParams = GuardParams()
    evaluate: EvaluateParams = EvaluateParams()
    ensemble: EnsembleParams = EnsembleParams()
    controls: dict[str, ControlParams] = Field(
        default_factory=dict,
        description="the labels alone, trained for longer, to compare with: by name; {} for none",
    )
    storage: StorageParams = StorageParams()
    tracking: TrackingParams = TrackingParams()
    teacher: TrainingOverrides = TrainingOverrides()
    generations: dict[str, Generation] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _choices_have_images(self) -> Params:
        if self.augment.search is not None and self.data.validation_fraction == 0:
            raise ValueError(
                "augment.search: chooses on the validation images, of which "
                "data.validation_fraction = 0.0 leaves none; raise it, or set augment.search: null"
            )
        if self.ensemble.method == "greedy" and self.data.validation_fraction == 0:
            raise ValueError(
                "ensemble.method = greedy chooses on validation images, but "
                "data.validation_fraction = 0; choose equal, or raise the fraction"
            )
        if self.predict.propagation is not None and self.storage.url is not None:
            raise ValueError(
                f"storage.url = {self.storage.url}: predict.propagation needs the predictions on "
                "this machine; set one of the two to null"
            )
        return self

    def training(self, model: str) -> Training:
        """The training parameters of a model: "0" is the teacher on the labels alone, "2.1" a
        generation's with another seed, "0.longer" a control's."""
        generation, _, control = model.partition(".")
        where, overrides = ("teacher", self.teacher)
        if generation != "0":
            where = f"generations.{generation}.student"
            overrides = self.generations[generation].student
        if overrides.augment.get("search") is not None:
            raise ParameterError(
                f"{where}.augment.search: a search is made once for all generations; "
                "it goes under augment"
            )
        steps = {"steps": self.controls[control].steps} if control in self.controls else {}
        shared = self.augment.model_copy(update={"search": None})
        training = Training(
            model=self._model(generation, overrides, where),
            augment=_merged(shared, overrides.augment, f"{where}.augment"),
            train=_merged(self.train, overrides.train | steps, f"{where}.train"),
            transfer=self._transfer(generation, overrides, where),
        )
        _check_pairs(training.augment, training.train)
        _check_mix(training.augment, training.train)
        if training.transfer.source == "packaged":
            check_packaged(training.model.name)
        self._check_training_size(training)
        return training

    def with_policy(self, num_ops: int, magnitude: float) -> Params:
        """The same with what a search has found; a generation's own num_ops and magnitude stay."""
        found = {"num_ops": num_ops, "magnitude": magnitude, "search": None}
        return self.model_copy(update={"augment": self.augment.model_copy(update=found)})

    def _model(self, generation: str, overrides: TrainingOverrides, where: str) -> ModelParams:
        base = self.model
        if overrides.grow is not None:
            base = self._grown(generation, overrides, where)
        return _merged(base, overrides.model, f"{where}.model")

    def _check_training_size(self, training: Training) -> None:
        side = training.train.image_size
        if side is None:
            return
        if side > self.data.image_size:
            raise ParameterError(
                f"train.image_size = {side}: images are stored with data.image_size = "
                f"{self.data.image_size} pixels a side; lower the first or raise the second"
            )
        if training.model.input_size is not None:
            raise ParameterError(
                f"train.image_size = {side}: the network resizes every image to "
                f"model.input_size = {training.model.input_size}; set one of them to null"
            )

    def _transfer(
        self, generation: str, overrides: TrainingOverrides, where: str
    ) -> TransferParams:
        base = transfer_base(self.transfer, overrides.transfer)
        transfer = _merged(base, overrides.transfer, f"{where}.transfer")
        if generation == "0" and transfer.source == "teacher":
            raise ParameterError(
                "transfer.source = 'teacher': generation 0 has no teacher; set "
                "teacher.transfer.source, null for random weights"
            )
        return transfer

    def _grown(self, generation: str, overrides: TrainingOverrides, where: str) -> ModelParams:
        """The shared model in the size of the teacher's grown by `overrides.grow` rungs."""
        if generation == "0":
            raise ParameterError(
                f"teacher.grow = {overrides.grow}: generation 0 has no teacher to grow from; "
                "set teacher.model"
            )
        assert overrides.grow is not None
        teacher = self.training(self.generations[generation].teacher).model
        ladder = _merged(self.model, overrides.model, f"{where}.model").rungs
        size = grown(teacher.network, self.model.network, ladder, overrides.grow, f"{where}.grow")
        if both := sorted(size.keys() & overrides.model.keys()):
            raise ParameterError(
                f"{where}.grow = {overrides.grow}: says model.{both[0]} too; leave out one of them"
            )
        return _merged(self.model, size, f"{where}.grow")

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

    @property
    def seed_keys(self) -> list[str]:
        """The models that ensemble.seeds adds: "2.1" is generation 2 with seed 1."""
        return [f"{member.generation}.{key}" for key, member in self.ensemble.seeds.items()]

    @property
    def control_keys(self) -> list[str]:
        """The models that `controls` adds: "0.longer" is generation 0, trained for longer."""
        return [f"0.{key}" for key in self.controls]

    @property
    def ensemble_keys(self) -> list[str]:
        """The models that an ensemble may hold: of the generations, then of ensemble.seeds."""
        return self.model_keys + self.seed_keys

    @property
    def all_models(self) -> list[str]:
        """Every model that is trained: those of the ensemble, then those of `controls`."""
        return self.ensemble_keys + self.control_keys

    @property
    def all_steps(self) -> int:
        """The optimizer steps of all generations together."""
        return sum(self.training(key).train.steps for key in self.model_keys)

    def model_seed(self, model: str) -> int:
        """The seed that a model is trained with: `seed`, or one drawn from it for "2.1"."""
        _, _, number = model.partition(".")
        if not number or number in self.controls:
            return self.seed
        digest = hashlib.blake2b(f"{self.seed} {number}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little") >> 1


def _check_pairs(augment: AugmentParams, train: TrainParams) -> None:
    """Mixing pairs the images of one worker, whose part of a batch is therefore even."""
    if augment.mix == "none":
        return
    for size in reversed(train.world_sizes):
        if train.batch_size % (2 * size):
            each = "2" if size == 1 else f"2 × {train.names_world_size(size)}: {2 * size}"
            raise ParameterError(
                f"train.batch_size = {train.batch_size}: must be a multiple of {each}, "
                f"since augment.mix = {augment.mix} pairs images"
            )


def _check_mix(augment: AugmentParams, train: TrainParams) -> None:
    """An online teacher says of each image whether it counts, and views are contrasted image by
    image; a mixed pair has no place for either."""
    if augment.mix == "none":
        return
    if train.online is not None:
        raise ParameterError(
            f"augment.mix = {augment.mix}: an online teacher (train.online) labels single images; "
            "set augment.mix: none, or train.online: null"
        )
    if train.contrastive_weight > 0:
        raise ParameterError(
            f"augment.mix = {augment.mix}: train.contrastive_weight = {train.contrastive_weight} "
            "tells single images apart; set one to none, or the other to 0"
        )


def _merged(base: SectionType, overrides: dict[str, Any], where: str) -> SectionType:
    values = base.model_dump(mode="python") | overrides
    return validated(type(base), values, where)


def validated(
    section: type[SectionType], values: dict[str, Any], where: str = "", file: str = ""
) -> SectionType:
    """`values` as `section`; raises ParameterError, one line, for what it refuses.

    where: the key above the section's own; file: what holds the values.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ParameterError(
            f"{file + ': ' if file else ''}{one_line(error, section, where)}"
        ) from None
