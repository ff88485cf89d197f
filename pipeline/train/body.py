"""The frozen body of `embed`: which weights it is of, its folder, and what it makes of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.tensors import read_dataset
from pipeline.models.checkpoint import network_of
from pipeline.models.embed import save_body
from pipeline.models.head import read_head
from pipeline.models.parts import batched_features
from pipeline.models.pretrained import load_weights, normalization
from pipeline.models.spec import SPEC, ModelSpec
from pipeline.params import EmbedParams, NetworkParams
from pipeline.train.inputs import model_spec
from pipeline.train.transfer import Source, find_source, read_source


def find_body(params: EmbedParams, root: Path) -> Source:
    """What embed.source means, looked at before any work; raises as find_source."""
    source = find_source(
        params.source, sha256=params.sha256, root=root, teacher=None, section="embed"
    )
    assert source is not None
    return source


def write_body(folder: Path, params: EmbedParams, source: Source, prepared: Path) -> int:
    """Write the body's model folder, if it is not there; returns the number of its features."""
    if not (folder / SPEC).exists():
        spec = model_spec(read_dataset(prepared), _network(params), generation="body")
        weights = read_source(source.name, source.path, params.name)
        save_body(folder, spec, weights, source.name)
    return int(read_head(folder).weight.shape[1])


def embedded(parts: Sequence[Tensor], params: EmbedParams) -> list[NDArray[np.float16]]:
    """What the frozen body of `params` makes of each part's images (n, C, S, S): (n, F)."""
    assert params.source is not None
    torch.set_num_threads(params.threads)
    channels, side = parts[0].shape[1:3]
    plain = [0.5] * channels
    classes = ["any", "other"]
    spec = ModelSpec(_network(params), classes, side, channels, plain, plain, "body")
    body = network_of(spec).to(memory_format=torch.channels_last)
    weights = read_source(params.source, None, params.name)
    load_weights(body, weights, head=False, source=params.source)
    mean, std = normalization(weights, channels) or (plain, plain)
    return [
        batched_features(body, part, mean=mean, std=std, batch_size=params.batch_size)
        .numpy()
        .astype(np.float16)
        for part in parts
    ]


def _network(params: EmbedParams) -> dict[str, Any]:
    """What is built, as ModelSpec.network has it."""
    network = NetworkParams(name=params.name, input_size=params.input_size, stem="standard")
    return network.model_dump()
