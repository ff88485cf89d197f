"""The digits benchmark keeps its protocol, and goes through the pipeline's own functions."""

from __future__ import annotations

import copy

from benchmarks.data import digits
from benchmarks.digits import PRESET, protocol, summary, table
from pipeline.params import load_params, parse_params
from pipeline.self_training.loop import self_train
from tests.integration.project import SMALL


def test_preset_uses_no_validation_images_and_one_thread() -> None:
    params = protocol(load_params(PRESET), 7)
    assert (params.seed, params.data.labels, params.data.validation_fraction) == (7, 50, 0.0)
    assert params.train.threads == 1


def test_generations_learn_in_process() -> None:
    values = copy.deepcopy(SMALL)
    values["generations"] = {"1": values["generations"]["1"]}
    results = self_train(digits(0, 100, 8), parse_params(values))
    assert len(results) == 2
    assert all(part.centre_accuracy > 0.7 for part in results)
    assert results[1].log_probs.shape == (899, 10)


def test_summary_reports_means_and_the_gain() -> None:
    params = load_params(PRESET)
    last = f"generation {len(params.generations)}"
    rows = [{"generation 0": 0.9, last: 0.95}, {"generation 0": 0.8, last: 0.91}]
    result = summary(rows, params)
    assert abs(result["gain over the teacher"]["mean"] - 0.08) < 1e-9
    assert f"| {last} | 93.0 ± 2.8 | 91.0 |" in table(result)
