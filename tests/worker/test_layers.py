"""Which installed sets may be shared: the command, the files, the environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BadRequest
from wire.reach import Reach, assignment, what_is_found
from worker.layers import layer_of

PIP = "pip3 install -r requirements.txt"
FILES = {
    "requirements.txt": b"requests==2.31\n",
    "deps/all.txt": b"-r more.txt\n-c ../constraints.txt\nnumpy\n",
    "deps/more.txt": b"pandas>=2 # big\n",
    "constraints.txt": b"numpy<3\n",
    "wheels/a.whl": b"",
    "test.py": b"print(1)",
}


def found(
    command: str = PIP,
    requirements: str | None = None,
    *,
    files: dict[str, bytes] | None = None,
) -> list[str] | None:
    """Return the files of the layer, None if there is none."""
    there = FILES | (files or {})
    if requirements is not None:
        there["requirements.txt"] = requirements.encode()
    layer = layer_of(command, "/ws", {}, there.get)
    return None if layer is None else [name for name, _ in layer.files]


@pytest.mark.parametrize(
    ("command", "files"),
    [
        (PIP, ["requirements.txt"]),
        ("pip install -r requirements.txt", ["requirements.txt"]),
        ("  pip3   install\t-r   requirements.txt ", ["requirements.txt"]),
        ("python3 -m pip install -rrequirements.txt", ["requirements.txt"]),
        ("python -m pip install --requirement=./requirements.txt", ["requirements.txt"]),
        ("pip3 install -q --no-cache-dir -r requirements.txt", ["requirements.txt"]),
        ("pip3 install -i https://x.example/simple -r requirements.txt", ["requirements.txt"]),
        ("pip3 install -f /srv/wheels --no-index -r requirements.txt", ["requirements.txt"]),
        (
            "pip3 install -r deps/all.txt",
            ["constraints.txt", "deps/all.txt", "deps/more.txt"],
        ),
        (
            "pip3 install -r requirements.txt -c constraints.txt",
            ["constraints.txt", "requirements.txt"],
        ),
        ("pip3 install requests==2.31 flask", []),
    ],
)
def test_commands_that_install_requirements_alone(command: str, files: list[str]) -> None:
    assert found(command) == files


@pytest.mark.parametrize(
    "command",
    [
        "",
        "true",
        "npm install",
        "pip3 install",
        "pip3 install .",
        "pip3 install -e .",
        "pip3 install ./wheels/a.whl",
        "pip3 install wheels/a.whl",
        "pip3 install a.whl",
        "pip3 install git+https://example.com/x.git",
        "pip3 install https://example.com/x.whl",
        "pip3 install -r missing.txt",
        "pip3 install -r ../requirements.txt",
        "pip3 install -r /etc/requirements.txt",
        "pip3 install -r https://example.com/r.txt",
        "pip3 install -r",
        "pip3 install -f wheels -r requirements.txt",
        "pip3 install -f ./wheels -r requirements.txt",
        "pip3 install -f /ws/wheels -r requirements.txt",
        "pip3 install -f file:///ws/wheels -r requirements.txt",
        "pip3 install --find-links=wheels -r requirements.txt",
        "pip3 install -i simple -r requirements.txt",
        "pip3 install --extra-index-url=./simple -r requirements.txt",
        "pip3 install flask[async]",
        "pip3 install --target lib -r requirements.txt",
        "pip3 install --isolated -r requirements.txt",
        "pip3 install --user -r requirements.txt",
        "pip3 install -r requirements.txt && make",
        "pip3 install -r requirements.txt; make",
        "pip3 install -r requirements.txt | tee log",
        "pip3 install -r $FILE",
        "pip3 install -r `cat name`",
        "pip3 install -r 'requirements.txt'",
        "pip3 install -r requirements.txt > log",
        "pip3 install -r requirements.txt\nmake",
        "pip3 download -r requirements.txt",
        "A=1 pip3 install -r requirements.txt",
        "./pip3 install -r requirements.txt",
        ".venv/bin/python -m pip install -r requirements.txt",
        "cd deps && pip3 install -r all.txt",
    ],
)
def test_commands_that_may_do_more(command: str) -> None:
    assert found(command) is None


@pytest.mark.parametrize(
    "requirements",
    [
        "",
        "# nothing\n\n",
        "requests\n",
        "requests==2.31.0\nflask>=3,<4\n",
        "requests [security] >= 2.8.1, == 2.8.* ; python_version < '2.7'\n",
        "requests==2.31 --hash=sha256:abc --hash=sha256:def\n",
        "requests==2.31 \\\n    --hash=sha256:abc\n",
        "--index-url https://x.example/simple\nrequests\n",
        "-i https://x.example/simple\nrequests\r\n",
        "--no-binary :all:\nrequests\n",
        "-f https://x.example/links\nrequests\n",
        "zope.interface\n",
        "-r constraints.txt\n",
        "requests  # a comment\n",
    ],
)
def test_requirement_files_of_indexes_alone(requirements: str) -> None:
    assert found(requirements=requirements) is not None


@pytest.mark.parametrize(
    "requirements",
    [
        "-e .\n",
        "--editable ./lib\n",
        ".\n",
        "./lib\n",
        "lib/\n",
        "wheels/a.whl\n",
        "a.whl\n",
        "a.zip\n",
        "a.tar.gz\n",
        "file:///ws/lib\n",
        "mine @ file:///ws/lib\n",
        "mine @ ./lib\n",
        "mine@ git+https://example.com/x\n",
        "git+https://example.com/x.git#egg=x\n",
        "https://example.com/x.whl\n",
        "-f wheels\n",
        "-i simple\n",
        "--extra-index-url file:///ws/simple\n",
        "--find-links ./wheels\n",
        "--find-links=/ws/wheels\n",
        "-r missing.txt\n",
        "-r ../other.txt\n",
        "-r /etc/passwd\n",
        "-r https://example.com/r.txt\n",
        "-r wheels/a.whl -r constraints.txt\n",
        "requests --global-option=--x\n",
        "requests --config-settings=x=y\n",
        "${NAME}\n",
        "--index-url https://${USER}@x.example\n",
        "requests ; extra == 'x @ file:lib'\n",
        "name\0\n",
    ],
)
def test_requirement_files_that_may_need_more(requirements: str) -> None:
    assert found(requirements=requirements) is None


def test_what_is_not_text_or_shadows_pip_or_includes_itself() -> None:
    assert found(files={"requirements.txt": b"\xff\xfe"}) is None
    assert found(files={"pip.py": b""}) is not None
    assert found("python3 -m pip install -r requirements.txt", files={"pip.py": b""}) is None
    assert found("python3 -m pip install requests", files={"pip/__init__.py": b""}) is None
    assert found(requirements="-r requirements.txt\nrequests\n") == ["requirements.txt"]
    many = {f"r{n}.txt": f"-r r{n + 1}.txt".encode() for n in range(100)}
    assert found("pip3 install -r r0.txt", files={**many, "r100.txt": b""}) is None


@pytest.mark.parametrize(
    ("name", "value", "shared"),
    [
        ("PIP_INDEX_URL", "https://x.example/simple", True),
        ("PIP_INDEX_URL", "simple", False),
        ("PIP_EXTRA_INDEX_URL", "https://x.example file:///ws/simple", False),
        ("PIP_FIND_LINKS", "/srv/wheels https://x.example", True),
        ("PIP_FIND_LINKS", "/srv/wheels wheels", False),
        ("PIP_FIND_LINKS", "/ws/wheels", False),
        ("PIP_CONFIG_FILE", "/etc/pip.conf", True),
        ("PIP_CONFIG_FILE", "pip.conf", False),
        ("PIP_TARGET", "/elsewhere", False),
        ("PIP_REQUIREMENT", "more.txt", False),
        ("PIP_EDITABLE", ".", False),
        ("PYTHONPATH", "lib", False),
        ("PATH", "/ws/bin:/usr/bin", False),
        ("CFLAGS", "-O2", True),
        ("CFLAGS", "-I/ws/include", False),
        ("BASH_ENV", "x", False),
        ("LD_PRELOAD", "x.so", False),
        ("GREETING", "hello", True),
    ],
)
def test_an_environment_that_may_lead_into_the_package(
    name: str, value: str, shared: bool
) -> None:
    layer = layer_of(PIP, "/ws", {name: value}, FILES.get)
    assert (layer is not None) is shared


@given(st.text(max_size=80), st.binary(max_size=200))
def test_any_command_and_file_is_decided(command: str, content: bytes) -> None:
    files = {"requirements.txt": content}
    for line in (command, f"pip3 install {command}", PIP):
        layer = layer_of(line, "/ws", {}, files.get)
        assert layer is None or set(dict(layer.files)) <= set(files)


# --- how builds reach indexes -----------------------------------------------------------


def test_settings_win_over_what_is_inherited() -> None:
    inherited = {
        "PIP_INDEX_URL": "https://old.example",
        "https_proxy": "http://old:1",
        "SSL_CERT_DIR": "/etc/ssl/certs",
        "AWS_SECRET": "no",
        "PATH": "/bin",
    }
    assert Reach().environment(inherited) == {
        "PIP_INDEX_URL": "https://old.example",
        "https_proxy": "http://old:1",
        "SSL_CERT_DIR": "/etc/ssl/certs",
    }
    reach = Reach(
        index_url="https://new.example",
        proxy="http://new:2",
        ca_bundle="/n/ca.pem",
        env={"PIP_RETRIES": "0", "PIP_CERT": "/other.pem"},
    )
    env = reach.environment(inherited)
    assert env["PIP_INDEX_URL"] == "https://new.example"
    assert {env[name] for name in ("HTTP_PROXY", "https_proxy")} == {"http://new:2"}
    assert env["REQUESTS_CA_BUNDLE"] == env["NODE_EXTRA_CA_CERTS"] == "/n/ca.pem"
    assert (env["PIP_CERT"], env["PIP_RETRIES"]) == ("/other.pem", "0")


def test_settings_with_passwords_are_not_shown() -> None:
    secret = "https://ada:secret@x.example"
    assert "secret" not in repr(Reach(index_url=secret, proxy=secret, env={"A": secret}))
    with pytest.raises(BadRequest) as caught:
        assignment(f"A B={secret}")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("text", ["", "A", "=1", "1A=2", "A-B=1", "PATH=/x", "PIP_TARGET=/x"])
def test_what_is_no_variable_for_builds(text: str) -> None:
    with pytest.raises(BadRequest):
        assignment(text)
    assert assignment("A_1=b=c") == ("A_1", "b=c")


def test_who_asks_an_index_or_how_changes_nothing_of_what_is_found() -> None:
    one = {"PIP_INDEX_URL": "https://ada:a@x.example/s", "HTTPS_PROXY": "http://p:1"}
    two = {"PIP_INDEX_URL": "https://bob:b@x.example/s", "PIP_CERT": "/ca.pem"}
    three = {"PIP_INDEX_URL": "https://y.example/s"}
    assert what_is_found(one) == what_is_found(two) != what_is_found(three)
