"""A chat on loopback that stores the messages of a channel of kind ``webhook``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from demo.http_server import QuietHandler, serve


@dataclass
class Chat:
    """The address of the chat and its received messages."""

    url: str
    messages: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def chat() -> Iterator[Chat]:
    """Start a chat on a free port."""
    kept = Chat("")

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            kept.messages.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

    with serve(Handler) as url:
        kept.url = f"{url}/"
        yield kept
