"""The frozen body of `embed`: which weights it is of, and its folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.models.spec import SPEC
from pipeline.params import EmbedParams, NetworkParams
from pipeline.train.transfer import Source, find_source


def find_body(params: EmbedParams, root: Path) -> Source:
    """What embed.source means, looked at before any work; raises as find_source."""
    source = find_source(
        params.source, sha256=params.sha256, root=root, teacher=None, section="embed"
    )
    assert source is not None
    return source


def write_body(folder: Path, params: EmbedParams, source: Source, prepared: Path) -> int:
    """Write the body's model folder, if it is not there; returns the number of its features."""
    from pipeline.data.tensors import read_dataset
    from pipeline.models.embed import save_body
    from pipeline.models.head import read_head
    from pipeline.train.inputs import model_spec
    from pipeline.train.transfer import read_source

    if not (folder / SPEC).exists():
        network = NetworkParams(name=params.name, input_size=params.input_size, stem="standard")
        spec = model_spec(read_dataset(prepared), network.model_dump(), generation="body")
        weights = read_source(source.name, source.path, params.name)
        save_body(folder, spec, weights, source.name)
    return int(read_head(folder).weight.shape[1])
