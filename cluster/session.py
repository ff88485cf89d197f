"""The jobs that one command watches: each followed to its end, its results taken, Ctrl-C heeded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.bring_back import Brought, bring_back
from cluster.connect import ask
from cluster.experiments import Experiment
from cluster.follow import Ended, follow
from cluster.remote import Remote
from pipeline.progress import say

INTERRUPTED = 130


@dataclass
class Session:
    """The connection to a cluster and the jobs that are being watched there, by their titles."""

    client: Any
    address: str
    remote: Remote
    tracking_uri: str | None
    running: dict[str, str] = field(default_factory=dict)

    async def see_through(
        self, job: str, experiment: Experiment | None, *, prefix: str = ""
    ) -> int:
        """Follow a job to its end and take its results; the exit code: the job's."""
        self.running[job] = experiment.name if experiment else job
        ended = await follow(self.client, job, printer(prefix))
        del self.running[job]
        return self.settle(ended, experiment)

    def settle(self, ended: Ended, experiment: Experiment | None) -> int:
        """Take the results of a job that has ended and say what came of it; the exit code."""
        brought = bring_back(
            self.remote,
            ended.job,
            experiment=experiment,
            succeeded=ended.succeeded,
            tracking_uri=self.tracking_uri,
        )
        name = f"experiment {experiment.name}" if experiment else f"job {ended.job}"
        if not ended.succeeded:
            print(f"submit: {name} {failure_words(ended, brought)}", file=sys.stderr, flush=True)
            return ended.exit_code or 1
        if brought is None:
            say(f"{name}: no results in {self.remote.url}; they were brought back before")
            return 0
        say(f"{name}: {success_words(brought, experiment)}")
        return 0

    def resume_command(self, job: str) -> str:
        """The command that takes a job up again."""
        return f"python -m cluster.submit --address {self.address} --resume {job}"

    def interrupted(self) -> int:
        """After Ctrl-C: stop the jobs, if the user says so, or say how to resume; the exit code."""
        if self.running and asked_to_stop(len(self.running)):
            for job in self.running:
                ask(self.client.stop_job, job)
                say(f"stopped: {job}")
            return INTERRUPTED
        for job, title in self.running.items():
            named = f" ({title})" if title != job else ""
            say(f"{job}{named} goes on; its results: {self.resume_command(job)}")
        return INTERRUPTED


def asked_to_stop(jobs: int) -> bool:
    """Whether someone at a terminal wants the jobs to stop; with nobody there they go on."""
    if not sys.stdin.isatty():
        return False
    what = "the job" if jobs == 1 else f"the {jobs} jobs"
    try:
        answer = input(f"\nStop {what} on the cluster? [y/N: it goes on without this command] ")
    except (EOFError, KeyboardInterrupt):
        return False
    return answer.strip().lower() in ("y", "yes")


def printer(prefix: str) -> Callable[[str], None]:
    """A function that prints a log's pieces as they come; whole lines, where they get a prefix."""
    if not prefix:

        def show(text: str) -> None:
            sys.stdout.write(text)
            sys.stdout.flush()

        return show
    rest = ""

    def show_lines(text: str) -> None:
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            say(f"{prefix} | {line}")

    return show_lines


def failure_words(ended: Ended, brought: Brought | None) -> str:
    """How a job failed, with the last line of its log, and what there is of it."""
    if ended.status == "STOPPED":
        return "was stopped"
    lines = [line for line in ended.message.splitlines() if line.strip()] or ["no message"]
    kept = "; what it finished is here" if brought is not None else ""
    return f"failed with exit code {ended.exit_code}: {lines[-1].strip()}{kept}"


def success_words(brought: Brought, experiment: Experiment | None) -> str:
    """What a job brought."""
    runs = f", {brought.runs} runs on their way to MLflow" if brought.runs else ""
    if experiment is not None:
        return f"in dvc exp show; dvc exp apply {experiment.name} puts it here{runs}"
    state = f"dvc status: {', '.join(brought.changed)} changed" if brought.changed else "up to date"
    return f"brought back DVC's outputs and {brought.files} files{runs}; {state}"
