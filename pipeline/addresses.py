"""Addresses: of shared storage, servers and clusters, and that none holds a secret."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from pipeline.errors import ParameterError

SCHEMES = ("file", "s3", "gs")  # of addresses of shared storage
BUCKETS = ("s3", "gs")
KEYS_FOR_USERS = ("http", "https", *BUCKETS)  # where a user's name alone may be a token
CREDENTIALS = (
    "credentials go into the environment, not into an address (MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
)
ENCODED = 8  # times that an address may be percent-encoded; what is more often is of no use
_SECRET = re.compile(r"pass|pwd|secret|token|credential|auth|sig|(?<!ssl)key", re.IGNORECASE)


def has_credentials(address: str) -> bool:
    """Whether an address holds a user's password or key, or a parameter that is named as one."""
    for _ in range(ENCODED):
        address = unquote(address)
    before, mark, rest = address.partition("://")
    if not mark:
        return bool(re.search(r"[\w+.~-]:", address.rpartition("@")[0]))
    scheme = re.split(r"[^\w+.-]", before)[-1].lower()
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    rest = rest[len(host) :]
    user, at, server = host.rpartition("@")
    query = "".join(re.split("[?#]", rest, maxsplit=1)[1:])
    names = [part.partition("=")[0] for part in re.split("[&;?#]", query)]
    return bool(
        (at and (":" in user or scheme in KEYS_FOR_USERS))
        or "@" in before + query
        or (":" in server and ("@" in rest or scheme in BUCKETS))  # a password with a slash
        or any(map(_SECRET.search, names))
    )


def without_secrets(address: str) -> str:
    """An address for a message: what holds credentials is cut after its scheme."""
    if not has_credentials(address):
        return address
    scheme = re.match(r"[A-Za-z][\w+.-]*://", address, re.ASCII)
    return f"{scheme[0] if scheme else ''}…"


def check_address(name: str, address: str) -> None:
    """Raise ParameterError for an address, that of `name`, which holds credentials."""
    if has_credentials(address):
        raise ParameterError(f"{name} = {without_secrets(address)!r}: {CREDENTIALS}")


def address_in(variable: str) -> str:
    """The address in a variable of the environment, "" for none; raises as check_address."""
    address = os.environ.get(variable, "")
    check_address(variable, address)
    return address


def storage_problem(url: str) -> str | None:
    """What is wrong with an address of a folder in storage, None where nothing is."""
    if has_credentials(url):
        return CREDENTIALS
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return str(error)
    if parts.scheme not in SCHEMES:
        return "must start with " + ", ".join(f"{name}://" for name in SCHEMES)
    if parts.fragment or any(character.isspace() for character in url):
        return "must hold no # and no blanks (%23 and %20 stand for them)"
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        return "must be an absolute path, as file:///shared/mine"
    if parts.scheme != "file" and not parts.netloc:
        return f"must name a bucket, as {parts.scheme}://bucket/mine"
    return None
