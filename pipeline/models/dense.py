"""Networks that say a class of each pixel: a body, and a head that makes logits of its features.

`unet_small` is ours, for small images. `unet/BODY` and `deeplabv3plus/BODY` have the decoders of
segmentation-models-pytorch on a body of timm, lighter than by its defaults, which cost more than
the body does; others are torchvision's. Both libraries are slow to import, and so imported late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.library import did_you_mean
from pipeline.models.networks import ResidualBlock, convolution, framed, residual_stages
from pipeline.models.stem import first_convolution, replace_convolution, resized
from pipeline.params.dense import DECODERS, UNET_SMALL
from pipeline.params.errors import SHOWN

UNET_WIDTHS = (128, 64, 48, 32)  # 256, 128, 64, 32, 16 by default, which cost 1.8 times as much
DEEPLAB_WIDTH = 128  # 256 by default, which costs 1.3 times as much


class Dense(nn.Module):
    """`head(body(images))` at the side of the images.

    The body sees images whose side is a multiple of `stride`, framed by their border, and resized
    to `input_side` before where that is set. What the head makes at a stride is scaled up.
    """

    def __init__(self, body: nn.Module, head: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.stride = stride
        self.input_side: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, S, S) normalised → logits (N, num_classes, S, S)."""
        seen = images if self.input_side is None else resized(images, self.input_side)
        side = seen.shape[-1]
        padded = framed(seen, -(-side // self.stride) * self.stride)
        features = self.body(padded)
        if isinstance(features, Mapping):
            features = features.get("out", features)  # torchvision: by name, "out" where alone
        logits = _scaled(self.head(features), padded.shape[-1])
        start = (padded.shape[-1] - side) // 2
        return _scaled(logits[..., start : start + side, start : start + side], images.shape[-1])

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """The convolutions that make the logits: the last, or the two whose sum they are (LR-ASPP);
        so timm calls it."""
        convolutions = [module for module in self.head.modules() if isinstance(module, nn.Conv2d)]
        named = self.head.named_children()
        return tuple(m for name, m in named if name.endswith("_classifier")) or (convolutions[-1],)


def _scaled(logits: Tensor, side: int) -> Tensor:
    if logits.shape[-1] == side:
        return logits
    return F.interpolate(logits, (side, side), mode="bilinear")


def dense_network(
    name: str,
    *,
    num_classes: int,
    channels: int,
    width: int,
    depth: int,
    stem_stride: int,
    noise: dict[str, float],
) -> Dense:
    """The network `name`, of which params.dense.is_dense is true.

    `noise`: dropout_rate and stochastic_depth_rate. Raises ModelError for a body that is unknown or
    does not fit the decoder, or a rate that the network does not take.
    """
    if name == UNET_SMALL:
        body = SmallBody(channels, width, depth, stem_stride, noise["stochastic_depth_rate"])
        head = SmallHead(num_classes, body.widths, noise["dropout_rate"])
        return Dense(body, head, stem_stride * body.stride)
    decoder, _, bare = name.partition("/")
    if decoder in DECODERS:
        return _on_timm(decoder, bare, num_classes, channels, noise)
    return _from_torchvision(name.removeprefix("torchvision/"), num_classes, channels, noise)


class SmallBody(nn.Module):
    """A convolution, and three stages of residual blocks, each at half the side of the one before
    and twice as wide."""

    stride = 8  # from the features of the convolution to the last

    def __init__(
        self, channels: int, width: int, depth: int, stem_stride: int, skip_rate: float
    ) -> None:
        super().__init__()
        self.widths = [width, width * 2, width * 4, width * 8]
        self.stem = convolution(channels, width, stem_stride)
        self.blocks = residual_stages(ResidualBlock, self.widths, depth, skip_rate, first_stride=2)
        self.depth = depth

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, C, S, S) → the features at 1, 1/2, 1/4 and 1/8 of the convolution's side."""
        current = self.stem(images)
        features = [current]
        for number, block in enumerate(self.blocks, start=1):
            current = block(current)
            if number % self.depth == 0:
                features.append(current)
        return features


class SmallHead(nn.Module):
    """The way back of a U-Net (Ronneberger et al. 2015), and a classifier.

    What comes from below is made as narrow as the features beside it, and added to them (as in
    LinkNet, Chaurasia & Culurciello 2017): to join them costs half as much again.
    """

    def __init__(self, num_classes: int, widths: Sequence[int], dropout_rate: float) -> None:
        super().__init__()
        steps = list(pairwise(widths[::-1]))
        self.narrow = nn.ModuleList(nn.Conv2d(above, own, 1, bias=False) for above, own in steps)
        self.blocks = nn.ModuleList(convolution(own, own, 1) for _, own in steps)
        self.dropout = nn.Dropout2d(dropout_rate)  # neighbouring pixels are too alike to drop one
        self.classifier = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features, each at half the side of the one before → logits at the side of the first."""
        current = features[-1]
        for narrow, block, beside in zip(self.narrow, self.blocks, features[-2::-1], strict=True):
            current = block(_scaled(narrow(current), beside.shape[-1]) + beside)
        logits: Tensor = self.classifier(self.dropout(current))
        return logits


class DecodedHead(nn.Module):
    """A decoder of segmentation-models-pytorch, and a classifier of its own kind."""

    def __init__(
        self, decoder: nn.Module, width: int, num_classes: int, kernel: int, dropout_rate: float
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.dropout = nn.Dropout2d(dropout_rate)
        self.classifier = nn.Conv2d(width, num_classes, kernel, padding=kernel // 2)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features of all strides → logits at the stride of the decoder."""
        logits: Tensor = self.classifier(self.dropout(self.decoder(features)))
        return logits


def _on_timm(
    decoder: str, bare: str, num_classes: int, channels: int, noise: dict[str, float]
) -> Dense:
    """A decoder on the features of a body of timm.

    The U-Net's ends at half the side of the images; to go on to the whole, as smp's does, costs
    half as much again.
    """
    import timm

    if not timm.is_model(bare):
        hint = did_you_mean(bare, timm.list_models())
        raise ModelError(f"model.name = '{decoder}/{bare[:SHOWN]}': timm has no such body{hint}")
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
    from segmentation_models_pytorch.encoders import get_encoder

    stride = 32 if decoder == "unet" else 16
    rate = noise["stochastic_depth_rate"]
    options = {"drop_path_rate": rate} if rate else {}
    widths: tuple[int, ...] = UNET_WIDTHS if decoder == "unet" else (DEEPLAB_WIDTH,)
    try:
        body = get_encoder(
            f"tu-{bare}", channels, depth=5, weights=None, output_stride=stride, **options
        )
        if decoder == "unet":
            head = UnetDecoder(body.out_channels, widths, n_blocks=len(widths))
        else:
            head = DeepLabV3PlusDecoder(
                encoder_channels=body.out_channels,
                encoder_depth=5,
                out_channels=DEEPLAB_WIDTH,
                atrous_rates=(12, 24, 36),
                output_stride=stride,
                aspp_separable=True,
                aspp_dropout=0.0,
            )
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"model.name = '{decoder}/{bare}': can't be built so ({reason}); choose a body with "
            "features at several strides, such as tf_efficientnet_lite0 or resnet50"
        ) from None
    kernel = 3 if decoder == "unet" else 1
    made = DecodedHead(head, widths[-1], num_classes, kernel, noise["dropout_rate"])
    return Dense(body, made, stride)


