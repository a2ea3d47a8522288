"""How builds reach package indexes: what they were told, as their environment. Pure.

Settings win over what the environment of who builds says; both are for builds alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wire.errors import BadRequest

#: Taken over from the environment of who builds, in either case.
INHERITED: Final = ("PIP_", "SSL_CERT_", "NPM_CONFIG_", "COMPOSER_")
INHERITED_TOO: Final = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "FTP_PROXY"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    }
)
#: Where tools look for certificate authorities.
CA_VARIABLES: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
)
#: curl heeds the first of these in small letters only, others in capitals.
PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
#: What a build has its own of.
OWN: Final = frozenset({"PATH", "HOME", "TMPDIR", "PYTHONPATH", "PIP_TARGET"})
#: Says how an index is reached, and nothing of what is found there.
_WAY: Final = re.compile(r"PROXY|CERT|CA_|TIMEOUT|RETRIES|CACHE|PROGRESS|VERSION_CHECK|INPUT")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER: Final = re.compile(r"://[^\s/\"'<>]+@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The settings of builds; not shown, for they hold passwords."""

    index_url: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)
    ca_bundle: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return what a build's environment has of this."""
        found = {name: value for name, value in inherited.items() if _is_inherited(name)}
        if self.proxy:
            found |= dict.fromkeys(PROXY_VARIABLES, self.proxy)
        if self.ca_bundle:
            found |= dict.fromkeys(CA_VARIABLES, self.ca_bundle)
        if self.index_url:
            found["PIP_INDEX_URL"] = self.index_url
        return found | dict(self.env)


def assignment(text: str) -> tuple[str, str]:
    """Read NAME=VALUE of --build-env.

    Raises:
        BadRequest: it is none, or a variable that a build has its own of.
    """
    name, equals, value = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        # Without its value, which may be a secret.
        raise BadRequest(
            f"--build-env {name[:80]!r} is not NAME=VALUE",
            hint="e.g. --build-env PIP_EXTRA_INDEX_URL=https://pypi.example/simple",
        )
    if name in OWN:
        raise BadRequest(
            f"--build-env cannot set {name}: a build has its own",
            hint="a runtime's `env` may set it, for that runtime",
        )
    return name, value


def what_is_found(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part that decides what is installed: indexes, without who asks them."""
    return {
        name: _USER.sub("://", value)
        for name, value in sorted(environment.items())
        if not _WAY.search(name.upper())
    }


def _is_inherited(name: str) -> bool:
    return name.upper().startswith(INHERITED) or name.upper() in INHERITED_TOO
