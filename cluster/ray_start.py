"""`ray start` with the patience that a busy machine needs: Ray gives a node 30 seconds to come up.

python -P cluster/ray_start.py start ARGUMENTS OF ray start
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 150.0
POLL_SECONDS = 0.5


def patient(
    get_node: Callable[..., Any], seconds: float = PATIENCE_SECONDS, poll: float = POLL_SECONDS
) -> Callable[..., Any]:
    """Ray's get_node, asked again for `seconds` before its RuntimeError counts.

    It raises that while the node is unknown, and Ray's start asks it until its own limit, which
    is a number in the code.
    """

    def get_node_in_time(*arguments: Any) -> Any:
        until = time.monotonic() + seconds
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
            time.sleep(poll)

    return get_node_in_time


def main() -> None:
    """Run Ray's command line."""
    from ray._private import services
    from ray.scripts import scripts

    services.get_node = patient(services.get_node)
    scripts.main()


if __name__ == "__main__":
    main()
