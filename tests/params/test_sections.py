"""What single sections refuse, and that how fast a run goes enters no output."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.addresses import without_secrets
from pipeline.params import RunParams, TrainParams, parse_params
from pipeline.params.presets import differences
from tests.params.test_load import GENERATION, refused, values

FASTER = {
    "actors": [2, 8],
    "gpus_per_actor": 0.5,
    "prepare_workers": 4,
    "select_workers": 4,
    "select_threads": 8,
    "checkpoint_minutes": 60.0,
}


def test_nothing_that_a_fingerprint_holds_changes_with_how_fast_a_run_goes() -> None:
    plain = parse_params(values(generations={"1": GENERATION}))
    faster = parse_params(values(generations={"1": GENERATION}, run=FASTER))
    assert plain.run == RunParams()
    assert set(FASTER) == set(RunParams.model_fields)
    assert all(getattr(faster.run, name) != getattr(plain.run, name) for name in FASTER)
    assert faster.model_dump(exclude={"run"}) == plain.model_dump(exclude={"run"})
    assert faster.training("1") == plain.training("1")
    assert faster.selection("1") == plain.selection("1")
    assert differences(faster, plain) == []


@pytest.mark.parametrize("name", FASTER)
def test_no_other_section_takes_it(name: str) -> None:
    for section in ("predict", "select", "train"):
        line = f"{section}.{name} is not a parameter; "
        assert line in refused(**{section: {name: FASTER[name]}})
        student = {"train": {name: FASTER[name]}}
    line = f"generations.1.student.train.{name} is not a parameter; "
    assert line in refused(generations={"1": GENERATION | {"student": student}})


@pytest.mark.parametrize(
    ("actors", "both"), [(0, (0, 0)), (3, (3, 3)), ([1, 4], (1, 4)), ([2, 2], (2, 2))]
)
def test_actors_are_a_number_or_a_range(actors: Any, both: tuple[int, int]) -> None:
    assert RunParams(actors=actors).actor_range == both


@pytest.mark.parametrize("actors", [-1, True, "2", None, 1.5, [], [1], [0, 2], [3, 2], [1, 2, 3]])
def test_other_actors_are_refused(actors: Any) -> None:
    with pytest.raises(ValidationError, match=r"run\.actors = .*a number from 0, or \[fewest"):
        RunParams(actors=actors)


@pytest.mark.parametrize("gpus", [0, -1, 1.5])
def test_a_share_of_a_gpu_is_at_most_one(gpus: float) -> None:
    with pytest.raises(ValidationError):
        RunParams(gpus_per_actor=gpus)
    with pytest.raises(ValidationError):
        TrainParams(steps=1, gpus_per_worker=gpus)


def test_workers_without_a_least_number_stay_as_many() -> None:
    assert list(TrainParams(steps=1).world_sizes) == [1]
    assert list(TrainParams(steps=1, workers=4).world_sizes) == [4]
    assert list(TrainParams(steps=1, batch_size=12, workers=4, min_workers=2).world_sizes) == [
        2,
        3,
        4,
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 10, "workers": 4}, "multiple of 4, train.workers = 4"),
        (
            {"batch_size": 8, "workers": 4, "min_workers": 2},
            "multiple of 3, a number of workers that train.min_workers = 2 allows",
        ),
        ({"workers": 2, "min_workers": 3}, "train.min_workers = 3: at most train.workers = 2"),
        ({"sync_batchnorm": True, "device": "cpu"}, "torch has it for GPUs only"),
    ],
)
def test_what_workers_cannot_share_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainParams(steps=1, **values)
    assert said in str(caught.value)


@pytest.mark.parametrize("given", [None, "corrections.csv"])
def test_the_watched_file_of_corrections_or_none_is_taken(given: str | None) -> None:
    assert parse_params(values(data={"corrections": given})).data.corrections == given


@pytest.mark.parametrize("given", ["mine.csv", "../corrections.csv", "", "labels/corrections.csv"])
def test_another_file_is_refused_since_dvc_would_not_see_it_change(given: str) -> None:
    line = f"data.corrections = {given!r}: must be corrections.csv"
    assert line in refused(data={"corrections": given})


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("ftp://host/x", "file://, s3://, gs://"),
        ("/shared/mine", "must start with"),
        ("", "must start with"),
        ("hdfs://host/x", "must start with"),
        ("file://shared/mine", "absolute path"),
        ("file:shared", "absolute path"),
        ("s3:///mine", "must name a bucket"),
        ("gs://", "must name a bucket"),
        ("s3://bucket/mine#part", "must hold no #"),
        ("file:///with blank", "no blanks"),
        ("s3://key:verysecret@bucket/mine", "credentials go into the environment"),
        ("s3://[bucket", "Invalid IPv6 URL"),
    ],
)
def test_other_addresses_are_refused_in_one_line(url: str, part: str) -> None:
    message = refused(storage={"url": url})
    assert message.startswith(f"params.yaml: storage.url = {without_secrets(url)!r}: ")
    assert part in message
    assert "verysecret" not in message


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("s3://key:verysecret@bucket/mine", "credentials go into the environment"),
        ("http://host/images", "must start with file://, s3://, gs://"),
        ("gs:///images", "must name a bucket"),
    ],
)
def test_an_address_of_images_is_one_of_storage(path: str, part: str) -> None:
    message = refused(data={"source": "folder", "path": path})
    assert f"data.path = {without_secrets(path)!r}: " in message
    assert part in message
    assert "verysecret" not in message
