"""`dvc repro`, without what it says of its own files.

python -m selftrain.repro [STAGE …]    what `selftrain run` becomes

Errors, warnings, the stages' own lines and what came from the cache are shown as they are.
"""

from __future__ import annotations

import logging
import sys

FROM_CACHE = "dvc.stage.cache"  # tells of stages whose outputs are taken from the run cache
NO_NEWS = (
    "'%s' is empty.",  # a folder of features, where there is no body to make them
    "Process '%s' with (Pid %s), in RWLock-file",  # what a killed run left, and is mended
)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of DVC's is worth the user's while: the stages say themselves that they run,
    and that those which did not change are skipped is what the plan said."""
    if record.levelno == logging.INFO:
        return record.name == FROM_CACHE
    return record.levelno != logging.WARNING or not str(record.msg).startswith(NO_NEWS)


def main() -> int:
    """The exit code of `dvc repro`."""
    from dvc.cli import main as dvc
    from dvc.ui import ui

    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(is_news)
    ui.enable = lambda: None  # it advises to push, wherever to
    code: int = dvc(["repro", *sys.argv[1:]])
    return code


if __name__ == "__main__":
    sys.exit(main())
