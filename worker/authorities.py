"""The certificate authorities that builds trust: a user's file, kept where builds see it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from wire.errors import BadRequest
from worker.folder import NodeFolder

_NAME: Final = "ca.pem"


def keep(bundle: str, folder: NodeFolder) -> str:
    """Copy a PEM file into the node's folder and return the copy's path; none gives none.

    The original may be for one user's eyes, and sandboxes run as others.

    Raises:
        BadRequest: it holds no certificate.
    """
    kept = folder.root.absolute() / _NAME
    if not bundle:
        kept.unlink(missing_ok=True)
        return ""
    try:
        content = Path(bundle).read_text()
        ssl.create_default_context(cadata=content)
    except (OSError, ValueError, ssl.SSLError) as error:
        raise BadRequest(
            f"--ca-bundle {bundle}: there is no certificate to be read in it: {error}",
            hint="it must be a PEM file: -----BEGIN CERTIFICATE----- …",
        ) from error
    temp = kept.with_suffix(".new")
    temp.write_text(content)
    temp.chmod(0o644)
    temp.rename(kept)
    return str(kept)
