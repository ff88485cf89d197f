"""Which nodes see the driver's folder, and what they are short of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ClusterError
from pipeline.ray.nodes import SharedFolder, has_gpus, say_if_waiting, shared_folder
from pipeline.ray.session import ray_session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # of Ray, about itself
]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_session(1, "stage"):
        yield


def test_a_node_sees_a_folder_of_its_own_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "a cluster")
    with shared_folder(tmp_path, "wait") as shared:
        shared.check()
        assert shared.token.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_does_not_is_named_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("/proc/self/cwd")  # another folder for each process, by one name
    if not own.exists():
        pytest.skip("only Linux has such a folder")
    with shared_folder(own, "wait"):  # this machine alone: nobody is asked
        pass
    monkeypatch.setenv("RAY_ADDRESS", "a cluster")
    with (
        pytest.raises(ClusterError, match=r"can't see /proc/self/cwd; .* or set storage\.url"),
        shared_folder(own, "set storage.url"),
    ):
        raise AssertionError("not reached")
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_joined_late_is_found_by_its_worker(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="can't see"):
        SharedFolder(tmp_path / "gone", "wait").check()


def test_work_that_no_node_has_room_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    say_if_waiting("predict", "an actor", {"CPU": 1, "GPU": 0})
    assert capsys.readouterr().out == ""
    say_if_waiting("predict", "an actor", {"CPU": 1, "GPU": 99})
    assert "predict: no node has 1 CPU and 99 GPU for an actor" in capsys.readouterr().out
    assert has_gpus() is False
