"""Addresses of folders in shared storage: which are allowed."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("file", "s3", "gs")


def storage_problem(url: str) -> str | None:
    """What is wrong with an address of a folder in storage, None where nothing is."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return str(error)
    if parts.scheme not in SCHEMES:
        return "must start with " + ", ".join(f"{name}://" for name in SCHEMES)
    if "@" in parts.netloc:
        return "credentials go into the environment, not into the address"
    if parts.fragment or any(character.isspace() for character in url):
        return "must hold no # and no blanks (%23 and %20 stand for them)"
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        return "must be an absolute path, as file:///shared/mine"
    if parts.scheme != "file" and not parts.netloc:
        return f"must name a bucket, as {parts.scheme}://bucket/mine"
    return None


def without_secrets(url: str) -> str:
    """The address with what stands before an @ in it left out."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}…@{rest.rpartition('@')[2]}" if mark and "@" in rest else url
