"""Many at once, in order: begin the next ones while the first is waited for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
)
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Future[Any])
K = TypeVar("K", bound="asyncio.Task[Any]")


def in_order(started: Iterable[F], size: int) -> Generator[F, None, None]:
    """Give what is started, in order, at most ``size`` of it being under way at any time.

    The next is started only when there is room, so ``started`` may have no end. Whoever
    stops taking cancels what is under way.
    """
    pending: deque[F] = deque()
    try:
        for one in started:
            pending.append(one)
            if len(pending) >= size:
                yield pending[0]
                pending.popleft()
        while pending:
            yield pending[0]
            pending.popleft()
    finally:
        for one in pending:
            one.cancel()


async def in_order_async(started: AsyncIterator[K], size: int) -> AsyncGenerator[K, None]:
    """Give what is started as ``in_order`` does."""
    pending: deque[K] = deque()
    try:
        async for one in started:
            pending.append(one)
            if len(pending) >= size:
                yield pending[0]
                pending.popleft()
        while pending:
            yield pending[0]
            pending.popleft()
    finally:
        for one in pending:
            one.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def started_async(
    inputs: Iterable[Any] | AsyncIterable[Any],
    work: Callable[[int, Any], Coroutine[Any, Any, T]],
    first: int = 0,
) -> AsyncGenerator[asyncio.Task[T], None]:
    """Begin a work for each input and its number, as tasks are asked for."""
    number = first
    async for one in _each(inputs):
        yield asyncio.create_task(work(number, one), name=f"skep map {number}")
        number += 1


async def _each(inputs: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(inputs, AsyncIterable):
        async for one in inputs:
            yield one
    else:
        for one in inputs:
            yield one
