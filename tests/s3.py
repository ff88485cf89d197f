"""An S3-compatible server on loopback, in this process, with one bucket."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BUCKET = "bucket"


@contextmanager
def s3_server() -> Iterator[str]:
    """The server's host and port while the block runs; credentials are in the environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "someone")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "a secret of no one")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        request = urllib.request.Request(f"http://{host}:{port}/{BUCKET}", method="PUT")
        # Its own opener: urlopen's keeps the proxies of when it was first called.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request):
            pass
        try:
            yield f"{host}:{port}"
        finally:
            server.stop()


def s3_url(server: str, path: str) -> str:
    """The address of a path (bucket/folder) on the server, as params.yaml would have it."""
    return f"s3://{path}?endpoint_override={server}&scheme=http&region=us-east-1"
