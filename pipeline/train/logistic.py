"""The optimum of multinomial logistic regression, over features that come in chunks.

L-BFGS (Liu & Nocedal 1989) in coordinates in which the loss is curved about alike in all
directions. One evaluation is one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
# Features (n, F), and targets times weights (n, K).
Chunk = tuple[Doubles, Doubles]
Chunks = Callable[[], Iterable[Chunk]]  # called once for each pass

CURVATURE = 0.1  # of the mean loss along a standardised feature; at most 1/2 (Böhning 1992)
SOLVER = {"maxiter": 5000, "maxfun": 10_000, "maxcor": 20, "gtol": 1e-8}  # of L-BFGS-B


@dataclass(frozen=True)
class _Problem:
    """Chunks of features (n, R), their mean and scale (R,), and their correlations (R, R)."""

    chunks: Chunks
    mean: Doubles
    scale: Doubles
    correlation: Doubles

    def loss(self, weight: Doubles, bias: Doubles) -> tuple[float, Doubles, Doubles]:
        """Summed cross-entropy of a standardised head, and its gradients; one pass."""
        raw = _raw(weight, bias, self.mean, self.scale)
        value, by_raw, by_bias = _loss(self.chunks(), *raw)
        return value, (by_raw - np.outer(self.mean, by_bias)) / self.scale[:, None], by_bias


def solve(
    chunks: Chunks,
    num_features: int,
    rows: int,
    mass: Doubles,
    l2s: Sequence[float],
    *,
    tolerance: float,
) -> list[tuple[Doubles, Doubles]]:
    """Weights (F, K) and biases (K,) on features as they are, for each l2, started from the last.

    rows: how many there are; mass: (K,) sum of targets times weights. Minimises as
    `pipeline.train.head.fit_head` says. Of fewer rows than features the weights lie in the span of
    the rows: the problem is solved there, where it is the same and smaller (Hastie & Tibshirani
    2004, theorem 1).
    """
    if rows < num_features:
        return _solve_in_span(list(chunks()), mass, l2s, tolerance)
    problem = _in_full(chunks, num_features)
    solved = _standardised_heads(problem, mass, l2s, tolerance)
    return [_raw(weight, bias, problem.mean, problem.scale) for weight, bias in solved]


def _in_full(chunks: Chunks, num_features: int) -> _Problem:
    """The problem in all its features; one pass, with sums from the first row on for precision."""
    rows, total = 0, np.zeros(num_features)
    products = np.zeros((num_features, num_features))
    first: Doubles | None = None
    for features, _ in chunks():
        first = features[0].copy() if first is None else first
        from_first = features - first
        rows += len(features)
        total += from_first.sum(axis=0)
        products += from_first.T @ from_first
    assert first is not None
    shift = total / rows
    products /= rows
    products -= np.outer(shift, shift)
    scale = _deviations(products.diagonal())
    products /= scale
    products /= scale[:, None]
    return _Problem(chunks, first + shift, scale, products)


def _solve_in_span(
    chunks: Sequence[Chunk], mass: Doubles, l2s: Sequence[float], tolerance: float
) -> list[tuple[Doubles, Doubles]]:
    """`solve` in coordinates along a basis of the rows, as Z = Rᵀ Qᵀ of standardised Z gives it."""
    features = np.concatenate([part for part, _ in chunks])
    targets = np.concatenate([part for _, part in chunks])
    from_first = features - features[0]
    shift = from_first.mean(axis=0)
    from_first -= shift
    scale, mean = _deviations((from_first**2).mean(axis=0)), features[0] + shift
    basis, triangle = np.linalg.qr((from_first / scale).T)
    inside = np.ascontiguousarray(triangle.T)
    rank = basis.shape[1]
    correlation = triangle @ inside / len(inside)
    problem = _Problem(lambda: [(inside, targets)], np.zeros(rank), np.ones(rank), correlation)
    solved = _standardised_heads(problem, mass, l2s, tolerance)
    return [_raw(basis @ weight, bias, mean, scale) for weight, bias in solved]


def _deviations(variance: Doubles) -> Doubles:
    """Standard deviations; without end for a feature that does not vary, whose weight is then 0."""
    deviations: Doubles = np.sqrt(np.where(variance > 0, variance, np.inf))
    return deviations


def _raw(weight: Doubles, bias: Doubles, mean: Doubles, scale: Doubles) -> tuple[Doubles, Doubles]:
    """Weights and biases on features as they are, of those on standardised ones."""
    raw = weight / scale[:, None]
    return raw, bias - mean @ raw


def _standardised_heads(
    problem: _Problem, mass: Doubles, l2s: Sequence[float], tolerance: float
) -> Iterator[tuple[Doubles, Doubles]]:
    """Standardised weights (R, K) and biases (K,) for each l2; mass: (K,) weighted targets.

    In coordinates u with W = R⁻¹ u, RᵀR = CURVATURE · correlation + l2 / mass, the loss is curved
    about alike in all directions, and fewer passes do.
    """
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import minimize

    options = SOLVER | {"ftol": tolerance}
    features, classes, total = len(problem.correlation), len(mass), mass.sum()
    weight, bias = np.zeros((features, classes)), np.zeros(classes)
    for l2 in l2s:
        penalty = l2 / total
        root = cholesky(CURVATURE * problem.correlation + penalty * np.eye(features))

        def loss(point: Doubles, root: Doubles = root, penalty: float = penalty) -> Any:
            inner, bias = np.split(point.reshape(-1, classes), [features])
            weight = solve_triangular(root, inner, check_finite=False)
            value, by_weight, by_bias = problem.loss(weight, bias[0])
            by_weight = by_weight / total + penalty * weight
            inward = solve_triangular(root, by_weight, trans="T", check_finite=False)
            gradient = np.concatenate([inward.ravel(), by_bias / total])
            return value / total + penalty / 2 * (weight**2).sum(), gradient

        start = np.concatenate([(root @ weight).ravel(), bias])
        solution = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        inner, last = np.split(solution.x.reshape(-1, classes), [features])
        weight, bias = solve_triangular(root, inner, check_finite=False), last[0]
        yield weight, bias


def _loss(
    chunks: Iterable[Chunk], weight: Doubles, bias: Doubles
) -> tuple[float, Doubles, Doubles]:
    """Summed cross-entropy, and its gradients (R, K) and (K,); one pass."""
    value, by_weight, by_bias = 0.0, np.zeros_like(weight), np.zeros_like(bias)
    for features, targets in chunks:
        logits = features @ weight + bias
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        sums = shares.sum(axis=1, keepdims=True)
        mass = targets.sum(axis=1, keepdims=True)
        value += float((mass * np.log(sums)).sum() - (targets * logits).sum())
        shares *= mass / sums
        shares -= targets
        by_weight += features.T @ shares
        by_bias += shares.sum(axis=0)
    return value, by_weight, by_bias
