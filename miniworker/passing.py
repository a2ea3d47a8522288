"""What a build is given of its host: how this machine reaches package indexes.

The rule stands in docs/architecture.md ("What a build is given"), the same for every driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOR_BUILDS: Final = ("PIP_", "SSL_CERT_", "NPM_CONFIG_", "COMPOSER_")
FOR_BUILDS_TOO: Final = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "FTP_PROXY"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    }
)


def for_builds(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that a build gets too."""
    return {
        name: value
        for name, value in env.items()
        if name.upper().startswith(FOR_BUILDS) or name.upper() in FOR_BUILDS_TOO
    }


def files_named(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files and folders that exist and that these variables name."""
    words = (word for value in env.values() for word in value.split())
    return tuple(dict.fromkeys(w for w in words if w.startswith("/") and Path(w).exists()))
