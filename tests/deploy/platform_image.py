"""The platform's images, and what a command that makes or uses them is told."""

from __future__ import annotations

import functools
import os
import subprocess

from tests import engine

IMAGE = f"{engine.IMAGES}/platform"


def environment() -> dict[str, str]:
    """Return the environment of deploy/images.sh, and of what calls it."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SKEP_")}
    return {**inherited, "SKEP_IMAGE": IMAGE, "SKEP_BUILD_BASE": engine.base_image()}


@functools.cache
def settings() -> dict[str, str]:
    """Return what the images are called, made if they are not there."""
    made = subprocess.run(
        ["sh", str(engine.ROOT / "deploy" / "images.sh")],
        env=environment(), capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    pairs = (line.partition("=")[::2] for line in made.stdout.splitlines())
    return dict(pairs)
