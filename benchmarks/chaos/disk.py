"""Let the disk become full while a stage writes: one clear line, and a rerun that finishes."""

from __future__ import annotations

from benchmarks.chaos.boundaries import Clean, Fault, cut_and_rerun
from benchmarks.chaos.stages import Bench


def fill_once(clean: Clean, bench: Bench, point: int) -> Fault:
    """Fill the disk after operation `point`, then make space and run the stage again."""
    where = f"{clean.step.title}, disk full after {point}, {clean.operations[point - 1]}"
    return cut_and_rerun(
        clean, bench, where, lambda full: refusals(full.code, full.said), full_at=point
    )


def refusals(code: int, said: str) -> list[str]:
    """What is wrong with how a stage ended on a full disk, if it still had to write."""
    if "Traceback" in said:
        return [f"a traceback: {said[-700:]}"]
    if code and "No space left" not in said:
        return [f"ended with {code} and does not say why: {said[-500:]}"]
    return []
