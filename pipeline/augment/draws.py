"""Random numbers for one batch: the same whatever the device and the number of workers."""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """The random numbers of one global batch, of which a worker sees its own rows.

    Every method draws for all `total` images from one CPU generator and then keeps `rows`
    (`slice(rank, None, world_size)`), so image k of the global batch has the same draws for
    every number of workers and on every device. Calls are consumed in order: use one object
    for one augmentation of one batch.
    """

    def __init__(
        self,
        seed: int,
        total: int,
        rows: slice = slice(None),
        device: torch.device | str = "cpu",
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._total = total
        self._rows = rows
        self._device = torch.device(device)

    def __len__(self) -> int:
        """Number of images here, on this worker."""
        return len(range(self._total)[self._rows])

    @property
    def host(self) -> Draws:
        """The same stream of numbers, delivered on the CPU: for choices that steer the work."""
        view = Draws.__new__(Draws)
        view._generator, view._total, view._rows = self._generator, self._total, self._rows
        view._device = torch.device("cpu")
        return view

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in [0, 1): (len(self), *shape) float32."""
        return self._kept(torch.rand((self._total, *shape), generator=self._generator))

    def signed(self, *shape: int) -> Tensor:
        """Uniform in [-1, 1): (len(self), *shape) float32."""
        return self.uniform(*shape).mul_(2).sub_(1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal: (len(self), *shape) float32."""
        return self._kept(torch.randn((self._total, *shape), generator=self._generator))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform in {0, ..., high - 1}: (len(self), *shape) int64."""
        return self._kept(torch.randint(high, (self._total, *shape), generator=self._generator))

    def beta(self, alpha: float, *shape: int) -> Tensor:
        """Beta(alpha, alpha) in [0, 1], by inverting its distribution: (len(self), *shape) float32.

        `alpha`: above 0; 1 is uniform.
        """
        from scipy.special import betaincinv

        uniform = self.host.uniform(*shape).double().numpy()
        return torch.from_numpy(betaincinv(alpha, alpha, uniform)).float().to(self._device)

    def _kept(self, values: Tensor) -> Tensor:
        return values[self._rows].to(self._device)
