"""Having an image on this node's engine: looked for, and got from its registry if need be.

A miniworker does this and nothing else; many of its images are large, and no call waits for
more than its own. A registry that does not answer is asked again a few times; what it says
no to is told at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from miniworker import asking, complaints
from miniworker.engine import Engine, EngineAway, EngineRefused, Image
from miniworker.engine_settings import Settings
from miniworker.sandbox import NoSandbox
from wire import jobs
from wire.transfers import Transfer

#: Between two tries of a registry that does not answer; after the last it is given up.
PAUSES_S: Final = (1.0, 3.0)

OnPercent = Callable[[int], None]


def pull(order: jobs.Pull, settings: Mapping[str, str], on_percent: OnPercent) -> jobs.Pulled:
    """Return that the engine has the image, or why it cannot have it."""
    known = msgspec.convert(dict(settings), Settings)
    engine = Engine(known.engine, known.version)
    try:
        image = _have(engine, known, order, on_percent)
    except NoSandbox as error:
        return jobs.Pulled(reason=error.reason, fault=error.fault)
    except EngineRefused as error:
        refused = complaints.refused(error.message, order.image, "")
        return jobs.Pulled(reason=refused.reason, fault=refused.fault)
    except EngineAway as error:
        away = NoSandbox(error.message, hint=error.hint)
        return jobs.Pulled(reason=away.reason, fault=away.fault)
    finally:
        engine.close()
    return jobs.Pulled(reason=None, baked=image.baked)


def _have(engine: Engine, settings: Settings, order: jobs.Pull, on_percent: OnPercent) -> Image:
    if order.how != "always":
        try:
            return asking.find_image(engine, order.image, settings.architecture)
        except EngineRefused as error:
            if order.how == "never" or not error.is_missing:
                raise
    _pull(engine, order.image, settings.registry_config, on_percent)
    return asking.find_image(engine, order.image, settings.architecture)


def _pull(engine: Engine, image: str, credentials: str, on_percent: OnPercent) -> None:
    for pause_s in (*PAUSES_S, None):
        said = _try(engine, image, credentials, on_percent)
        if not said:
            return
        error, may_help = complaints.not_pulled(said, image)
        if not may_help or pause_s is None:
            raise error
        time.sleep(pause_s)


def _try(engine: Engine, image: str, credentials: str, on_percent: OnPercent) -> str:
    """Pull it; return why that failed, or nothing."""
    transfer = Transfer()
    try:
        for line in engine.pull(image, credentials):
            if transfer.take(line):
                on_percent(transfer.percent)
    except EngineRefused as error:
        return error.message or f"status {error.status}"
    return transfer.error
