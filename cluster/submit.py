"""Run the pipeline on a Ray cluster, and have its results here as if it had run here.

python -m cluster.submit --address http://HEAD:8265 [-- ARGUMENTS OF dvc repro]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.bring_back import is_other_tree
from cluster.connect import ask, check_versions, open_client, probe, versions_here
from cluster.experiments import Experiment, queued_experiments
from cluster.orders import committed_order, dirty_order, experiment_order, params_of
from cluster.remote import Remote, find_remote
from cluster.send import (
    MARK,
    Order,
    Terms,
    check_source,
    local_source,
    send_order,
    shared_tracking,
    told_experiment,
)
from cluster.session import Session
from pipeline.errors import ParameterError, SelftrainError
from pipeline.files import value_digest
from pipeline.params import Params, load_params
from pipeline.progress import say


def submit(options: argparse.Namespace, root: Path) -> int:
    """Send what the options name, and see it through unless --detach; the exit code."""
    params = load_params()
    remote = find_remote(root, params.storage.url)
    orders = make_orders(options, root, remote.small_outputs())
    client = open_client(options.address)
    check_cluster(client, params, orders, remote)
    say(f"pushing what is done here to {remote.url}")
    remote.push([order.experiment.revision for order in orders if order.experiment])
    terms = Terms(
        remote=remote,
        arguments=options.arguments,
        storage_url=params.storage.url,
        tracking=shared_tracking(params.tracking.uri),
        cpus=options.cpus,
        gpus=options.gpus,
    )
    session = Session(client, options.address, remote, params.tracking.uri)
    if options.detach:
        return detach(session, orders, terms)
    return watched(session, see_through_all(session, orders, terms, options.parallel))


def make_orders(options: argparse.Namespace, root: Path, outputs: Sequence[str]) -> list[Order]:
    """What to send: the commit, the tracked files as they are, or each queued experiment."""
    if options.queue:
        orders = [experiment_order(root, each, outputs) for each in queued_experiments(root)]
    elif options.allow_dirty:
        orders = [dirty_order(root, outputs)]
    else:
        orders = [committed_order(root, outputs)]
    for order in orders:
        params_of(order)
    return orders


def check_cluster(client: Any, params: Params, orders: Sequence[Order], remote: Remote) -> None:
    """Raise unless the cluster has the versions of here and sees the images, or needn't."""
    source = local_source(params, orders[0].files)
    facts = probe(client, [source] if source else [])
    check_versions(versions_here(), facts.versions)
    check_source(source, facts.paths, remote)


def detach(session: Session, orders: Sequence[Order], terms: Terms) -> int:
    """Start every run and say how to come back to it; the exit code."""
    for order in orders:
        job = started_before(session, order.experiment) or send_order(session.client, order, terms)
        say(f"{order.title}: {job} runs; its results: {session.resume_command(job)}")
    return 0


async def see_through_all(
    session: Session, orders: Sequence[Order], terms: Terms, parallel: int
) -> int:
    """Run every order, `parallel` at a time; the exit code: the first that is not 0."""
    places = asyncio.Semaphore(parallel)

    async def one(order: Order) -> int:
        async with places:
            job = started_before(session, order.experiment)
            job = job or send_order(session.client, order, terms)
            prefix = order.title if len(orders) > 1 else ""
            return await session.see_through(job, order.experiment, prefix=prefix)

    codes = await asyncio.gather(*(one(order) for order in orders))
    return next((code for code in codes if code), 0)


def started_before(session: Session, experiment: Experiment | None) -> str | None:
    """The job of a queued experiment that an earlier command has started, unless it failed."""
    if experiment is None:
        return None
    for details in ask(session.client.list_jobs):
        told = told_experiment(details.metadata or {})
        if told == experiment and details.status.value in ("PENDING", "RUNNING", "SUCCEEDED"):
            say(f"{experiment.name}: taking up job {details.submission_id}")
            return str(details.submission_id)
    return None


def resume(options: argparse.Namespace, root: Path) -> int:
    """Take up a job again: its log from the start, then its results; the exit code."""
    params = load_params()
    remote = find_remote(root, params.storage.url)
    client = open_client(options.address)
    metadata = known_job(client, options.resume)
    if metadata[MARK + "remote"] != value_digest(remote.url):
        raise ParameterError(
            f"--resume {options.resume}: its results are not in {remote.url}, the remote here; "
            "resume in the repository that sent it"
        )
    experiment = told_experiment(metadata)
    if experiment is None and is_other_tree(root, metadata[MARK + "files"], remote.small_outputs()):
        say("the repository is no longer what was sent: dvc status will say what differs")
    session = Session(client, options.address, remote, params.tracking.uri)
    return watched(session, session.see_through(options.resume, experiment))


def known_job(client: Any, job: str) -> dict[str, str]:
    """The metadata of a job that a submission started; raises ParameterError for any other."""
    jobs = {each.submission_id: each.metadata or {} for each in ask(client.list_jobs)}
    ours = [name for name, metadata in jobs.items() if name and MARK + "commit" in metadata]
    if job not in ours:
        known = f"it has {', '.join(ours)}" if ours else "it has none of a submission"
        raise ParameterError(f"--resume {job}: no such job on the cluster; {known}")
    return dict(jobs[job])


def watched(session: Session, work: Any) -> int:
    """Run the coroutine `work`; after Ctrl-C ask what becomes of its jobs. The exit code."""
    try:
        return int(asyncio.run(work))
    except KeyboardInterrupt:
        return session.interrupted()
    except SelftrainError:
        for job in session.running:
            say(f"{job} may go on; its results: {session.resume_command(job)}")
        raise


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; raises ParameterError for those that exclude each other."""
    parser = argparse.ArgumentParser(prog="python -m cluster.submit", description=__doc__)
    parser.add_argument("--address", required=True, help="URL of the dashboard, http://HEAD:8265")
    parser.add_argument("--detach", action="store_true", help="start the job and leave it")
    parser.add_argument("--resume", metavar="ID", help="take up a job again")
    parser.add_argument("--allow-dirty", action="store_true", help="send tracked files as they are")
    parser.add_argument("--queue", action="store_true", help="run what dvc exp run --queue queued")
    parser.add_argument("--parallel", type=int, default=4, help="experiments at a time")
    parser.add_argument("--cpus", type=float, default=0.0, help="held by each job's own process")
    parser.add_argument("--gpus", type=float, default=0.0, help="held by each job's own process")
    parser.add_argument("arguments", nargs="*", help="after --: arguments of dvc repro")
    options = parser.parse_args(arguments)
    if options.resume and (options.queue or options.detach or options.arguments):
        raise ParameterError("--resume takes up a job as it is: no --queue, --detach or arguments")
    if options.queue and options.allow_dirty:
        raise ParameterError("--queue sends the experiments as they were queued: no --allow-dirty")
    if options.parallel < 1 or options.cpus < 0 or options.gpus < 0:
        raise ParameterError("--parallel must be 1 or more, --cpus and --gpus 0 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: the job's; 2 for a mistake in what was asked, 1 where the cluster fails."""
    try:
        options = parse(arguments)
        return (resume if options.resume else submit)(options, Path.cwd())
    except SelftrainError as error:
        print(f"submit: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
