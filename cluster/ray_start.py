"""`ray start` for a busy machine, where a node needs longer to come up than Ray gives it.

python -P cluster/ray_start.py start ARGUMENTS OF ray start

Ray waits 30 seconds for a node, and its raylet 15 seconds for the agent that it has started to
say on which port it listens; then it aborts. Both are numbers in its code.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

PATIENCE_SECONDS = 150.0
POLL_SECONDS = 0.5
OPTION = "--dashboard-agent-listen-port="
RAYLET, FLAG = "raylet", "--dashboard_agent_listen_port="


def patient(
    get_node: Callable[..., Any], seconds: float = PATIENCE_SECONDS, poll: float = POLL_SECONDS
) -> Callable[..., Any]:
    """Ray's get_node, asked again for `seconds` before its RuntimeError counts.

    It raises that while the node is unknown.
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


def told_port(start: Callable[..., Any], port: str) -> Callable[..., Any]:
    """Ray's start_ray_process, which tells the raylet too where its agent will listen.

    Ray tells the agent alone, and the raylet then waits for what the agent says.
    """

    def start_told(command: list[str], process_type: str, *more: Any, **named: Any) -> Any:
        if process_type == RAYLET:
            command = [*command, FLAG + port]
        return start(command, process_type, *more, **named)

    return start_told


def port_of(arguments: Sequence[str]) -> str:
    """The agent's port among the arguments; Ray's own default otherwise."""
    told = [word.removeprefix(OPTION) for word in arguments if word.startswith(OPTION)]
    return told[-1] if told else "0"


def main() -> None:
    """Run Ray's command line."""
    from ray._private import services
    from ray.scripts import scripts

    services.get_node = patient(services.get_node)
    services.start_ray_process = told_port(services.start_ray_process, port_of(sys.argv))
    run: Any = scripts.main
    run()


if __name__ == "__main__":
    main()
