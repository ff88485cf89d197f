"""The section `transfer` of params.yaml: which weights a run starts from, and which move."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.errors import ParameterError
from pipeline.params.sections import Section

HUBS = ("timm", "torchvision")
PACKAGED_NETWORK = "timm/tf_efficientnet_lite0"  # that the packaged weights are of


class WeightsParams(Section):
    """Where weights come from: `source`, and the digest of one on disk."""

    source: str | None = Field(None, min_length=1)
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="of the folder or file that source names, which needs it; a wrong or missing "
        "one is refused and the right one told",
    )

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

    source: str | None = Field(
        None,
        min_length=1,
        description="null: random weights; teacher: the generation before; packaged: those of "
        "timm/tf_efficientnet_lite0 on ImageNet, installed with this; timm or torchvision: the "
        "published weights of model.name; else a model folder of this project, or a .safetensors "
        "or .pth file",
    )
    mode: Literal["full", "head", "layerwise", "auto"] = Field(
        "full",
        description="full: all weights move; head: a classifier on the features of `embed`, whose "
        "body it keeps; layerwise: the body slower than the classifier; auto: head or "
        "layerwise, whichever the labels say (stage search)",
    )
    trial_steps: int = Field(
        100, ge=1, description="auto: steps of the network in each of the trial's three folds"
    )
    frozen_stages: int = Field(
        0,
        ge=0,
        description="stages of a fine-tuned network that stay as they are, counted from the input",
    )
    body_learning_rate: float = Field(
        0.1, gt=0, le=1, description="layerwise: of the last stage, as a share of the classifier's"
    )
    layer_decay: float = Field(
        0.8, gt=0, le=1, description="layerwise: factor for each stage further from the classifier"
    )

    freeze_statistics: bool = Field(
        False,
        description="running statistics of batch normalisation stay those of the source; "
        "recommended for few images",
    )

    @model_validator(mode="after")
    def _source_where_needed(self) -> TransferParams:
        if self.source is None and self.mode not in ("full", "head"):
            raise ValueError(
                f"transfer.mode = {self.mode!r}: needs weights to keep; set transfer.source, "
                "or mode: full"
            )
        if self.source is None and self.frozen_stages:
            raise ValueError(
                f"transfer.frozen_stages = {self.frozen_stages}: needs weights to keep; set "
                "transfer.source, or frozen_stages: 0"
            )
        if self.source is None and self.freeze_statistics:
            raise ValueError(
                "transfer.freeze_statistics = True: needs statistics to keep; set "
                "transfer.source, or freeze_statistics: false"
            )
        self.check_digest("transfer")
        return self


def check_packaged(
    model_name: str, source: str = "transfer.source", key: str = "model.name"
) -> None:
    """Raise ParameterError unless the packaged weights are of the network `model_name`.

    source, key: the parameters that say both.
    """
    if model_name not in (PACKAGED_NETWORK, PACKAGED_NETWORK.rpartition("/")[2]):
        raise ParameterError(
            f"{source} = 'packaged': its weights are of another network than {key} = "
            f"{model_name!r}; set {key}: {PACKAGED_NETWORK}"
        )


def transfer_base(shared: TransferParams, overrides: dict[str, Any]) -> TransferParams:
    """The shared section as the base of one generation's `overrides`.

    Another source has another digest, and without one nothing is left of the section.
    """
    if "source" not in overrides:
        return shared
    if overrides["source"] is None:
        return TransferParams()
    return shared.model_copy(update={"sha256": None})
