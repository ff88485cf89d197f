"""What holds for every definition: values at the top, the token on, no secret, no root."""

from __future__ import annotations

import re
import shlex

import pytest
from ruamel.yaml import YAML

from tests.cluster.definitions import CLOUDS, FOLDER, KUBERAY, PLACEHOLDER, ROOT, documents, text_of

DOCKERFILE = FOLDER / "Dockerfile"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
YAMLS = (*CLOUDS, *KUBERAY)
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}"  # an AWS key
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\bAIza[0-9A-Za-z_-]{35}"  # a Google key
    r"|\b(gh[pousr]_|glpat-|xox[abp]-|hf_)[0-9A-Za-z_-]{16,}"
    r"|\b[0-9a-fA-F]{32,}\b"
    r"|(password|passwd|secret_access_key|private_key)\s*[:=]\s*['\"]?[^\s<{$'\"]",
    re.IGNORECASE,
)

files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
yamls = pytest.mark.parametrize("name", YAMLS)


def block_of_values(name: str) -> tuple[str, str]:
    """The text up to the end of the block of values, and what follows."""
    text = text_of(name)
    end = re.search(r"^(cluster_name|spec):", text, re.MULTILINE)
    assert end is not None
    return text[: end.start()], text[end.start() :]


def values(name: str) -> dict[str, object]:
    """The values to set, by their name."""
    metadata = documents(name)[0]["metadata"]
    chosen: dict[str, object] = metadata.get("annotations", metadata)
    return chosen


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and arguments of each line of a Dockerfile, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word.upper(), " ".join(rest.split()))
        for word, _, rest in (line.strip().partition(" ") for line in joined.splitlines())
        if word
    ]


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions, stage by stage; what is before the first is left out."""
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions(DOCKERFILE.read_text(encoding="utf-8")):
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


@files
def test_it_opens_with_what_it_is_and_the_values_to_set(path: object) -> None:
    text = FOLDER.joinpath(str(path)).read_text(encoding="utf-8")
    opening = text.split("\n\nset -euo", 1)[0][:2200]
    assert opening.startswith("#")
    assert "Values to set" in opening


@files
def test_no_secret_is_in_it(path: object) -> None:
    assert SECRET.findall(FOLDER.joinpath(str(path)).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "password: hunter2",
        "-----BEGIN RSA PRIVATE KEY-----",
        "t: " + "0a" * 16,
    ],
)
def test_the_search_for_secrets_finds_one(line: str) -> None:
    assert SECRET.search(line)


@files
def test_token_authentication_is_on(path: object) -> None:
    text = FOLDER.joinpath(str(path)).read_text(encoding="utf-8")
    assert "RAY_AUTH_MODE=token" in text or "authOptions: {mode: token" in text
    assert "disabled" not in text


@yamls
def test_placeholders_stand_at_the_top_alone(name: str) -> None:
    top, rest = block_of_values(name)
    assert PLACEHOLDER.search(top)
    assert PLACEHOLDER.findall(rest) == []


@yamls
def test_every_value_at_the_top_is_used_below(name: str) -> None:
    _, rest = block_of_values(name)
    top, _ = block_of_values(name)
    anchors = re.findall(r"^[ ]{2,4}\S+: &(\w+)", top, re.MULTILINE)
    assert len(anchors) == len(values(name))
    unused = [anchor for anchor in anchors if not re.search(rf"\*{anchor}\b", rest)]
    assert unused == []


@yamls
def test_a_value_set_at_the_top_reaches_where_it_is_used(name: str) -> None:
    image = text_of(name).replace('"<registry/selftrain:tag>"', '"mine/selftrain:3"')
    whole = str(list(YAML(typ="safe").load_all(image)))
    assert whole.count("mine/selftrain:3") > 1


def test_the_image_s_stages_share_a_base_that_names_no_registry() -> None:
    bases = [stage[0][1].split()[0] for stage in stages()]
    assert bases == ["python:${PYTHON}-slim-bookworm"] * 2


def test_the_image_ends_as_a_user_without_rights() -> None:
    users = [arguments for word, arguments in stages()[-1] if word == "USER"]
    assert users == ["1000:1000"]
    words = [word for word, _ in stages()[-1]]
    assert "RUN" not in words[words.index("USER") :]


def test_the_image_installs_the_lock_with_its_hashes() -> None:
    installs = [
        command
        for stage in stages()
        for word, arguments in stage
        if word == "RUN"
        for command in arguments.split("&&")
        if "pip install" in command
    ]
    (install,) = installs
    assert {"--require-hashes", "--no-deps"} <= {*shlex.split(install)}
    assert "requirements.lock" in install
    assert "--hash=sha256:" in (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_the_image_fetches_nothing_by_address() -> None:
    for stage in stages():
        assert {word for word, _ in stage} <= {
            "FROM",
            "COPY",
            "RUN",
            "ENV",
            "USER",
            "WORKDIR",
            "CMD",
        }
        assert not [
            arguments for _, arguments in stage if re.search(r"https?://|curl|sudo", arguments)
        ]


def test_the_image_has_what_its_users_call() -> None:
    runs = " ".join(arguments for word, arguments in stages()[-1] if word == "RUN").split()
    assert {"git", "make", "openssh-client", "rsync", "wget"} <= {*runs}
    environment = " ".join(arguments for word, arguments in stages()[-1] if word == "ENV").split()
    assert {"HOME=/home/selftrain", "RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"} <= {
        *environment
    }


def test_the_image_is_built_from_the_lock_alone() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*", "!requirements.lock"]
    copied = [arguments for stage in stages() for word, arguments in stage if word == "COPY"]
    assert copied == [
        "requirements.lock /tmp/requirements.lock",
        "--from=build /opt/selftrain /opt/selftrain",
    ]


def test_a_dockerfile_s_continued_lines_are_one_instruction() -> None:
    text = "# FROM x\nfrom a AS b\nRUN one \\\n && two\n# USER root\nUSER 1\n"
    assert instructions(text) == [("FROM", "a AS b"), ("RUN", "one && two"), ("USER", "1")]
