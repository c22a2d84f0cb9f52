"""A TCP proxy that a test owns: it stands before a real server, and breaks the connections to it at will.

    with TcpProxy("127.0.0.1", 5432) as proxy:
        dsn = proxy.before("postgresql://postgres@127.0.0.1:5432/postgres")
        proxy.cut()        # open connections are lost; new ones are served
        proxy.refuse()     # new connections are refused; open ones go on. An outage is refuse(), then cut()
        proxy.freeze()     # nothing gets through, and nobody is told: open and new connections hang
        proxy.restore()    # as in the beginning; what was frozen goes on its way

Every method returns when it is so. The port stays this proxy's while it refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

CHUNK = 65_536


class TcpProxy:
    """Serves on a free port of 127.0.0.1, from a thread of its own, between ``with`` and its end.

    Args:
        host: Of the server behind it.
        port: Of the server behind it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        # Bound but not listening, it keeps the port for the time in which connections are refused.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def before(self, url: str) -> str:
        """Return the server's URL with this proxy's address in it."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._serving)

    def cut(self) -> None:
        """Close every open connection at once, on both sides."""
        self._run(self._cut())

    def refuse(self) -> None:
        """Refuse new connections."""
        self._run(self._refuse())

    def freeze(self) -> None:
        """Hold back all bytes, in both directions."""
        self._run(self._freeze())

    def restore(self) -> None:
        """Accept connections and let bytes through."""
        self._run(self._restore())

    def __enter__(self) -> TcpProxy:
        self._thread.start()
        self.restore()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _restore(self) -> None:
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port))

    async def _freeze(self) -> None:
        self._flowing.clear()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        # A pump that holds bytes back does not notice that its connection is gone.
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _end(self) -> None:
        await self._refuse()
        await self._cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._writers.add(writer)
        try:
            await self._connect_through(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the server refuses, or the test cuts
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._serving.discard(task)

    async def _connect_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers.add(server_writer)
        try:
            pumps = [
                asyncio.ensure_future(self._pump(reader, server_writer)),
                asyncio.ensure_future(self._pump(server_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            server_writer.transport.abort()
            self._writers.discard(server_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._flowing.wait()
                writer.write(chunk)
                await writer.drain()


def _bound(port: int) -> socket.socket:
    # Several sockets may be bound to the port of one process; connections reach the one that listens.
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock
