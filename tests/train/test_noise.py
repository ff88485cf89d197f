import torch

from pipeline.train.noise import model_noise

CPU = torch.device("cpu")


def drawn(seed: int = 0, step: int = 0, rank: int = 0) -> list[float]:
    with model_noise(seed, step, rank, CPU):
        return [float(value) for value in torch.rand(4)]


def test_seed_step_and_rank_decide_the_draws_and_nothing_else() -> None:
    torch.rand(1)
    first = drawn(1, 2, 3)
    torch.rand(1)
    assert drawn(1, 2, 3) == first
    others = [drawn(0, 2, 3), drawn(1, 0, 3), drawn(1, 2, 0), drawn(2, 1, 3)]
    assert all(other != first for other in others)


def test_the_default_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    drawn()
    assert torch.equal(torch.get_rng_state(), before)
