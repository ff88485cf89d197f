from __future__ import annotations

import pytest

from pipeline.errors import ParameterError
from pipeline.files import storage_problem, without_secrets
from pipeline.params import parse_params


@pytest.mark.parametrize(
    "url",
    [
        "file:///shared/mine",
        "file:///with%20blank/",
        "s3://bucket",
        "s3://bucket/mine?endpoint_override=127.0.0.1:9000&scheme=http",
        "gs://bucket/some/folder",
    ],
)
def test_addresses_that_may_be_storage(url: str) -> None:
    assert storage_problem(url) is None


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("ftp://host/x", "file://, s3://, gs://"),
        ("/shared/mine", "must start with"),
        ("", "must start with"),
        ("hdfs://host/x", "must start with"),
        ("file://shared/mine", "absolute path"),
        ("file:shared", "absolute path"),
        ("s3:///mine", "must name a bucket"),
        ("gs://", "must name a bucket"),
        ("s3://bucket/mine#part", "must hold no #"),
        ("file:///with blank", "no blanks"),
        ("s3://key:verysecret@bucket/mine", "credentials go into the environment"),
        ("s3://[bucket", "Invalid IPv6 URL"),
    ],
)
def test_other_addresses_are_refused_in_one_line(url: str, part: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_params(
            {
                "data": {"source": "digits", "image_size": 16},
                "train": {"steps": 1},
                "storage": {"url": url},
            }
        )
    message = str(caught.value)
    assert message.startswith(f"params.yaml: storage.url = {without_secrets(url)!r}: ")
    assert part in message
    assert "\n" not in message
    assert "verysecret" not in message
    assert caught.value.exit_code == 2
