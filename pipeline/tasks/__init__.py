"""What can be learnt of images: one file a task, behind one interface (task.py)."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from pipeline.params import Params
from pipeline.tasks.task import Task

__all__ = ["Task", "noted", "open_task"]


def open_task(name: str) -> Task:
    """The task `name`, as `task` in params.yaml says it."""
    return cast(Task, import_module(f"pipeline.tasks.{name}").TASK)


def noted(task: Task) -> dict[str, Any]:
    """What a manifest notes of the task: its name where it is not the usual one."""
    usual = Params.model_fields["task"].default
    return {} if task.name == usual else {"task": task.name}
