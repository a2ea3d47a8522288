"""The platform's image: what is in it, and who runs there."""

from __future__ import annotations

import pytest

from tests import engine
from tests.deploy import platform_image

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(500)]
#: Debian's slim image and its Python are half of it.
MOST_BYTES = 250_000_000


@pytest.fixture(scope="module")
def image() -> str:
    engine.require()
    return platform_image.settings()["SKEP_IMAGE"]


def run(image: str, script: str, *options: str) -> list[str]:
    """Return the lines that a script prints in the image, by way of its entrypoint."""
    command = ["run", "--rm", "--read-only", "--network", "none", *options, image]
    return engine.docker(*command, "sh", "-c", script).splitlines()


def test_it_is_small_and_has_nothing_to_build_with(image: str) -> None:
    assert int(engine.docker("image", "inspect", "--format", "{{.Size}}", image)) < MOST_BYTES
    tools = "gcc cc make git pip pip3 curl wget"
    assert run(image, f"for tool in {tools}; do command -v $tool; done; echo end") == ["end"]


def test_whatever_it_is_started_as_nobody_in_it_is_root_or_becomes_it(image: str) -> None:
    script = "id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status | tr -d '\\t'"
    ordinary = ["65531", "CapEff:0000000000000000", "NoNewPrivs:1"]
    assert run(image, script) == ordinary
    assert run(image, script, "--user", "0:0") == ordinary


def test_a_token_can_be_in_a_file_and_has_to_be_if_it_was_said(image: str) -> None:
    said = ["--env", "SKEP_TOKEN_FILE=/etc/hostname", "--hostname", "secret"]
    assert run(image, "echo $SKEP_TOKEN", *said) == ["secret"]
    with pytest.raises(AssertionError, match="No such file"):
        run(image, "echo $SKEP_TOKEN", "--env", "SKEP_TOKEN_FILE=/nowhere")
