"""A proxy that forwards requests but withholds the answers to changes, so each call is made and its outcome unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.support.fake_servers import listener, read_request


@asynccontextmanager
async def deaf(target: str, silent: Callable[[bytes], bool] | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run the proxy in front of ``unix:///path`` or ``http://host:port``.

    Yield its URL, and the list of request lines whose answers it withheld.
    """
    withheld: list[bytes] = []
    hushed = silent or (lambda request: not request.startswith((b"GET ", b"HEAD ")))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        head, _, body = request.partition(b"\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:"))
        theirs, ours = await _connect(target)
        ours.write(head + b"\r\nConnection: close\r\n\r\n" + body)
        answer = await theirs.read()
        ours.close()
        if hushed(request):
            withheld.append(request.split(b"\r\n", 1)[0])
            await reader.read()
            return
        writer.write(answer)

    async with listener(serve) as port:
        yield f"http://127.0.0.1:{port}", withheld


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(target)
    if parts.scheme == "unix":
        return await asyncio.open_unix_connection(parts.path)
    return await asyncio.open_connection(parts.hostname, parts.port)
