"""A frozen body over shards of images: one shard of images in, one shard of features out."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pipeline.data.features import features_table
from pipeline.data.shards import Manifest, check_shard, read_manifest, read_shard
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import write_derived
from pipeline.models.head import BODY, CLASSIFIER
from pipeline.models.spec import ModelSpec

if TYPE_CHECKING:
    from pipeline.models.checkpoint import Checkpoint
    from pipeline.models.pretrained import Weights


@dataclass
class ShardEmbedder:
    """Embeds one shard of `folder` a call; the network is loaded at the first call and stays.

    models: the folder of one model, whose classifier's inputs are the features. The same shard
    gives the same bytes, whoever embeds it and in whatever order.
    """

    models: tuple[Path, ...]
    folder: Path
    out: Path | StoredFolder
    batch_size: int
    threads: int = 1
    device: str = "cpu"

    @cached_property
    def body(self) -> Checkpoint:
        """The network, on its device."""
        import torch

        from pipeline.models.checkpoint import load_checkpoint
        from pipeline.models.passes import resolve_device

        torch.set_num_threads(self.threads)
        (model,) = self.models
        body = load_checkpoint(model)
        body.network.to(resolve_device(self.device)).to(memory_format=torch.channels_last)
        return body

    def fetched(self, fetch: Callable[[Path], Path]) -> Self:
        """The same with the model where `fetch` says it lies here."""
        clone = copy(self)  # with the manifest that the driver has read: the folder may be far away
        clone.models = tuple(map(fetch, self.models))
        return clone

    @cached_property
    def manifest(self) -> Manifest:
        """What there is to embed."""
        return read_manifest(self.folder)

    def __call__(self, number: int) -> int:
        """Embed shard `number`; returns its number of rows."""
        import numpy as np

        from pipeline.data.tensors import decoding_pool, shard_images, stored_shape
        from pipeline.models.parts import batched_features
        from pipeline.models.passes import resolve_device

        shard = check_shard(self.folder, self.manifest.shards[number])
        ids = read_shard(shard, ["id"]).column("id").to_pylist()
        shape, device = stored_shape(self.folder, self.manifest), resolve_device(self.device)
        spec = self.body.spec
        with decoding_pool(self.threads) as pool:
            images = shard_images(shard, shape, pool)
            parts = [
                batched_features(
                    self.body.network,
                    images[start : start + self.batch_size].to(device),
                    mean=spec.mean,
                    std=spec.std,
                    batch_size=self.batch_size,
                ).cpu()
                for start in range(0, len(images), self.batch_size)
            ]
        write_derived(self.out, shard.name, features_table(ids, np.concatenate(parts)))
        return len(ids)


def save_body(folder: Path, spec: ModelSpec, weights: Weights, source: str) -> int:
    """Write the network of `spec` with these weights and a classifier of zeros as a model folder.

    Returns the number of features that its classifier reads. `source` names the weights in errors.
    Raises ModelError where it has more than one classifier.
    """
    from pipeline.errors import ModelError
    from pipeline.models.checkpoint import network_of, save_checkpoint
    from pipeline.models.parts import head_names
    from pipeline.models.pretrained import load_weights, normalization

    network = network_of(spec)
    load_weights(network, weights, head=False, source=source)
    names = head_names(network)
    state = network.state_dict()
    if len(names) > 1 or f"{names[0]}.bias" not in state:
        raise ModelError(
            f"embed.name = {spec.network['name']!r}: ends in more than one classifier, or in one "
            "without biases; choose another network"
        )
    for part in ("weight", "bias"):
        state[f"{names[0]}.{part}"].zero_()
    published = normalization(weights, spec.channels)
    mean, std = published or (spec.mean, spec.std)
    notes = {CLASSIFIER: names[0]}
    save_checkpoint(folder, state, replace(spec, mean=mean, std=std, generation=BODY, notes=notes))
    return int(state[f"{names[0]}.weight"].shape[1])
