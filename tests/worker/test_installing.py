"""Installing by real pieces: a worker, pip, a private index on loopback, an api by script."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.conftest import soon
from tests.index import Index, certificate, index, wheel
from tests.packing import zipped
from tests.worker.scripted import ScriptedApi, Worker, items, node
from wire import messages as m
from wire.models import Fault, Item, Spec

PIP = "pip3 install -r requirements.txt"
CODE = "import tiny; print(tiny.VALUE)"


@pytest.fixture(autouse=True)
def no_settings_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(("PIP_", "SSL_CERT_")) or "PROXY" in name.upper():
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_RETRIES", "0")


def package(code: str = CODE, requirements: str = "tiny==1.0\n") -> bytes:
    return zipped({"test.py": code, "requirements.txt": requirements})


def spec_of(api: ScriptedApi, data: bytes, dependencies: str = PIP) -> Spec:
    """Return a function that is not in the catalogue, its package with the api."""
    api.packages[hashlib.sha256(data).hexdigest()] = data
    runtime, function = items(data, name="new", dependencies=dependencies)
    assert runtime.runtime is not None
    assert function.function is not None
    return Spec(
        function=msgspec.structs.replace(function.function, revision=0), runtime=runtime.runtime
    )


async def bundled(api: ScriptedApi, spec: Spec, ticket: int = 1) -> tuple[m.Bundled, str]:
    """Ask for a bundle; return the answer and all that was shown."""
    api.say(m.Bundle(session=api.session, ticket=ticket, spec=spec))
    await soon(lambda: any(b.ticket == ticket for b in api.of(m.Bundled)), 40)
    answer = next(b for b in api.of(m.Bundled) if b.ticket == ticket)
    return answer, shown(api, ticket)


def shown(api: ScriptedApi, ticket: int) -> str:
    return "".join(one.text for one in api.of(m.BundleLog) if one.ticket == ticket)


@contextmanager
def process_node(data: Path, *options: str) -> Iterator[tuple[ScriptedApi, Worker]]:
    # Every sandbox reaches its tools by this path, where it has no view of its own.
    with node(data, *options, sandbox="process") as pair:
        yield pair


def catalogue(*functions: tuple[str, bytes]) -> tuple[Item, ...]:
    """Return one runtime and functions of it."""
    first = items(functions[0][1], name=functions[0][0], dependencies=PIP)
    more = [items(data, name=name, seq=i + 2)[1] for i, (name, data) in enumerate(functions)]
    return (first[0], *more)


async def call(api: ScriptedApi, number: int, name: str) -> bytes:
    """Call a function; return its result, or fail with why there is none."""
    api.prepare(number, key=f"default/{name}@1.1")
    await soon(
        lambda: (
            any(one.call == number for one in api.of(m.Ready))
            or any(one.call == number for one in api.of(m.Returned))
        ),
        40,
    )
    returned = [one for one in api.of(m.Returned) if one.call == number]
    assert not returned, returned
    api.start(number, key=f"default/{name}@1.1")
    result, payload = await api.end(number)
    assert result.outcome is not None
    assert result.outcome.reason is None, (result.outcome.reason, payload)
    return payload[: result.sizes[1]].strip()


async def test_two_functions_install_their_common_requirements_once(tmp_path: Path) -> None:
    one, two = package(), package(CODE + "\nprint(2)")
    with ExitStack() as stack:
        at = stack.enter_context(index())
        at.add("tiny", "1.0", {"tiny.py": "VALUE = 42", "bin/tiny": "#!/bin/sh\necho script"})
        api, worker = stack.enter_context(process_node(tmp_path / "d", "--index-url", at.url))
        for data in (one, two):
            api.packages[hashlib.sha256(data).hexdigest()] = data
        await api.welcome(*catalogue(("one", one), ("two", two)))
        assert await call(api, 1, "one") == b"42"
        assert await call(api, 2, "two") == b"42\n2"
        assert at.downloads() == ["tiny-1.0-py3-none-any.whl"]
        api.say(m.Recorded(session=1, upto=2))
        assert await worker.stop() == 0


async def test_a_script_of_a_layer_is_on_the_path(tmp_path: Path) -> None:
    data = package("import subprocess\nprint(subprocess.check_output('tiny').decode())")
    with ExitStack() as stack:
        at = stack.enter_context(index())
        at.add("tiny", "1.0", {"tiny.py": "", "bin/tiny": "#!python\nprint('a script')"})
        api, _ = stack.enter_context(process_node(tmp_path / "d", "--index-url", at.url))
        api.packages[hashlib.sha256(data).hexdigest()] = data
        await api.welcome(*catalogue(("one", data)))
        assert await call(api, 1, "one") == b"a script"


async def test_a_ticket_makes_the_bundle_that_calls_use(tmp_path: Path) -> None:
    data = package()
    with ExitStack() as stack:
        at = stack.enter_context(index())
        at.add("tiny", "1.0", {"tiny.py": "VALUE = 42"})
        api, _ = stack.enter_context(process_node(tmp_path / "d", "--index-url", at.url))
        await api.welcome()
        answer, text = await bundled(api, spec_of(api, data))
        assert answer.reason is None
        assert "Successfully installed tiny-1.0" in text
        api.say(
            m.Catalogue(
                session=1, epoch="store-1", after=0, seq=2, items=catalogue(("one", data))
            )
        )
        assert await call(api, 1, "one") == b"42"
        assert len(at.downloads()) == 1
        # Asked again there is nothing to do, and nothing to show.
        assert await bundled(api, spec_of(api, data), 2) == (
            m.Bundled(session=1, ticket=2),
            "",
        )


async def test_what_is_installed_is_shown_while_it_runs_to_all_who_ask(tmp_path: Path) -> None:
    command = "echo begun; until [ -e go ]; do sleep 0.02; done; echo done"
    with process_node(tmp_path / "d") as (api, _):
        await api.welcome()
        spec = spec_of(api, package(), command)
        for ticket in (1, 2):
            api.say(m.Bundle(session=1, ticket=ticket, spec=spec))
        await soon(lambda: [shown(api, ticket) for ticket in (1, 2)] == ["begun\n"] * 2)
        assert api.of(m.Bundled) == []
        made = list((tmp_path / "d").glob("nodes/n1/bundles/*"))
        assert len(made) == 1
        (made[0] / "go").touch()
        await api.get(m.Bundled, 2)
        assert [shown(api, ticket) for ticket in (1, 2)] == ["begun\ndone\n"] * 2


async def test_a_failure_is_explained_and_the_next_try_is_a_new_one(tmp_path: Path) -> None:
    with ExitStack() as stack:
        at = stack.enter_context(index())
        api, _ = stack.enter_context(process_node(tmp_path / "d", "--index-url", at.url))
        await api.welcome()
        spec = spec_of(api, package())
        answer, text = await bundled(api, spec)
        assert answer.fault is Fault.FUNCTION
        assert answer.reason is not None
        assert answer.reason.code == "install_failed"
        assert f"`{PIP}`: it exited with the code 1" in answer.reason.message
        assert "No matching distribution found for tiny==1.0" in answer.reason.message
        assert text.endswith("ERROR: No matching distribution found for tiny==1.0\n")
        assert not list((tmp_path / "d").glob("nodes/n1/bundles/*"))
        at.add("tiny", "1.0", {"tiny.py": "VALUE = 42"})
        assert (await bundled(api, spec, 2))[0].reason is None


async def test_a_private_index_with_an_authority_of_its_own(tmp_path: Path) -> None:
    cert = certificate(tmp_path)
    with ExitStack() as stack:
        at = stack.enter_context(index(cert, "ada", "s3cret"))
        at.add("tiny", "1.0", {"tiny.py": "VALUE = 42"})
        settings = ("--index-url", at.url, "--ca-bundle", str(cert[0]))
        api, worker = stack.enter_context(process_node(tmp_path / "d", *settings))
        await api.welcome()
        answer, text = await bundled(api, spec_of(api, package()))
        assert answer.reason is None, answer.reason
        assert "Looking in indexes: https://" in text
        assert "s3cret" not in text + (tmp_path / "d/worker.log").read_text()
        assert await worker.stop() == 0


async def refused(at: Index, tmp_path: Path, *settings: str) -> str:
    """Return the reason why nothing can be installed from an index."""
    with process_node(tmp_path / "d", *settings) as (api, _):
        await api.welcome()
        answer, text = await bundled(api, spec_of(api, package()))
        assert answer.reason is not None
        assert answer.reason.code == "install_failed"
        everything = answer.reason.message + text
        assert "s3cret" not in everything + (tmp_path / "d/worker.log").read_text()
        assert at.downloads() == []
        return answer.reason.message


async def test_a_wrong_authority_is_told_in_the_installers_words(tmp_path: Path) -> None:
    cert = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    with index(cert, "ada", "s3cret") as at:
        settings = ("--index-url", at.url, "--ca-bundle", str(other[0]))
        message = await refused(at, tmp_path, *settings)
        assert "certificate verify failed" in message
        assert "s3cret" not in message


async def test_a_password_is_hidden_when_it_is_wrong_too(tmp_path: Path) -> None:
    with index(None, "ada", "right") as at:
        url = at.url.replace("ada:right@", "ada:s3cret@")
        message = await refused(at, tmp_path, "--index-url", url)
        assert "No matching distribution found for tiny==1.0" in message
        assert "http://***@127.0.0.1" in message


async def test_builds_go_through_the_proxy(tmp_path: Path) -> None:
    # A proxy is asked for the whole URL, of a host that there is not.
    with index() as proxy:
        proxy.add("tiny", "1.0", {"tiny.py": "VALUE = 42"})
        url = proxy.url.replace("/simple", "")
        settings = ("--proxy", url, "--index-url", "http://pypi.example.invalid/simple")
        trusted = ("--build-env", "PIP_TRUSTED_HOST=pypi.example.invalid")
        with process_node(tmp_path / "d", *settings, *trusted) as (api, _):
            await api.welcome()
            answer, _ = await bundled(api, spec_of(api, package()))
            assert answer.reason is None, answer.reason
        assert proxy.asked[0] == "http://pypi.example.invalid/simple/tiny/"


async def test_settings_come_by_environment_too(tmp_path: Path) -> None:
    said = "ONE=1 'TWO=2 and more'"
    with node_with_environment(tmp_path / "d", SKEP_BUILD_ENV=said) as (api, _):
        await api.welcome()
        _, text = await bundled(api, spec_of(api, package(), 'echo "$ONE, $TWO"'))
        assert text == "1, 2 and more\n"


@contextmanager
def node_with_environment(data: Path, **variables: str) -> Iterator[tuple[ScriptedApi, Worker]]:
    data.mkdir()
    api = ScriptedApi()
    worker = Worker(api, data, sandbox="process", variables=variables)
    try:
        yield api, worker
    finally:
        worker.close()
        api.close()


async def test_wheels_in_the_package_need_no_network(tmp_path: Path) -> None:
    data = zipped({
        "test.py": CODE,
        "requirements.txt": "--no-index\n--find-links wheels\ntiny==1.0\n",
        "wheels/tiny-1.0-py3-none-any.whl": wheel("tiny", "1.0", {"tiny.py": "VALUE = 42"}),
    })  # fmt: skip
    with process_node(tmp_path / "d") as (api, _):
        api.packages[hashlib.sha256(data).hexdigest()] = data
        await api.welcome(*catalogue(("one", data)))
        assert await call(api, 1, "one") == b"42"


async def test_a_file_that_holds_no_authority_is_refused_at_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    with process_node(tmp_path / "d", "--ca-bundle", str(bad)) as (_, worker):
        await soon(lambda: worker.process.poll() is not None)
        assert worker.process.returncode == 1
        assert "bad.pem: there is no certificate" in (tmp_path / "d/worker.log").read_text()


async def test_a_lost_session_is_told_nothing_and_the_build_goes_on(tmp_path: Path) -> None:
    command = "echo begun; until [ -e go ]; do sleep 0.02; done; echo done"
    with process_node(tmp_path / "d") as (api, _):
        await api.welcome()
        spec = spec_of(api, package(), command)
        api.say(m.Bundle(session=1, ticket=1, spec=spec))
        await soon(lambda: shown(api, 1) == "begun\n")
        api.say(m.Who())
        await api.welcome(session=2)
        api.say(m.Bundle(session=2, ticket=1, spec=spec))
        await soon(lambda: shown(api, 1) == "begun\nbegun\n")
        next(iter((tmp_path / "d").glob("nodes/n1/bundles/*/"))).joinpath("go").touch()
        answer = await api.get(m.Bundled)
        assert (answer.session, len(api.of(m.Bundled))) == (2, 1)
        assert answer.reason is None
