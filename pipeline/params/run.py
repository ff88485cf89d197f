"""All parameters of a run: what each model of it comes to, overrides applied."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import Field, model_validator

from pipeline.errors import ParameterError
from pipeline.params import sections
from pipeline.params.augment import AugmentParams
from pipeline.params.dense import check_network
from pipeline.params.errors import merged
from pipeline.params.ladders import grown
from pipeline.params.network import ModelParams
from pipeline.params.predict import EvaluateParams, PredictParams
from pipeline.params.sections import Section
from pipeline.params.tasks import check_task
from pipeline.params.training import Training, TrainParams
from pipeline.params.transfer import EmbedParams, TransferParams


class TrainingOverrides(Section):
    """What one model has other than the shared sections say."""

    model: dict[str, Any] = Field(default_factory=dict)
    augment: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    grow: int | None = Field(None, ge=0)
    """in place of a model: the teacher's, so many sizes larger"""
    transfer: dict[str, Any] = Field(default_factory=dict)


class Generation(Section):
    """One generation: its teacher, and what it has other than the shared sections say."""

    teacher: str = Field(description='the generation that teaches it: the one before, as "0"')
    select: dict[str, Any] = Field(description="overrides of select; {} for none")
    student: TrainingOverrides = Field(description="overrides of its training; {} for none")


