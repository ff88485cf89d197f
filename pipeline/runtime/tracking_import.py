"""Take over runs that were tracked in another copy of the repository, and send them from here.

A cluster's job without a tracking server keeps its spools; they come back with its results. What
a run has logged before, here or by an earlier import, is not logged again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.files import write_json
from pipeline.runtime.tracking import hold_lock, start_sender
from pipeline.runtime.tracking_server import forget_lost_store, tracking_uri
from pipeline.runtime.tracking_spool import (
    Event,
    Seen,
    Spool,
    append_event,
    cut_torn_line,
    keep_file,
    load_seen,
    read_events,
    sent_bytes,
    tracking_folder,
)

SAME_AGAIN = ("status", "parameters", "tags", "inputs", "headline")  # again, they change nothing


def import_spools(root: Path, source: Path, uri: str | None) -> int:
    """Import every spool folder in `source` and start the sender; returns how many had news.

    `uri` is the parameter tracking.uri. Raises BusyError while a run of the same key is tracked
    here.
    """
    server = tracking_uri(root, uri)
    forget_lost_store(root, server)
    found = sorted(source.glob("*/events.jsonl")) if source.is_dir() else []
    count = sum(_import_spool(root, Spool(path.parent), server) > 0 for path in found)
    if count:
        write_json(tracking_folder(root) / "server.json", {"uri": server})
        start_sender(root)
    return count


def _import_spool(root: Path, came: Spool, server: str) -> int:
    """Append to the run's spool here what it lacks; returns the number of events."""
    spool = Spool(tracking_folder(root) / "runs" / came.folder.name)
    lock = hold_lock(spool.lock, came.folder.name)
    try:
        if not spool.events.exists():
            spool.sent.unlink(missing_ok=True)
        cut_torn_line(spool)
        if not spool.header.exists():
            shutil.copy2(came.header, spool.header)  # its time is the run's start
        seen = load_seen(spool, server)
        events = [event for event, _ in read_events(came, sent_bytes(came, server))]
        fresh = [event for event in (_unseen(each, seen) for each in events) if event]
        if all(event["kind"] in SAME_AGAIN for event in fresh) and (seen.steps or seen.digests):
            return 0  # the run itself was logged before: nothing to reopen it for
        for event in fresh:
            append_event(spool, _with_file(event, came, spool))
        return len(fresh)
    finally:
        lock.release()


def _unseen(event: Event, seen: Seen) -> Event | None:
    """What of an event is news; takes it into `seen`."""
    if event["kind"] == "metrics":
        step, values = event["step"], event["values"]
        new = {k: v for k, v in values.items() if step > seen.steps.get(k, step - 1)}
        event = {**event, "values": new}
        seen.add(event)
        return event if new else None
    if "digest" in event:
        known = seen.digests.get(event["target"]) == event["digest"]
        seen.add(event)
        return None if known else event
    return event


def _with_file(event: Event, came: Spool, spool: Spool) -> Event:
    """The event with the file it names, if any, kept in `spool`."""
    if "digest" not in event:
        return event
    return {**event, "path": keep_file(spool, came.folder / event["path"], event["digest"])}
