"""The same stream for asyncio: ``send`` is awaited, and waits only where there is no room.

Theory: the thread of the ``RowStream`` does the work and tells the loop when something changed; the
loop never waits for a lock longer than an append, and never for the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from profile_actors.driver.receipts import Receipt
from profile_actors.driver.sender import Rows
from profile_actors.driver.streams.row_stream import RowStream
from profile_actors.driver.streams.travel import OnReject
from profile_actors.errors import Backpressure

Opening = Callable[[OnReject | None, Callable[[], object]], RowStream]
"""Begins the stream, given what to call on a rejected row and on a change; may wait."""


class AsyncRowStream:
    """Rows on their way into one dataset; made by ``Store.astream``, for one event loop.

    ``async with`` begins it and closes it; ``start``, order, promises and errors are those of
    ``RowStream``. on_reject is called in the loop.
    """

    def __init__(self, opening: Opening, *, block: bool, on_reject: OnReject | None) -> None:
        self._opening = opening
        self._block = block
        self._on_reject = on_reject
        self._changed = asyncio.Event()
        self._stream: RowStream | None = None

    async def __aenter__(self) -> AsyncRowStream:
        loop = asyncio.get_running_loop()
        changed, on_reject = self._changed, self._on_reject

        def in_loop(tell: Callable[..., object], *args: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, *args)

        def rejected(row: int, path: str, reason: str) -> None:
            assert on_reject is not None
            in_loop(on_reject, row, path, reason)

        self._stream = await asyncio.to_thread(
            self._opening, None if on_reject is None else rejected, lambda: in_loop(changed.set)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close, after an exception too (see ``RowStream.__exit__``); a cancellation meanwhile
        leaves what waits to the stream's thread, which goes on."""
        try:
            await self.close()
        except Exception as own:
            if error is None:
                raise
            self._running.note(error, own)

    @property
    def start(self) -> int:
        """The number of the first row that is sent here."""
        return self._running.start

    async def send(self, rows: Rows) -> None:
        """``RowStream.send``, which returns at once unless too much waits; then the loop goes on
        with others until there is room."""
        stream = self._running
        while True:
            self._changed.clear()
            try:
                stream.send(rows)
            except Backpressure:
                if not self._block:
                    raise
                await self._changed.wait()
            else:
                return

    async def flush(self) -> Receipt:
        """Wait until everything sent before is durable and folded; returns the totals."""
        await self._reached(self._running.hurry())
        return self._running.checked()

    def receipt(self) -> Receipt:
        """The totals of what was answered so far."""
        return self._running.receipt()

    async def close(self) -> None:
        """Flush and end. Raises what ended the stream, each time."""
        stream = self._running
        stream.begin_to_close()
        while not stream.is_closed:
            self._changed.clear()
            if not stream.is_closed:
                await self._changed.wait()
        stream.checked()

    async def _reached(self, target: int) -> None:
        stream = self._running
        while not stream.is_reached(target):
            self._changed.clear()
            if not stream.is_reached(target):
                await self._changed.wait()

    @property
    def _running(self) -> RowStream:
        assert self._stream is not None, "use it in 'async with'"
        return self._stream
