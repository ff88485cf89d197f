"""Wait until a Ray cluster that is starting has all its nodes, or say how many it has.

python -m cluster.wait_for_nodes --address HOST:PORT --nodes N [--timeout SECONDS]
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import time

from pipeline.errors import ClusterError, ParameterError, SelftrainError
from pipeline.runtime.quiet import quiet_ray


def wait_for_nodes(address: str, nodes: int, timeout: float) -> None:
    """Return when `nodes` nodes are alive; ClusterError after `timeout` seconds."""
    host, _, port = address.rpartition(":")
    if not (host and re.fullmatch(r"[1-9]\d{0,4}", port)):
        raise ParameterError(f"--address {address}: not HOST:PORT, as 10.0.0.1:6379")
    quiet_ray()
    from ray.exceptions import AuthenticationError, RayError
    from ray.util.state import list_nodes

    until = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()  # Ray would take longer
            alive = len(list_nodes(address, filters=[("state", "=", "ALIVE")], limit=10_000))
            said = f"{alive} joined {address} in {timeout:g} s; see the logs of the others"
        except AuthenticationError as error:
            raise ClusterError(f"--address {address}: {str(error).partition('. ')[0]}") from None
        except (RayError, OSError, OverflowError, RuntimeError):
            alive, said = 0, f"no Ray head answers at {address} in {timeout:g} s; see its log"
        if alive >= nodes:
            return
        if time.monotonic() > until:
            raise ClusterError(f"--nodes {nodes}: {said}, or raise --timeout")
        time.sleep(1)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0, or the exit code of the error that it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--timeout", type=float, default=600.0)
    options = parser.parse_args(arguments)
    try:
        wait_for_nodes(options.address, options.nodes, options.timeout)
    except SelftrainError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
