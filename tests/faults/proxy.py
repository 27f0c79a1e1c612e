"""A TCP proxy that stands between a client and a service, and disturbs what passes.

One thread with an event loop of its own; the methods of `Proxy` may be called from any other and return when what they
asked for is so.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

__all__ = ["Proxy"]

CHUNK = 1 << 16
HELD_CHUNKS = 256
"""Chunks of one direction that may be held back: with 0.5 s each, 32 MB/s still pass."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset."""
CALL_TIMEOUT = 30.0


class _Link:
    """One connection of a client, and ours to the service for it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.torn = False
        """Whether bytes of it were swallowed: it can't go on where it was."""
        self.over = False

    def reset(self) -> None:
        self.over = True
        for writer in (self.client, self.server):
            if writer:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()


class Proxy:
    """Forwards connections on a loopback port to a service.

    Parameters
    ----------
    target : str
        ``host:port`` of the service.
    port : int, optional
        Where it listens; else a free port.
    seed : int
        Of `reset_at_random`.
    """

    def __init__(self, target: str, *, port: int | None = None, seed: int = 0) -> None:
        # Bound for as long as the proxy lives: while it refuses connections nobody else may get its port.
        self._keeper = _bound(port or 0)
        self.port = int(self._keeper.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self.connections = 0
        """Accepted so far."""
        self.forwarded = 0
        """Bytes, both ways together."""
        self._target = _split(target)
        self._rng = random.Random(seed)
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._black, self._delay, self._share = False, 0.0, 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {self.address}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self._loop.close()
        self._keeper.close()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    def cut(self) -> None:
        """Reset all connections and refuse new ones, until `heal`."""
        self._call(self._cut())

    def swallow(self) -> None:
        """Accept and read, and answer nothing: a black hole, until `heal`."""
        self._call(self._set(black=True))

    def slow(self, seconds: float) -> None:
        """Hold back each chunk from the service for so long, until `heal`."""
        self._call(self._set(delay=seconds))

    def reset_at_random(self, share: float) -> None:
        """Reset the connection with this probability at each chunk, of which a part passes, until `heal`."""
        self._call(self._set(share=share))

    def retarget(self, target: str) -> None:
        """Reset all connections and lead new ones to another service: a failover."""
        self._call(self._retarget(_split(target)))

    def heal(self) -> None:
        """Forward as before; connections of which bytes were swallowed are reset."""
        self._call(self._heal())

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(CALL_TIMEOUT)

    # --- in the loop -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port), backlog=200)

    async def _cut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        self._reset(list(self._links))

    async def _retarget(self, target: tuple[str, int]) -> None:
        self._target = target
        self._reset(list(self._links))

    async def _set(self, *, black: bool = False, delay: float = 0.0, share: float = 0.0) -> None:
        self._black, self._delay, self._share = black, delay, share

    async def _heal(self) -> None:
        await self._set()
        self._reset([link for link in self._links if link.torn])
        await self._listen()

    async def _end(self) -> None:
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _reset(links: list[_Link]) -> None:
        for link in links:
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        self.connections += 1
        try:
            if self._black:
                link.torn = True
                while await reader.read(CHUNK):
                    pass
            else:
                answers, link.server = await asyncio.open_connection(*self._target)
                if not link.over:
                    await self._forward(link, reader, answers)
                    link.client.close()
                    link.server.close()
                    return
            link.reset()
        except OSError:  # the service refused, or one of the two reset: so do we
            link.reset()
        except asyncio.CancelledError:
            link.reset()
        finally:
            self._links.discard(link)

    async def _forward(self, link: _Link, asks: asyncio.StreamReader, answers: asyncio.StreamReader) -> None:
        assert link.server
        there: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS)
        back: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS)
        tasks = [
            asyncio.create_task(part)
            for part in (
                self._read(asks, there, late=False), self._write(link, there, link.server),
                self._read(answers, back, late=True), self._write(link, back, link.client),
            )
        ]  # fmt: skip
        try:
            # A reader that came to an end leaves that for its writer to say, after all that was held back.
            await asyncio.wait([tasks[1], tasks[3]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        if link.over or any(isinstance(end, OSError) for end in ends):
            raise ConnectionResetError

    async def _read(
        self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]], *, late: bool
    ) -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(CHUNK)
            except OSError:
                chunk = b""
            await queue.put((self._loop.time() + (self._delay if late else 0.0), chunk))

    async def _write(
        self, link: _Link, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, chunk = await queue.get()
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            if not chunk:
                return
            if self._black:
                link.torn = True
                continue
            if self._share and self._rng.random() < self._share:
                writer.write(chunk[: self._rng.randrange(len(chunk))])
                link.reset()
                return
            self.forwarded += len(chunk)  # first: who has received it may look at once
            writer.write(chunk)
            await writer.drain()


def _bound(port: int) -> socket.socket:
    """Return a socket that is bound and does not listen."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
