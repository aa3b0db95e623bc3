"""What goes on beside the answering of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType


class Background:
    """An async context whose tasks end when it is left."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
