"""The ablation's rows change what they say, its runs are kept, and its page says what they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import ablation, runs
from benchmarks.ablation import DataSet, run_task
from benchmarks.ablation_page import finding, page, run_of, spread, summary
from benchmarks.ablation_rows import FULL, MAIN, ONLINE, ROWS, Row, row_params, with_steps
from pipeline.files import write_json
from pipeline.params import Params

DIGITS = DataSet("digits", "digits_50", 50, 848, 899, seeds=2, steps=2)
SIZES = (1000, 20_000, 10_000)
FASHION = DataSet("Fashion-MNIST", "fashion_mnist", *SIZES, seeds=2, names=MAIN)
TEACHES_ITSELF = DataSet("online", "fashion_mnist_online", *SIZES, seeds=2, names=ONLINE)
TRAINED = [row for row in ROWS if run_of(row) == row.name]
BY_NAME = {row.name: row for row in ROWS}


def all_steps(params: Params) -> int:
    return sum(params.training(key).train.steps for key in params.model_keys)


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (data, row)
        for data in (DIGITS, FASHION, TEACHES_ITSELF)
        for row in data.rows
        if row in TRAINED
    ],
    ids=lambda value: value.name,
)
def test_rows_differ_from_the_full_form_and_cost_the_same_steps(data: DataSet, row: Row) -> None:
    full, params = data.params, row_params(row, data.params)
    assert (params == full) == (row is FULL)
    assert all_steps(params) == all_steps(full)
    assert params.data.validation_fraction == 0
    assert params.train.threads == 1


@pytest.mark.parametrize("data", [DIGITS, FASHION], ids=["digits", "fashion"])
def test_rows_change_what_they_name(data: DataSet) -> None:
    params = {row.name: row_params(row, data.params) for row in ROWS}
    full = params["full"]
    last = full.model_keys[-1]
    assert params["supervised"].model_keys == ["0"]
    assert params["one generation"].model_keys == ["0", "1"]
    assert params["supervised"].training("0").augment == full.training(last).augment
    for key in full.generations:
        plain = params["no data noise"].training(key)
        assert {plain.train.labeled_augment, plain.train.unlabeled_augment} == {"none"}
        still = params["no model noise"].training(key).model
        assert still.dropout_rate == still.stochastic_depth_rate == 0
        assert params["hard labels"].selection(key).label_kind == "hard"
        unbalanced = params["no balancing"].selection(key)
        assert unbalanced.fraction_per_class is None
        assert unbalanced.distribution_alignment == "none"
        quotas = params["quotas"].selection(key)
        assert (quotas.distribution_alignment, quotas.fraction_per_class) == ("none", 1.0)
        assert params["threshold"].selection(key).confidence_threshold == 0.9
    shares = [params["surest first"].selection(key).fraction_per_class for key in ("1", last)]
    assert shares == [0.5, 1.0]
    assert params["no data noise"].training("0") == full.training("0")
    grown, same = params["growing student"].training(last).model, full.training(last).model
    assert (grown.width, grown.depth) > (same.width, same.depth)
    assert params["online teacher"].training(last).train.online is not None
    assert full.training(last).train.online is None


def test_an_online_teacher_is_kept_but_for_the_row_that_takes_it_away() -> None:
    full = TEACHES_ITSELF.params
    params = {row.name: row_params(row, full) for row in ROWS if row.name != "surest first"}
    for name, each in params.items():
        if name.startswith("supervised"):
            assert each.model_keys == ["0"]
            continue
        online = each.training("1").train.online
        assert (online is None) == (name == "offline teacher")
        assert online is None or online.distribution_alignment == (name != "no balancing")
    strong = params["supervised, strong noise"].training("0").train
    assert strong.labeled_augment == full.training("1").train.unlabeled_augment == "strong"
    assert params["supervised"].training("0").train.labeled_augment == "weak"


def test_fewer_steps_are_for_every_generation() -> None:
    params = with_steps(FASHION.params, 7)
    assert [params.training(key).train.steps for key in params.model_keys] == [7] * (
        1 + len(params.generations)
    )
    assert params.training("1").augment == FASHION.params.training("1").augment


def test_runs_are_kept_by_what_they_rest_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KEPT", tmp_path)
    made: list[Params] = []

    def outcome(images: object, params: Params) -> dict[str, float]:
        made.append(params)
        return {"last": float(len(made))}

    monkeypatch.setattr(ablation, "outcome", outcome)
    first = run_task("supervised", DIGITS, 1)
    others = [("supervised", DIGITS, 2), ("full", DIGITS, 1)]
    others.append(("supervised", replace(DIGITS, steps=3), 1))
    assert [run_task(*other)["last"] for other in others] == [2, 3, 4]
    assert run_task("supervised", replace(DIGITS, name="elsewhere", seeds=9), 1) == first
    assert len(made) == 4


def test_a_run_gives_the_accuracies_that_rows_count() -> None:
    params = row_params(BY_NAME["supervised"], DIGITS.params)
    found = ablation.outcome(DIGITS.images(1, params.data.image_size), params)
    assert {row.figure for row in ROWS} < found.keys()
    assert 0 < found["last"] < 1


def outcomes() -> dict[str, dict[int, dict[str, float]]]:
    names = {run_of(row) for row in ROWS}
    made = {
        name: {
            seed: {"last": 0.9 + 0.01 * seed, "centre": 0.8, "ensemble": 0.95} for seed in (0, 1)
        }
        for name in names
    }
    made["supervised"] = {seed: {"last": 0.7 + 0.011 * seed} for seed in (0, 1, 2)}
    return made


def test_differences_are_paired_by_seed() -> None:
    rows = summary(outcomes())
    assert rows["supervised"]["accuracy"]["seeds"] == pytest.approx([0.7, 0.711, 0.722])
    assert rows["supervised"]["difference"]["seeds"] == pytest.approx([-0.2, -0.199])
    assert rows["no test-time views"]["difference"]["mean"] == pytest.approx(0.8 - 0.905)
    assert rows["ensemble"]["accuracy"]["mean"] == pytest.approx(0.95)
    assert rows["full"]["difference"] is None


def test_intervals_are_student_s() -> None:
    values = np.random.default_rng(0).normal(size=5)
    result = spread(values.tolist())
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert result["mean"] - result["half"] == pytest.approx(low)
    assert result["mean"] + result["half"] == pytest.approx(high)
    assert spread([0.5]) == {"mean": 0.5, "half": None, "seeds": [0.5]}


def test_findings_say_helps_hurts_or_neither() -> None:
    def found(name: str, *values: float) -> str:
        return finding(BY_NAME[name], {"difference": spread(values)})

    assert found("no data noise", -0.02, -0.021, -0.019) == "data noise helps"
    assert found("no data noise", 0.02, 0.021, 0.019) == "data noise hurts"
    assert found("growing student", 0.02, 0.021, 0.019) == "a growing student helps"
    assert found("ensemble", -0.02, -0.021, -0.019) == "the ensemble hurts"
    assert found("ensemble", -0.02, 0.021) == "no difference"
    assert found("hard labels", -0.02) == "one seed says nothing"


def test_the_page_has_a_line_for_every_row_of_every_data_set() -> None:
    sets = (DIGITS, FASHION, TEACHES_ITSELF)
    data = {
        part.name: {"protocol": part.protocol, "rows": summary(outcomes(), part.rows)}
        for part in sets
    }
    text = page({"data": data})
    for row in ROWS:
        tables = sum(row.name in part.names for part in sets)
        assert tables
        assert text.count(f"| {row.name} |") == 1 + tables
    assert text.count("| −19.95 ± 0.64 points | self-training helps |") == len(sets)
    assert "1,000 labels, 20,000 unlabelled and 10,000 test images" in text
    assert "2 steps a generation" in text


def test_one_data_set_is_renewed_and_the_others_keep_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures(part: DataSet, protocol: str) -> dict[str, object]:
        return {"protocol": protocol, "rows": summary(outcomes(), part.rows)}

    kept = {part.name: figures(part, "as it was") for part in (DIGITS, FASHION)}
    write_json(tmp_path / "result.json", {"machine": "m", "data": kept})  # sorts
    (tmp_path / "fashion_mnist.parquet").touch()
    monkeypatch.setattr(ablation, "RESULT", tmp_path / "result.json")
    monkeypatch.setattr(ablation, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(
        ablation,
        "run_all",
        lambda sets, processes: {"data": {each.name: figures(each, "again") for each in sets}},
    )
    command = ["ablation", "--data", str(tmp_path), "--only"]
    monkeypatch.setattr("sys.argv", [*command, FASHION.name])
    ablation.main()
    result = json.loads((tmp_path / "result.json").read_text())
    said = {name: part["protocol"] for name, part in result["data"].items()}
    assert said == {DIGITS.name: "as it was", FASHION.name: "again"}
    lines = (tmp_path / "page.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## digits", "## Fashion-MNIST"]
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ") and "±" in line]
    assert rows == [*DIGITS.names, *FASHION.names]
    monkeypatch.setattr("sys.argv", [*command, "nothing"])
    with pytest.raises(SystemExit):
        ablation.main()
