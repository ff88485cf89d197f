"""What can be learnt of images: one file a task, behind one interface (task.py)."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from pipeline.tasks.task import Task

__all__ = ["Task", "open_task"]


def open_task(name: str) -> Task:
    """The task `name`, as `task` in params.yaml says it."""
    return cast(Task, import_module(f"pipeline.tasks.{name}").TASK)
