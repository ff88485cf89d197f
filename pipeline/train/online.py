"""An online teacher: the average of the student itself labels the weak view while it trains.

After FixMatch (Sohn et al. 2020) with the averaged weights as the teacher (Tarvainen & Valpola
2017) and distribution alignment (Berthelot et al. 2020, ReMixMatch).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.params import OnlineParams
from pipeline.train.losses import soften
from pipeline.train.weights import averaged_logits

MEAN_DECAY = 0.99  # of the running mean prediction: about the last hundred batches


class OnlineTeacher:
    """Targets for weak views, from averaged weights that the caller keeps up to date.

    `mean` (K,) is the running mean of its predictions, a part of the state of a training run;
    `prior` (K,): the share of each class among the labels, which aligned predictions should have.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: dict[str, Tensor],
        prior: Tensor,
        params: OnlineParams,
        *,
        across_workers: Callable[[Tensor], Tensor] = lambda values: values,
    ) -> None:
        self.mean = prior.clone()
        self._network = network
        self._weights = weights
        self._prior = prior
        self._params = params
        self._across_workers = across_workers

    @torch.no_grad()
    def targets(self, weak: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Probabilities (n, K, …) of weak views (n, C, S, S), and which count, (n, …) float.

        known: (n, S, S), what of the views shows the images; None: all, or each has one answer.
        The network is left in training mode.
        """
        logits = averaged_logits(self._network, self._weights, weak)
        return self._selected(logits.float().softmax(dim=1), known)

    def _selected(self, probabilities: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        params = self._params
        if params.distribution_alignment:
            others = range(2, probabilities.dim())
            mean = probabilities.mean(dim=[0, *others])
            if known is not None:
                mean = (probabilities * known[:, None]).sum(dim=[0, *others])
                mean = mean / known.sum().clamp(min=1)
            now = self._across_workers(mean)
            self.mean.lerp_(now, 1 - MEAN_DECAY)
            ratio = self._prior / self.mean.clamp(min=1e-6)
            probabilities = probabilities * ratio.view(-1, *(1 for _ in others))
            probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
        confidence, labels = probabilities.max(dim=1)
        counts = (confidence >= params.confidence_threshold).float()
        if known is not None:
            counts = counts * known
        if params.label_kind == "hard":
            hard = nn.functional.one_hot(labels, probabilities.shape[1])
            return hard.movedim(-1, 1).float(), counts
        return soften(probabilities, params.temperature), counts
