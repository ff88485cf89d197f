"""Signals: at once, as a wish, and on their way to workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipeline.runtime import stop_workers
from pipeline.runtime.home import Home
from pipeline.runtime.stop import SIGNALS, Wish, interrupt_on_signals, stop_is_a_wish
from pipeline.runtime.stop_workers import StopFiles, fit_or_stop

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def handlers() -> object:
    """Both signals have the handlers that they had, once the test is over."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_but_is_a_wish_at_first_where_that_is_asked_for(
    number: signal.Signals,
) -> None:
    interrupt_on_signals()
    with stop_is_a_wish() as wish:
        assert not wish()
        os.kill(os.getpid(), number)
        assert wish()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_a_stage_ends_with_the_dvc_that_started_it(tmp_path: Path) -> None:
    stage = (
        "import os, time\n"
        "from pipeline.runtime.stop import end_with_dvc, interrupt_on_signals\n"
        "interrupt_on_signals(); end_with_dvc()\n"
        "try: print(os.getpid(), flush=True); time.sleep(600)\n"
        f"except KeyboardInterrupt: open({str(tmp_path / 'end')!r}, 'w')"
    )
    dvc = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", dvc], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    child.wait(60)
    process.communicate()
    assert (tmp_path / "end").exists()


def test_what_training_on_workers_raises_comes_out(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fit_or_stop(fail, tmp_path, Wish())
    (tmp_path / stop_workers.STOP).touch()  # of an earlier run, which it would end
    done = list[bool]()
    fit_or_stop(lambda: done.append((tmp_path / stop_workers.STOP).exists()), tmp_path, Wish())
    assert done == [False]


def test_the_wish_reaches_a_worker_and_the_driver_waits_until_it_has_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_workers, "LOOK_SECONDS", 0.01)
    wish, saved = Wish(), list[float]()

    def work() -> None:
        files = StopFiles(tmp_path, Home())
        while not files():
            time.sleep(0.01)
        time.sleep(0.3)
        saved.append(time.monotonic())
        files.wait_for_end()

    threading.Timer(0.2, lambda: setattr(wish, "asked", True)).start()
    with pytest.raises(KeyboardInterrupt):
        fit_or_stop(work, tmp_path, wish)
    assert len(saved) == 1
