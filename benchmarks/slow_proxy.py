"""A long thin line on one machine: what comes from the server arrives later, and no faster than so.

Each connection to this port is one to the server's. Bytes of the server are delayed, and each
connection is held to its rate, as by many content networks.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib

_CHUNK_BYTES = 128 << 10


async def serve(port: int, upstream: int, delay_s: float, bytes_s: float) -> None:
    """Relay connections to ``upstream`` on this host until it is ended."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", upstream, limit=_CHUNK_BYTES)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            both = {
                asyncio.ensure_future(_up(reader, back)),
                asyncio.ensure_future(down(there, writer)),
            }
            _, rest = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
        back.close()
        writer.close()

    async def down(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """At most what fits on the line is under way, so that the server waits as well."""
        clock = asyncio.get_running_loop().time
        under_way: collections.deque[tuple[float, bytes]] = collections.deque()
        room = asyncio.Semaphore(max(2, int(delay_s * bytes_s / _CHUNK_BYTES) + 2))
        came = asyncio.Event()

        async def receive() -> None:
            free_at = clock()
            while chunk := await there.read(_CHUNK_BYTES):
                await room.acquire()
                free_at = max(free_at, clock()) + len(chunk) / bytes_s
                under_way.append((free_at + delay_s, chunk))
                came.set()
            under_way.append((0.0, b""))
            came.set()

        task = asyncio.ensure_future(receive())
        try:
            while True:
                while not under_way:
                    came.clear()
                    await came.wait()
                at, chunk = under_way.popleft()
                if not chunk:
                    return
                await asyncio.sleep(max(0.0, at - clock()))
                writer.write(chunk)
                await writer.drain()
                room.release()
        finally:
            task.cancel()

    server = await asyncio.start_server(relay, "127.0.0.1", port, limit=_CHUNK_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def _up(reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        back.write(chunk)
        await back.drain()


def main() -> None:
    """Print the port, and relay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream", type=int, help="port of the server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=40.0)
    parser.add_argument("--mb-s", type=float, default=20.0)
    arguments = parser.parse_args()
    asyncio.run(
        serve(arguments.port, arguments.upstream, arguments.delay_ms / 1e3, arguments.mb_s * 1e6)
    )


if __name__ == "__main__":
    main()