class Params(Section):
    """All of params.yaml."""

    task: sections.TaskName = sections.DEFAULT_TASK
    """classification: one class an image; segmentation: one a pixel"""
    seed: sections.Seed = Field(0, description="of the split and of every random draw")
    data: sections.DataParams
    embed: EmbedParams = EmbedParams()
    model: ModelParams = ModelParams()
    augment: AugmentParams = AugmentParams()
    train: TrainParams
    transfer: TransferParams = TransferParams()
    predict: PredictParams = PredictParams()
    select: sections.SelectParams = sections.SelectParams()
    guard: sections.GuardParams = sections.GuardParams()
    evaluate: EvaluateParams = EvaluateParams()
    ensemble: sections.EnsembleParams = sections.EnsembleParams()
    controls: dict[str, sections.ControlParams] = Field(default_factory=dict)
    """the labels alone, trained for longer, to compare with: by name; {} for none"""
    storage: sections.StorageParams = sections.StorageParams()
    tracking: sections.TrackingParams = sections.TrackingParams()
    run: sections.RunParams = sections.RunParams()
    teacher: TrainingOverrides = TrainingOverrides()
    generations: dict[str, Generation] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _answers_are_of_the_task(self) -> Params:
        tasks = sections.tasks_of(self.data.source)
        if self.task not in tasks:
            raise ValueError(
                f"data.source = {self.data.source}: has answers for {tasks[0]}, not for "
                f"{self.task}; set task: {tasks[0]}"
            )
        check_task(self)
        return self

    @model_validator(mode="after")
    def _choices_have_images(self) -> Params:
        if self.data.held_out_fraction > 0:
            return self
        none = f"data.validation_fraction = {self.data.validation_fraction}"
        if self.data.validation == "folds":
            none = "data.validation = folds"
        if self.augment.search is not None:
            raise ValueError(
                f"augment.search: chooses on the validation images, of which {none} leaves none; "
                "hold some out, or set augment.search: null"
            )
        if self.ensemble.method == "greedy":
            raise ValueError(
                f"ensemble.method = greedy chooses on validation images, of which {none} leaves "
                "none; choose equal, or hold some out"
            )
        return self

    def training(self, model: str) -> Training:
        """The training parameters of a model: "0" is the teacher on the labels alone, "2.1" a
        generation's with another seed, "0.longer" a control's."""
        generation, _, name = model.partition(".")
        control = self.controls.get(name)
        if control is not None and control.like == "student":
            return self._student_control(name, control.steps)
        if generation == "0":
            where, overrides = "teacher", self.teacher
        else:
            where = f"generations.{generation}.student"
            overrides = self.generations[generation].student
        if overrides.augment.get("search") is not None:
            raise ParameterError(
                f"{where}.augment.search: a search is made once for all generations; "
                "it goes under augment"
            )
        steps = {} if control is None else {"steps": control.steps}
        shared = self.shared_training
        training = Training(
            model=self._model(generation, overrides, where),
            augment=merged(shared.augment, overrides.augment, f"{where}.augment"),
            train=merged(shared.train, overrides.train | steps, f"{where}.train"),
            transfer=self._transfer(generation, overrides, where),
        )
        check_network(self.task, training.model.name)
        training.check()
        self._check_training_size(training)
        return training

    def _student_control(self, name: str, steps: int) -> Training:
        """A student's training on labelled images alone, as many in a step as it sees in all."""
        like = self.shared_training
        transfer = like.transfer
        if transfer.source == "teacher":
            raise ParameterError(
                f"controls.{name}.like = 'student': students start from their teacher; set it to "
                "teacher"
            )
        if transfer.mode in ("head", "auto"):  # where a trial finds heads: what it did not choose
            transfer = transfer.model_copy(update={"mode": "layerwise"})
        size = like.train.images_a_step(taught=True)
        changes = {"steps": steps, "batch_size": size, "finetune_steps": 0}
        train = merged(like.train, changes, f"controls.{name}")
        return like.model_copy(update={"train": train, "transfer": transfer})

    @property
    def shared_training(self) -> Training:
        """What a generation without parameters of its own would train with."""
        shared = self.augment.model_copy(update={"search": None})
        return Training(model=self.model, augment=shared, train=self.train, transfer=self.transfer)

    def with_policy(self, num_ops: int, magnitude: float) -> Params:
        """The same with what a search has found; a generation's own num_ops and magnitude stay."""
        policy = {"num_ops": num_ops, "magnitude": magnitude, "search": None}
        return self.model_copy(update={"augment": self.augment.model_copy(update=policy)})

    def with_mode(self, mode: str) -> Params:
        """The same with what a trial has found transfer.mode = auto to be."""
        return self.model_copy(update={"transfer": self.transfer.model_copy(update={"mode": mode})})

    def _model(self, generation: str, overrides: TrainingOverrides, where: str) -> ModelParams:
        """The shared model with the overrides, or the teacher's size grown by so many rungs."""
        model = merged(self.model, overrides.model, f"{where}.model")
        if overrides.grow is None:
            return model
        if generation == "0":
            raise ParameterError(
                f"teacher.grow = {overrides.grow}: generation 0 has no teacher to grow from; "
                "set teacher.model"
            )
        teacher = self.training(self.generations[generation].teacher).model
        grow = f"{where}.grow"
        size = grown(teacher.network, self.model.network, model.rungs, overrides.grow, grow)
        if both := sorted(size.keys() & overrides.model.keys()):
            raise ParameterError(
                f"{grow} = {overrides.grow}: says model.{both[0]} too; leave out one of them"
            )
        return merged(merged(self.model, size, grow), overrides.model, f"{where}.model")

    def _check_training_size(self, training: Training) -> None:
        size = training.train.image_size
        if size is not None and size > self.data.image_size:
            raise ParameterError(
                f"train.image_size = {size}: images are stored with data.image_size = "
                f"{self.data.image_size} pixels a side; lower the first or raise the second"
            )
        if size is not None and training.model.input_size is not None:
            raise ParameterError(
                f"train.image_size = {size}: the network resizes every image to "
                f"model.input_size = {training.model.input_size}; set one of them to null"
            )

    def _transfer(
        self, generation: str, overrides: TrainingOverrides, where: str
    ) -> TransferParams:
        base = self.transfer
        if "source" in overrides.transfer:  # of another digest; without one nothing is left
            none = overrides.transfer["source"] is None
            base = TransferParams() if none else base.model_copy(update={"sha256": None})
        transfer = merged(base, overrides.transfer, f"{where}.transfer")
        if overrides.transfer.get("mode") == "auto":
            raise ParameterError(
                f"{where}.transfer.mode = 'auto': the choice is made once, for all generations "
                "without a mode of their own; it goes under transfer"
            )
        if generation == "0" and transfer.source == "teacher":
            raise ParameterError(
                "transfer.source = 'teacher': generation 0 has no teacher; set "
                "teacher.transfer.source, null for random weights"
            )
        return transfer

    def selection(self, generation: str) -> sections.SelectParams:
        """The selection parameters of a generation."""
        overrides = dict(self.generations[generation].select)
        targets = ("images_per_class", "fraction_per_class")
        if any(name in overrides for name in targets):  # either says the target anew
            overrides = dict.fromkeys(targets) | overrides
        return merged(self.select, overrides, f"generations.{generation}.select")

    @property
    def model_keys(self) -> list[str]:
        """The generations that have a model, in order, "0" first."""
        return ["0", *self.generations]

    @property
    def seed_keys(self) -> list[str]:
        """The models that ensemble.seeds adds: "2.1" is generation 2 with seed 1."""
        return list(self.ensemble.seeds)

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
        trainings = [self.training(key) for key in self.model_keys]
        return sum(each.train.steps for each in trainings if each.transfer.mode != "head")

    def model_seed(self, model: str) -> int:
        """The seed that a model is trained with: `seed`, or one drawn from it for "2.1"."""
        _, _, number = model.partition(".")
        if not number or number in self.controls:
            return self.seed
        digest = hashlib.blake2b(f"{self.seed} {number}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little") >> 1
