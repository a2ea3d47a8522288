"""A function baked into an image: where its parts are in there, and which image fits. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from wire.models import Spec

#: The folder of all that baking adds; not /skep, which a node may lay over the image's own.
FOLDER: Final = "/opt/skep"
#: In it, the package with its dependencies installed.
BUNDLE: Final = f"{FOLDER}/bundle"
#: The label of an image that says what is in it.
LABEL: Final = "skep.bundle"


def is_wanted(spec: Spec) -> bool:
    """Return whether nodes shall start the image that was baked of this function."""
    return spec.function.preload == "image" and bool(spec.function.baked_image)


def digest(spec: Spec) -> str:
    """Return what a baked image depends on, as one name.

    Command, entry, environment and limits are not part of it: they come with each start.
    """
    package, runtime = spec.function.package, spec.runtime
    parts = (
        package.sha256 if package else "",
        runtime.image,
        runtime.path,
        runtime.dependencies,
        sorted(runtime.env.items()),
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
