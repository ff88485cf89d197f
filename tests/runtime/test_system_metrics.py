"""System metrics: sampled while a block runs, under MLflow's names."""

from __future__ import annotations

import time

from pipeline.runtime.system_metrics import FIRST, parse_gpus, sampled, system_values


def test_a_block_is_sampled_and_once_more_at_its_end() -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    with sampled(lambda values, step: seen.append((step, values)), 7, every_s=0.05):
        time.sleep(0.3)
    assert [step for step, _ in seen] == list(range(7, 7 + len(seen)))
    assert len(seen) >= 2
    for _, values in seen:
        assert set(values) >= {FIRST, "system/system_memory_usage_megabytes"}
        assert values["system/process_memory_usage_megabytes"] > 10
        assert 0 <= values[FIRST] <= 100


def test_a_short_block_has_one_sample() -> None:
    seen: list[int] = []
    with sampled(lambda values, step: seen.append(step), 0, every_s=60):
        pass
    assert seen == [0]


def test_a_full_disk_does_not_end_the_block_otherwise() -> None:
    def full(values: dict[str, float], step: int) -> None:
        raise OSError("no space")

    with sampled(full, 0, every_s=0.01):
        time.sleep(0.05)


def test_the_lines_of_nvidia_smi_are_understood() -> None:
    values = parse_gpus("0, 37, 2048, 81920, 120.5\n1, [N/A], 1, 81920, [N/A]\nno GPU line\n")
    assert values == {
        "gpu_0_utilization_percentage": 37.0,
        "gpu_0_memory_usage_megabytes": 2048.0,
        "gpu_0_memory_usage_percentage": 2.5,
        "gpu_0_power_usage_watts": 120.5,
        "gpu_1_memory_usage_megabytes": 1.0,
        "gpu_1_memory_usage_percentage": 100 / 81920,
    }


def test_all_values_are_numbers_under_the_prefix_that_mlflow_charts() -> None:
    values = system_values()
    assert all(name.startswith("system/") for name in values)
    assert all(isinstance(value, int | float) for value in values.values())
