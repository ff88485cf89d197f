"""What the sections of params.yaml ask of one another."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipeline.errors import ParameterError
from pipeline.params.augment import AugmentParams
from pipeline.params.embed import EmbedParams
from pipeline.params.network import ModelParams
from pipeline.params.sections import DataParams
from pipeline.params.training import TrainParams
from pipeline.params.transfer import TransferParams


class Training(BaseModel):
    """The parameters of one training run, overrides applied."""

    model_config = ConfigDict(frozen=True)

    model: ModelParams
    augment: AugmentParams
    train: TrainParams
    transfer: TransferParams = TransferParams()


def check_pairs(augment: AugmentParams, train: TrainParams) -> None:
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


def check_mix(augment: AugmentParams, train: TrainParams) -> None:
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


def check_mode(training: Training, data: DataParams, embed: EmbedParams, model: str) -> None:
    """Refuse a transfer.mode that needs what is not there, or augmentation that it can't see."""
    mode, train = training.transfer.mode, training.train
    where = "teacher" if model == "0" else f"generations.{model}.student"
    if mode in ("head", "auto") and embed.source is None:
        raise ParameterError(
            f"{where}: transfer.mode = {mode!r}: needs the features of a frozen body; set "
            "embed.source, for instance to packaged, or another mode"
        )
    if mode == "auto" and data.validation != "folds":
        raise ParameterError(
            f"{where}: transfer.mode = 'auto': chooses by cross-validation on the labels; set "
            "data.validation: folds, or the mode to head or layerwise"
        )
    if mode != "head":
        return
    for name in ("labeled_augment", "unlabeled_augment"):
        if (view := getattr(train, name)) != "none":
            raise ParameterError(
                f"{where}.train.{name} = {view!r}: with transfer.mode: head a classifier reads "
                "stored features, which no augmentation of images changes; set labeled_augment "
                "and unlabeled_augment to none, or transfer.mode: layerwise"
            )
    if training.augment.mix != "none" or train.online is not None or train.contrastive_weight > 0:
        raise ParameterError(
            f"{where}: augment.mix, train.online and train.contrastive_weight need images at each "
            "step, and with transfer.mode: head a classifier reads stored features; leave them "
            "out, or set transfer.mode: layerwise"
        )
