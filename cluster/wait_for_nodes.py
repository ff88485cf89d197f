"""Wait until a Ray cluster that is starting has all its nodes, or say how many it has.

python -m cluster.wait_for_nodes --address HOST:PORT --nodes N [--timeout SECONDS]
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import time

from pipeline.errors import ClusterError, ParameterError, SelftrainError
from pipeline.ray.quiet import quiet_ray

EVERY = 1.0  # seconds


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; ParameterError for anything else."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ParameterError(f"--address {address}: not HOST:PORT, as 10.0.0.1:6379")
    return host, int(port)


def answers(host: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((host, port), timeout=EVERY):
            return True
    except OSError:
        return False


def wait_for_head(address: str, deadline: float) -> None:
    """Return when the head listens; ClusterError at `deadline` (of time.monotonic)."""
    host, port = parse_address(address)
    while not answers(host, port):
        if time.monotonic() > deadline:
            raise ClusterError(f"--address {address}: no Ray head answers; see its log")
        time.sleep(EVERY)


def join(address: str, deadline: float) -> None:
    """ray.init at `address`, again until `deadline`: the head listens before it serves.

    A token that the head does not take is a ClusterError at once.
    """
    quiet_ray()
    import ray

    while True:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except ray.exceptions.AuthenticationError as error:
            raise ClusterError(f"--address {address}: {first_line(error)}") from None
        except (ConnectionError, RuntimeError) as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"--address {address}: {first_line(error)}") from None
            time.sleep(EVERY)


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).strip().partition("\n")[0]


def wait_for_nodes(address: str, nodes: int, timeout: float) -> None:
    """Return when `nodes` nodes are alive; ClusterError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    wait_for_head(address, deadline)
    join(address, deadline)
    import ray

    try:
        while (alive := sum(node["Alive"] for node in ray.nodes())) < nodes:  # type: ignore[no-untyped-call]
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"--nodes {nodes}: {alive} joined {address} in {timeout:g} s; see the logs of"
                    " the others, or raise --timeout"
                )
            time.sleep(EVERY)
    finally:
        ray.shutdown()


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