def _from_torchvision(name: str, num_classes: int, channels: int, noise: dict[str, float]) -> Dense:
    """torchvision's network without its auxiliary classifier."""
    from torchvision import models

    whole: Any = models.get_model(
        name, weights=None, weights_backbone=None, num_classes=num_classes
    )
    dropouts = [module for module in whole.classifier.modules() if isinstance(module, nn.Dropout)]
    possible = {"dropout_rate": bool(dropouts), "stochastic_depth_rate": False}
    if refused := [rate for rate, value in noise.items() if value and not possible[rate]]:
        raise ModelError(
            f"model.name = {name!r}: torchvision's network takes no {' or '.join(refused)}; "
            "set it to 0, or try unet/BODY"
        )
    for module in dropouts:
        module.p = noise["dropout_rate"]
    if channels != 3:  # torchvision has no argument for it
        replace_convolution(whole, first_convolution(whole)[0], in_channels=channels)
    return Dense(whole.backbone, whole.classifier)


def own_names(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names that `network` has for them, where it is dense: those of its body's
    library, and of whole networks of torchvision and smp, are found too."""
    if not isinstance(network, Dense):
        return dict(tensors)
    flat = {key.replace(".", "_"): value for key, value in tensors.items()}  # timm: stages_0
    found: dict[str, Tensor] = {}
    for key in network.state_dict():
        part, _, rest = key.partition(".")
        plain = rest.removeprefix("model.")
        others = (plain, f"features.{plain}", f"backbone.{rest}", f"encoder.{rest}")
        for other in (key, *(others if part == "body" else (f"classifier.{rest}", rest))):
            if (value := flat.get(other.replace(".", "_"))) is not None:
                found[key] = value
                break
    return found
