from dataclasses import replace

from pipeline.evaluate.champion import choose_champion
from tests.evaluate.test_result import example


def test_the_most_accurate_on_validation_is_champion() -> None:
    base = example()
    generation, reason = choose_champion(
        {
            "0": replace(base, accuracy=0.8),
            "1": replace(base, accuracy=0.9),
            "2": replace(base, accuracy=0.85),
        }
    )
    assert generation == "1"
    assert f"{base.images} validation images" in reason


def test_of_equals_the_lower_nll_and_then_the_earlier() -> None:
    base = replace(example(), accuracy=0.9)
    equals = {"0": replace(base, nll=0.5), "1": replace(base, nll=0.3)}
    assert choose_champion(equals)[0] == "1"
    assert choose_champion({"0": base, "1": base})[0] == "0"


def test_without_validation_images_it_is_the_last_and_says_so() -> None:
    generation, reason = choose_champion({"0": None, "1": None, "2": None})
    assert generation == "2"
    assert "no validation images" in reason
    assert choose_champion({"0": example(), "1": None})[0] == "1"
