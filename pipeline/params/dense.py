"""Names of networks that say a class of each pixel, known without building them."""

from __future__ import annotations

from pipeline.errors import ParameterError
from pipeline.params.errors import SHOWN

UNET_SMALL = "unet_small"
DECODERS = ("unet", "deeplabv3plus")  # as in unet/BODY, BODY a name of timm
TORCHVISION_BODIES = {
    "fcn_resnet50": "resnet50",
    "fcn_resnet101": "resnet101",
    "deeplabv3_resnet50": "resnet50",
    "deeplabv3_resnet101": "resnet101",
    "deeplabv3_mobilenet_v3_large": "mobilenet_v3_large",
    "lraspp_mobilenet_v3_large": "mobilenet_v3_large",
}


def is_dense(name: str) -> bool:
    """Whether the network `name` says a class of each pixel, not of the image."""
    return name == UNET_SMALL or body_name(name) != name


def body_name(name: str) -> str:
    """The network of timm or torchvision that is the body of the dense network `name`; of another
    its own name."""
    decoder, _, body = name.partition("/")
    if decoder in DECODERS and body:
        return f"timm/{body}"
    bare = name.removeprefix("torchvision/")
    return f"torchvision/{TORCHVISION_BODIES[bare]}" if bare in TORCHVISION_BODIES else name


def check_network(task: str, name: str, where: str = "model") -> None:
    """Raise ParameterError unless the network `name` says what the task asks for."""
    if is_dense(name) == (task == "segmentation"):
        return
    line = f"{where}.name = {name[:SHOWN]!r}: says one class "
    if is_dense(name):
        raise ParameterError(
            f"{line}a pixel; for task: {task} take one of one class an image, such as "
            f"{body_name(name) if body_name(name) != name else 'resnet_small'}"
        )
    raise ParameterError(
        f"{line}an image; for task: {task} take unet_small, unet/BODY or deeplabv3plus/BODY "
        "(BODY: a name of timm), or fcn_resnet50"
    )
