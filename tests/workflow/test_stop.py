"""Signals: at once, and as a request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.workflow.stop import SIGNALS, interrupt_on_signals, stop_requested

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def handlers() -> object:
    """Both signals have the handlers that they had, once the test is over."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_but_is_a_request_at_first_where_the_work_asks(
    number: signal.Signals,
) -> None:
    interrupt_on_signals()
    with stop_requested() as requested:
        assert not requested()
        os.kill(os.getpid(), number)
        assert requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_a_stage_ends_with_the_dvc_that_started_it(tmp_path: Path) -> None:
    stage = (
        "import os, time\n"
        "from pipeline.workflow.stop import end_with_dvc, interrupt_on_signals\n"
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
