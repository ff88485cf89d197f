import math

import pytest
import torch

from pipeline.train.losses import (
    IGNORED,
    contrastive_loss,
    distillation_loss,
    labeled_loss,
    pseudo_label_loss,
    soften,
)


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


def slow_cross_entropy(logits: list[list[float]], targets: list[list[float]]) -> float:
    losses = [
        -sum(target * value for target, value in zip(wanted, log_softmax(row), strict=True))
        for row, wanted in zip(logits, targets, strict=True)
    ]
    return sum(losses) / len(losses)


def example(seed: int, rows: int = 7, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * 3
    return logits, torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_the_labelled_loss_is_that_of_a_slow_loop(smoothing: float) -> None:
    logits, labels = example(0)
    one_hot = torch.eye(4, dtype=torch.float64)[labels]
    targets = (one_hot * (1 - smoothing) + smoothing / 4).tolist()
    expected = slow_cross_entropy(logits.tolist(), targets)
    assert labeled_loss(logits, labels, label_smoothing=smoothing).item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_soft_loss_is_that_of_a_slow_loop(seed: int) -> None:
    logits, _ = example(seed)
    targets = example(seed + 10)[0].softmax(dim=1)
    expected = slow_cross_entropy(logits.tolist(), targets.tolist())
    assert pseudo_label_loss(logits, targets).item() == pytest.approx(expected)


def test_a_hard_pseudo_label_counts_as_a_label() -> None:
    logits, labels = example(1)
    hard = pseudo_label_loss(logits, torch.eye(4, dtype=torch.float64)[labels])
    torch.testing.assert_close(hard, labeled_loss(logits, labels, label_smoothing=0.0))


def test_the_gradient_is_student_minus_target() -> None:
    logits, _ = example(2)
    targets = example(3)[0].softmax(dim=1)
    logits.requires_grad_()
    pseudo_label_loss(logits, targets).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits.grad, (logits.softmax(dim=1).detach() - targets) / 7)


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert pseudo_label_loss(logits, torch.tensor([[0.5, 0.5, 0.0]])).item() == pytest.approx(1e4)


def slow_distillation(
    student: list[list[float]], teacher: list[list[float]], temperature: float
) -> float:
    """Hinton et al. 2015 from the teacher's logits, row by row."""
    total = 0.0
    for row, taught in zip(student, teacher, strict=True):
        own = log_softmax([value / temperature for value in row])
        other = log_softmax([value / temperature for value in taught])
        total += sum(math.exp(q) * (q - p) for p, q in zip(own, other, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_that_of_a_slow_loop(temperature: float) -> None:
    student, teacher = example(0)[0], example(1)[0]
    loss = distillation_loss(student, teacher.softmax(dim=1), temperature=temperature)
    expected = slow_distillation(student.tolist(), teacher.tolist(), temperature)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_at_a_temperature_the_soft_loss_has_the_gradient_of_distillation(
    temperature: float,
) -> None:
    teacher = example(1)[0].softmax(dim=1)
    gradients = []
    for loss in (pseudo_label_loss, distillation_loss):
        student = example(0)[0].requires_grad_()
        loss(student, teacher, temperature=temperature).backward()  # type: ignore[no-untyped-call]
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def slow_contrast(views: list[list[float]], temperature: float) -> float:
    """Chen et al. 2020, eq. 1, view by view; the two views of image k are k and k + n."""

    def cosine(one: list[float], other: list[float]) -> float:
        dot = sum(a * b for a, b in zip(one, other, strict=True))
        return dot / math.hypot(*one) / math.hypot(*other)

    count, total = len(views), 0.0
    for k, view in enumerate(views):
        powers = [math.exp(cosine(view, other) / temperature) for other in views]
        total -= math.log(powers[(k + count // 2) % count] / (sum(powers) - powers[k]))
    return total / count


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_contrast_is_that_of_a_slow_loop(temperature: float) -> None:
    views = example(0, rows=10)[0]
    loss = contrastive_loss(views[:5], views[5:], temperature=temperature)
    assert loss.item() == pytest.approx(slow_contrast(views.tolist(), temperature), rel=1e-12)


def test_views_that_only_their_own_image_resembles_cost_nothing() -> None:
    views = torch.eye(4)
    assert contrastive_loss(views, 3 * views, temperature=0.02).item() < 1e-9
    worst = contrastive_loss(views, views.roll(1, dims=0), temperature=0.02)
    assert worst.item() > 40


def test_softening_is_that_of_the_logits() -> None:
    logits = example(2)[0]
    torch.testing.assert_close(soften(logits.softmax(dim=1), 3.0), (logits / 3).softmax(dim=1))
    one = torch.tensor([[1.0, 0.0, 0.0]])
    assert torch.equal(soften(one, 5.0), one)


def test_images_that_do_not_count_add_nothing_but_are_in_the_mean() -> None:
    logits, labels = example(3, rows=6)
    targets = torch.eye(4, dtype=torch.float64)[labels]
    counts = torch.tensor([1.0, 0, 1, 0, 0, 1], dtype=torch.float64)
    some = pseudo_label_loss(logits, targets, counts=counts)
    kept = counts.bool()
    torch.testing.assert_close(some, pseudo_label_loss(logits[kept], targets[kept]) / 2)


def test_losses_of_pixels_are_those_of_as_many_images() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, generator=generator)
    labels = torch.randint(3, (2, 4, 4), generator=generator)
    shares = torch.randn(2, 3, 4, 4, generator=generator).softmax(dim=1)
    counts = torch.rand(2, 4, 4, generator=generator)

    def flat(values: torch.Tensor) -> torch.Tensor:
        return values.movedim(1, -1).flatten(0, 2)

    labels[0, 0] = IGNORED
    known = labels.flatten() != IGNORED
    torch.testing.assert_close(
        labeled_loss(logits, labels, label_smoothing=0.1),
        labeled_loss(flat(logits)[known], labels.flatten()[known], label_smoothing=0.1),
    )
    torch.testing.assert_close(
        pseudo_label_loss(logits, shares, temperature=2.0, counts=counts),
        pseudo_label_loss(flat(logits), flat(shares), temperature=2.0, counts=counts.flatten()),
    )
    torch.testing.assert_close(
        distillation_loss(logits, shares, temperature=2.0, counts=counts),
        distillation_loss(flat(logits), flat(shares), temperature=2.0, counts=counts.flatten()),
    )


def test_coarser_logits_are_scaled_up_to_what_they_are_compared_with() -> None:
    coarse = torch.tensor([[-9.0, 9.0], [9.0, -9.0]]).view(1, 2, 1, 2)
    labels = torch.tensor([[1, 1, 0, 0]] * 4)[None]
    fine = torch.nn.functional.interpolate(coarse, (4, 4), mode="bilinear")
    expected = torch.nn.functional.cross_entropy(fine, labels)
    assert labeled_loss(coarse, labels, label_smoothing=0.0) == expected


def test_where_nothing_is_known_nothing_is_learnt() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.full((2, 4, 4), IGNORED)
    loss = labeled_loss(logits, labels, label_smoothing=0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
