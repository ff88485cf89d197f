"""The sections of pretrained weights: `embed`, the frozen body, and `transfer`, a run's start."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.errors import ParameterError
from pipeline.params.dense import body_name, is_dense
from pipeline.params.sections import Device, Section

HUBS = ("timm", "torchvision")
PACKAGED_NETWORK = "timm/tf_efficientnet_lite0"  # that the packaged weights are of


class WeightsParams(Section):
    """Where weights come from: `source`, and the digest of one on disk."""

    source: str | None = Field(None, min_length=1)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """of the folder or file that source names, which needs it; a wrong or missing one is refused
    and the right one told"""

    @property
    def is_path(self) -> bool:
        """Whether the source is a folder or file."""
        return self.source not in (None, "teacher", "packaged", *HUBS)

    def check_digest(self, section: str) -> None:
        """Raise ValueError for the digest of a source that is not on disk."""
        if self.sha256 is not None and not self.is_path:
            raise ValueError(
                f"{section}.sha256 is of a folder or file, and {section}.source = {self.source!r}"
            )


class TransferParams(WeightsParams):
    """Pretrained weights to start from; docs/transfer.md says which mode when."""

    source: str | None = Field(None, min_length=1)
    """null: random weights; teacher: the generation before; packaged: those of
    timm/tf_efficientnet_lite0 on ImageNet, installed with this, also for unet/ and deeplabv3plus/
    on it; timm or torchvision: the published weights of model.name or of its body; else a model
    folder of this project, or a .safetensors or .pth file"""
    mode: Literal["full", "head", "layerwise", "auto"] = "full"
    """full: all weights move; head: a classifier on the features of `embed`, whose body it keeps;
    layerwise: the body slower than the classifier; auto: head or layerwise, whichever the labels
    say (stage search)"""
    trial_steps: int = Field(100, ge=1)
    """auto: steps of the network in each of the trial's three folds"""
    frozen_stages: int = Field(0, ge=0)
    """stages of a fine-tuned network that stay as they are, counted from the input"""
    body_learning_rate: float = Field(0.1, gt=0, le=1)
    """layerwise: of the last stage, as a share of the classifier's"""
    layer_decay: float = Field(0.8, gt=0, le=1)
    """layerwise: factor for each stage further from the classifier"""

    freeze_statistics: bool = False
    """running statistics of batch normalisation stay those of the source; recommended for few
    images"""

    @model_validator(mode="after")
    def _source_where_needed(self) -> TransferParams:
        for name, value, what, without in (
            ("mode", self.mode, "weights", "full"),
            ("frozen_stages", self.frozen_stages, "weights", "0"),
            ("freeze_statistics", self.freeze_statistics, "statistics", "false"),
        ):
            if self.source is None and value not in ("full", "head", 0):
                raise ValueError(
                    f"transfer.{name} = {value!r}: needs {what} to keep; set transfer.source, or "
                    f"{name}: {without}"
                )
        self.check_digest("transfer")
        return self


class EmbedParams(WeightsParams):
    """The features of all images, by one pass of a frozen, pretrained body (docs/transfer.md)."""

    source: str | None = Field(None, min_length=1)
    """null: no features; packaged: the weights that are installed with the program; timm or
    torchvision: the published weights of embed.name; else a model folder of this project, or a
    .safetensors or .pth file"""
    name: str = Field(PACKAGED_NETWORK, description="the network that the weights are of")
    input_size: int | None = Field(None, ge=8, le=1024)
    """side that images are resized to for the body; null: data.image_size"""
    batch_size: int = Field(32, ge=1, description="images a forward pass")
    threads: int = Field(1, ge=1, description="CPU threads of each actor; part of the result")
    device: Device = Field("auto", description="auto: a GPU where a node has one")

    @model_validator(mode="after")
    def _source_where_needed(self) -> EmbedParams:
        if self.source == "teacher":
            raise ValueError(
                "embed.source = 'teacher': features are made before anything is trained; choose "
                "packaged, timm, torchvision, a model folder or a file of weights"
            )
        if is_dense(self.name):
            raise ValueError(
                f"embed.name = {self.name!r}: says one class a pixel, and features are of whole "
                "images; choose a network of one class an image"
            )
        if self.source == "packaged":
            check_packaged(self.name, "embed.source", "embed.name")
        self.check_digest("embed")
        return self


def check_packaged(
    model_name: str, source: str = "transfer.source", key: str = "model.name"
) -> None:
    """Raise ParameterError unless the packaged weights are of the network `model_name`.

    source, key: the parameters that say both.
    """
    bare = PACKAGED_NETWORK.rpartition("/")[2]
    if body_name(model_name) not in (PACKAGED_NETWORK, bare):
        suitable = f"unet/{bare}" if is_dense(model_name) else PACKAGED_NETWORK
        raise ParameterError(
            f"{source} = 'packaged': its weights are of another network than {key} = "
            f"{model_name!r}; set {key}: {suitable}"
        )
