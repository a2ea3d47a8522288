"""Images got from a registry by the engine of this host, and what it says to that."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from miniworker.pulling import pull
from tests import engine
from tests.registry import PASSWORD, Registry, registry, slowly
from wire import jobs
from wire.models import Fault

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
BYTES = 4_000_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def there(hub: Registry) -> str:
    """Return the name of an image that the registry has, and no engine."""
    name, tag = hub.name("one"), f"skep-test/pulled-{secrets.token_hex(4)}"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("big")
        member.size = BYTES
        tar.addfile(member, io.BytesIO(secrets.token_bytes(BYTES)))
    command = ["docker", "import", "-", tag]
    subprocess.run(command, input=content.getvalue(), capture_output=True, check=True)
    hub.push(tag, name)
    engine.docker("image", "rm", tag)
    return name


def pulled(
    image: str, config: Path | None, how: jobs.PullPolicy = "missing"
) -> tuple[jobs.Pulled, list[int]]:
    told: list[int] = []
    file = str(config / "config.json") if config else ""
    settings = {"folder": "/nowhere", "registry_config": file}
    return pull(jobs.Pull(image=image, how=how), settings, told.append), told


def says(found: jobs.Pulled) -> str:
    assert found.reason is not None
    assert found.reason.code == "image_unavailable"
    assert PASSWORD not in found.reason.message
    return found.reason.message


def test_credentials_are_those_of_the_settings_and_who_has_none_is_told(
    hub: Registry, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for config in (None, hub.credentials("wrong")):
        found, told = pulled(there, config)
        assert found.fault is Fault.NODE
        assert "SKEP_REGISTRY_CONFIG" in says(found)
        assert told == []
    never, _ = pulled(there, hub.credentials(), "never")
    assert never.fault is Fault.FUNCTION
    assert "the engine of this node has no image" in says(never)
    nothing, _ = pulled(hub.name("nothing"), hub.credentials())
    assert nothing.fault is Fault.FUNCTION
    assert "its registry has no such image" in says(nothing)


def test_it_tells_how_far_it_is_and_asks_no_registry_for_what_is_there(
    hub: Registry, there: str
) -> None:
    with slowly(hub.host, 4 << 20) as host:
        name = there.replace(hub.host, host)
        found, told = pulled(name, hub.credentials(PASSWORD, host))
        try:
            assert found == jobs.Pulled(reason=None)
            assert told == sorted(told)
            assert told[-1] == 100
            assert len(told) > 2
            # Nobody is asked: these would be refused.
            assert pulled(name, hub.credentials("wrong")) == (found, [])
            always, _ = pulled(name, hub.credentials("wrong", host), "always")
            assert always.reason is not None
        finally:
            engine.docker("image", "rm", name)


def test_a_registry_that_is_away_is_asked_again_and_then_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("miniworker.pulling.PAUSES_S", (0.1, 0.1))
    found, _ = pulled("127.0.0.1:1/none:1", None)
    assert found.fault is Fault.NODE
    assert "its registry does not answer" in says(found)
    assert "connection refused" in says(found)
