"""The section of the network, and what a ladder of sizes says of one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_serializer

from pipeline.params.sections import Section


class NetworkParams(Section):
    """What builds a network."""

    name: str = "resnet_small"
    """resnet_small, lenet5, wrn_28_2 (any wrn_DEPTH_WIDTH), efficientnet, or a
    torchvision or timm name; for segmentation unet_small, unet/BODY or deeplabv3plus/BODY with
    BODY of timm, or torchvision's fcn_resnet50, deeplabv3_resnet50, deeplabv3_mobilenet_v3_large
    or lraspp_mobilenet_v3_large"""
    width: int = Field(
        16, ge=1, le=1024, description="channels of resnet_small's or unet_small's first stage"
    )
    depth: int = Field(1, ge=1, le=32, description="residual blocks in each stage of the same")
    stem_stride: Literal[1, 2] = 1
    """of their first convolution; 2 costs a quarter"""
    compound: int = Field(0, ge=0, le=7)
    """efficientnet's depth, width and image side at once: B0 to B7"""
    stem: Literal["auto", "small", "standard"] = "auto"
    """of a library's network; small: 3×3, stride 1, no pooling; auto: small where the network would
    shrink images of up to 64 pixels fourfold at once"""
    input_size: int | None = Field(None, ge=8, le=1024)
    """side that images are resized to for the network, smaller or larger than they are stored;
    null: data.image_size (efficientnet: at most the published side of its compound)"""
    dropout_rate: float = Field(0.0, ge=0, lt=1)
    """dropout before the classifier; of wrn in each block"""
    stochastic_depth_rate: float = Field(0.0, ge=0, lt=1)
    """chance that the last residual block is skipped"""


class ModelParams(NetworkParams):
    """The network."""

    ladder: tuple[NetworkParams, ...] | None = Field(None, strict=False, min_length=1)
    """what `grow` climbs: overrides of model, smallest first; null: the sizes of the network's
    family"""

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
    def _serialized_ladder(self, ladder: Any) -> list[dict[str, Any]] | None:
        return self.rungs
