"""Names as the shell completes them: functions, runtimes and calls, asked of the api."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from cli.options import target_of
from cli.words import clip
from skep import Client, SkepError

#: Who presses Tab waits no longer than this, in seconds; then nothing is offered.
_PATIENCE_S: Final = 0.5
_RECENT: Final = 20

Find = Callable[[Client], list[CompletionItem]]


def _ask(ctx: click.Context, incomplete: str, find: Find) -> list[CompletionItem]:
    try:
        with target_of(ctx).client(_PATIENCE_S) as client:
            found = find(client)
    except SkepError:
        return []
    return [item for item in found if str(item.value).startswith(incomplete)]


class Name(click.ParamType[str]):
    """The name of one of several things."""

    def __init__(self, name: str, known: Callable[[Client], list[str]]) -> None:
        self.name = name
        self._known = known

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so."""
        del param
        return _ask(
            ctx, incomplete, lambda client: list(map(CompletionItem, self._known(client)))
        )


class CallNumber(click.IntRange):
    """The number of a call."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(min=1)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the newest numbers that begin so, with what they are."""
        del param
        return _ask(ctx, incomplete, _recent)


def _recent(client: Client) -> list[CompletionItem]:
    return [
        CompletionItem(str(call["callNum"]), help=_label(call))
        for call in client.calls(order="desc", limit=_RECENT)
    ]


def _label(call: Any) -> str:
    return clip(f"{call['funcName']} {call['status']} {json.dumps(call['params'])}", 50)


FUNCTION: Final = Name("function", Client.functions)
RUNTIME: Final = Name("runtime", Client.runtimes)
CALL: Final = CallNumber()
