from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.champion import choose_champion, content_name, promote, rows_by_content
from pipeline.tasks import open_task
from pipeline.tasks.significance import Bootstrap, compare, mcnemar_p_value

TASK = open_task("classification")


def flags(right: int, images: int = 100) -> NDArray[np.bool_]:
    """The first `right` of `images` images are right."""
    return np.arange(images) < right


def choose(rights: Mapping[str, NDArray[np.bool_] | None]) -> tuple[str, str]:
    """The champion by which images each model has right."""
    evidence = {
        key: None if each is None else TASK.evidence_of(each.tolist())
        for key, each in rights.items()
    }
    return choose_champion(TASK, evidence)


def test_the_latest_is_champion_though_an_earlier_one_is_luckier() -> None:
    swapped = np.roll(flags(90), 3)  # three lost and three gained, then two more lost
    swapped[:5] = False
    generation, reason = choose({"0": flags(80), "1": flags(90), "2": swapped})
    assert swapped.sum() < 90
    assert generation == "2"
    assert "latest" in reason
    assert "100 images held out" in reason


def test_one_that_falls_behind_is_not() -> None:
    rights = {"0": flags(70), "1": flags(90), "2": flags(60)}
    generation, reason = choose(rights)
    assert generation == "1"
    assert reason == (
        "since generation 2 is right on 30 fewer of 100 images held out than generation 1"
    )
    few = choose({"0": flags(20, 20), "1": flags(10, 20)})[1]
    assert few.endswith("10 fewer of 20 images held out than generation 0, too few to be sure")
    assert choose({"0": flags(95), "1": flags(80), "2": flags(60)})[0] == "0"


def test_a_control_is_champion_where_the_generations_are_clearly_worse() -> None:
    rights = {"0.longer": flags(90), "0": flags(70), "1": flags(75)}
    champion, reason = choose(rights)
    assert champion == "0.longer"
    assert reason.endswith("15 fewer of 100 images held out than the control longer")
    assert choose(rights | {"1": flags(90)})[0] == "1"
    assert choose({"0.longer": None, "0": None, "1": None})[0] == "1"


def test_a_slow_decline_is_seen_although_no_step_of_it_is() -> None:
    rights = {str(g): flags(100 - g) for g in range(4)}  # one more lost each time
    assert choose({key: rights[key] for key in "01"})[0] == "1"
    assert choose({key: rights[key] for key in "12"})[0] == "2"
    assert choose(rights)[0] == "1"


def test_without_validation_images_it_is_the_last_and_says_so() -> None:
    generation, reason = choose({"0": None, "1": None, "2": None})
    assert generation == "2"
    assert "no validation images" in reason


def test_where_a_generation_was_not_judged_it_is_the_last_and_says_which() -> None:
    reason = "the last; no images were held out from generation 1 to choose by"
    assert choose({"0": flags(9), "1": None}) == ("1", reason)
    heads_first = {"0": flags(9), "1": flags(9), "2": None, "3": None}
    assert "from generations 2, 3 to choose by" in choose(heads_first)[1]
    control = {"0.longer": None, "0": flags(9), "1": None}
    assert "from generation 1 and the control longer to choose" in choose(control)[1]
    control |= {"1": flags(9)}
    assert "held out from the control longer to choose by" in choose(control)[1]


def test_of_one_generation_there_is_nothing_to_choose() -> None:
    assert choose({"0": flags(9)}) == ("0", "the only one")


def simulated(
    accuracies: tuple[float, ...], images: int, runs: int = 600, share: float = 0.7
) -> tuple[float, float, float]:
    """Mean true accuracy of our champion, of the most accurate on validation, and by the interval.

    On a share of the images all generations draw the same luck, as models that learn from each
    other err on the same images. Of equals the first is the most accurate.
    """
    generator = np.random.default_rng(0)
    chosen: list[list[float]] = [[], [], []]
    for _ in range(runs):
        common, own = generator.random((1, images)), generator.random((len(accuracies), images))
        alike = generator.random((1, images)) < share
        draws = np.where(alike, common, own)
        rights = [draws[g] < accuracy for g, accuracy in enumerate(accuracies)]
        counts = [int(value.sum()) for value in rights]
        last = next(
            g
            for g in reversed(range(len(rights)))
            if all(mcnemar(rights[h], rights[g]) for h in range(g))
        )
        ours = int(choose({str(g): value for g, value in enumerate(rights)})[0])
        for place, g in enumerate((ours, counts.index(max(counts)), last)):
            chosen[place].append(accuracies[g])
    first, second, third = (float(np.mean(values)) for values in chosen)
    return first, second, third


def mcnemar(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Whether `after` is not worse beyond the interval, by McNemar's test alone."""
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return gained >= lost or mcnemar_p_value(gained, lost) >= 0.05


def test_with_few_images_it_beats_the_most_accurate_where_students_improve() -> None:
    ours, luckiest, _ = simulated((0.95, 0.96, 0.97, 0.98), images=30)
    assert ours > 0.979
    assert ours > luckiest + 0.01


def test_few_images_are_enough_to_leave_a_collapse_behind() -> None:
    ours, _, by_interval = simulated((0.95, 0.96, 0.80), images=30)
    assert ours > 0.945
    assert ours > by_interval + 0.05


def test_with_many_images_there_is_nothing_to_lose() -> None:
    ours, luckiest, _ = simulated((0.95, 0.96, 0.80), images=500, runs=100)
    assert ours >= luckiest - 0.001


def by_content(right: int, images: int, first: int = 0) -> dict[str, bool]:
    return {str(first + number): number < right for number in range(images)}


def test_the_first_is_champion() -> None:
    assert promote(TASK, None, {}).moves
    assert promote(TASK, None, by_content(1, 3)).reason == "the first"


def test_the_decision_is_that_of_the_paired_test() -> None:
    before, bootstrap = np.arange(300) < 250, Bootstrap(samples=400, interval=0.9, seed=3)
    for right in range(240, 300, 5):
        after = np.arange(300) < right
        want = compare(before, after, bootstrap).verdict == "better"
        champion = {str(k): bool(v) for k, v in enumerate(before)}
        challenger = {str(k): bool(v) for k, v in reversed(list(enumerate(after)))}
        got = promote(TASK, champion, challenger, bootstrap)
        assert got.moves == want
    assert promote(TASK, by_content(250, 300), by_content(299, 300)).moves
    assert not promote(TASK, by_content(250, 300), by_content(252, 300)).moves


def test_only_shared_images_count() -> None:
    champion = by_content(50, 100)  # of the images 90 to 99 it has none right
    assert promote(TASK, champion, by_content(100, 100, first=90)).moves
    assert (
        "on 10 validation images" in promote(TASK, champion, by_content(100, 100, first=90)).reason
    )
    assert not promote(
        TASK, champion, by_content(100, 100, first=95)
    ).moves  # five images are too few
    assert not promote(TASK, by_content(0, 5), by_content(5, 5, first=5)).moves


def test_images_are_known_by_their_content() -> None:
    images = [bytes([number % 50]) for number in range(70)]
    last = {content_name(image): row for row, image in enumerate(images)}
    assert rows_by_content(images) == last
    first = sorted(last)[:7]
    assert list(rows_by_content(images, 7)) == first
    assert list(rows_by_content(reversed(images), 7)) == first
