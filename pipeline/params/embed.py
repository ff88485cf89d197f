"""The section `embed` of params.yaml: the frozen body that looks at every image once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.params.transfer import WeightsParams, check_packaged


class EmbedParams(WeightsParams):
    """The features of all images, by one pass of a frozen, pretrained body (docs/transfer.md)."""

    source: str | None = Field(
        None,
        min_length=1,
        description="null: no features; packaged: the weights that are installed with the program; "
        "timm or torchvision: the published weights of embed.name; else a model folder of this "
        "project, or a .safetensors or .pth file",
    )
    name: str = Field(
        "timm/tf_efficientnet_lite0", description="the network that the weights are of"
    )
    input_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="side that images are resized to for the body; null: data.image_size",
    )
    batch_size: int = Field(32, ge=1, description="images a forward pass")
    threads: int = Field(1, ge=1, description="CPU threads of each actor; part of the result")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU where a node has one"
    )

    @model_validator(mode="after")
    def _source_where_needed(self) -> EmbedParams:
        if self.source == "teacher":
            raise ValueError(
                "embed.source = 'teacher': features are made before anything is trained; choose "
                "packaged, timm, torchvision, a model folder or a file of weights"
            )
        if self.source == "packaged":
            check_packaged(self.name, "embed.source", "embed.name")
        self.check_digest("embed")
        return self
