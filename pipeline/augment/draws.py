"""Random numbers for one batch: the same whatever the device and the number of workers."""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """The random numbers of one global batch, of which a worker sees its own rows.

    Every method draws for all `total` images from one CPU generator and returns those of `rows`
    (`slice(rank, None, world_size)`), on the CPU, so image k of the global batch has the same
    numbers for every number of workers and on every device. Calls are consumed in order: use one
    object for one augmentation of one batch. Shapes: (n, *shape), n the number of rows.
    """

    def __init__(self, seed: int, total: int, rows: slice = slice(None)) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._total = total
        self._rows = rows

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in [0, 1): float32."""
        return torch.rand((self._total, *shape), generator=self._generator)[self._rows]

    def signed(self, *shape: int) -> Tensor:
        """Uniform in [-1, 1): float32."""
        return self.uniform(*shape).mul_(2).sub_(1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal: float32."""
        return torch.randn((self._total, *shape), generator=self._generator)[self._rows]

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform in {0, ..., high - 1}: int64."""
        return torch.randint(high, (self._total, *shape), generator=self._generator)[self._rows]

    def beta(self, alpha: float) -> Tensor:
        """Beta(alpha, alpha) in [0, 1], by inverting its distribution: (n,) float32.

        `alpha`: above 0; 1 is uniform.
        """
        from scipy.special import betaincinv

        return torch.from_numpy(betaincinv(alpha, alpha, self.uniform().double().numpy())).float()
