"""How ``skep up`` hands settings for installing on to its workers."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.building import build_environment, build_options


@click.command(context_settings={"auto_envvar_prefix": "SKEP"})
@build_options
def command(
    index_url: str | None, proxy: str | None, ca_bundle: Path | None, build_env: tuple[str, ...]
) -> None:
    for name, value in build_environment(index_url, proxy, ca_bundle, build_env).items():
        click.echo(f"{name}={value}")


def test_what_is_not_said_is_not_passed_on() -> None:
    assert CliRunner().invoke(command).output == ""


def test_it_reaches_workers_that_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").touch()
    said = ["--index-url", "https://x/s", "--proxy", "http://p:1", "--ca-bundle", "ca.pem"]
    said += ["--build-env", "A=1 2", "--build-env", "B='"]
    printed = CliRunner().invoke(command, said).output.splitlines()
    assert printed[:3] == [
        "SKEP_INDEX_URL=https://x/s",
        "SKEP_PROXY=http://p:1",
        f"SKEP_CA_BUNDLE={os.path.realpath(tmp_path)}/ca.pem",
    ]
    name, _, value = printed[3].partition("=")
    assert name == "SKEP_BUILD_ENV"
    assert shlex.split(value) == ["A=1 2", "B='"]
    # What a worker reads there, ``skep up`` reads alike.
    again = CliRunner().invoke(command, env={name: value}).output
    assert again == printed[3] + "\n"


@pytest.mark.parametrize("text", ["nothing", "1A=s3cret", "=s3cret", "A-B=s3cret"])
def test_what_is_no_assignment_is_refused_without_its_value(text: str) -> None:
    refused = CliRunner().invoke(command, ["--build-env", text])
    assert refused.exit_code == 2
    assert "is not NAME=VALUE" in refused.output
    assert "s3cret" not in refused.output


def test_an_index_that_is_no_url_is_refused_and_not_repeated() -> None:
    refused = CliRunner().invoke(command, ["--index-url", "me:secret@host"])
    assert refused.exit_code == 2
    assert "no URL" in refused.output
    assert "secret" not in refused.output
