"""Who may speak to the server, before any of its routes: token, host, origin and size.

The server listens on 127.0.0.1, where every page of the browser and every user of the machine can
reach it. So an address holds a random token; a name that was made to point here (DNS rebinding)
shows in Host, another site's page in Origin.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from geotl.errors import GeoTLError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MIB = 1 << 20
MAX_BODY, MAX_IMPORT = MIB, 64 * MIB
HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        port: on 127.0.0.1.
        token: the first part of every path.
    """

    port: int
    token: str

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request may name as its host."""
        return f"{HOST}:{self.port}", f"localhost:{self.port}"


def new_token() -> str:
    """A token of 256 random bits."""
    return secrets.token_urlsafe(32)


class TooLargeError(GeoTLError, ValueError):
    """A body beyond its limit."""


class Gate:
    """An ASGI application that lets through what may speak to another one."""

    def __init__(self, inside: Application, address: Address) -> None:
        """Stand before an application.

        Args:
            inside: the application; it sees paths without the token.
            address: where the server listens.
        """
        self._inside, self._address = inside, address

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":  # begin and end of the server; there are no web sockets
            if scope["type"] == "lifespan":
                await self._inside(scope, receive, send)
            return
        sender = _with_headers(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await answer(sender, *refusal)
            return
        path = scope["path"].removeprefix(f"/{self._address.token}")
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await self._inside(inner, _limited(receive, _limit(path)), sender)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason for which a request is refused, None for one that is not."""
        hosts, origins = _headers(scope, b"host"), _headers(scope, b"origin")
        if len(hosts) != 1 or hosts[0] not in self._address.hosts:
            return 400, f"unknown host; open {HOST}:{self._address.port} with the printed address"
        token = scope["path"].split("/", 2)[1]
        if not secrets.compare_digest(token.encode(), self._address.token.encode()):
            return 404, "not found; open the address that geotl label printed"
        if not {*origins} <= {f"http://{host}" for host in self._address.hosts}:
            return 403, "a page of another origin may not speak to this project"
        limit = _limit(scope["path"])
        announced = _headers(scope, b"content-length")
        if any(len(length) > 12 or int(length) > limit for length in announced):
            return 413, _too_large(limit)
        return None


async def answer(send: Send, status: int, detail: str) -> None:
    """Send a refusal, as all of them are: {"detail": one line}."""
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _limit(path: str) -> int:
    return MAX_IMPORT if path.endswith(("/import", "/import/contents")) else MAX_BODY


def _too_large(limit: int) -> str:
    return f"more than {limit // MIB} MiB; send less at once"


def _headers(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1").lower() for key, value in scope["headers"] if key == name]


def _limited(receive: Receive, limit: int) -> Receive:
    """Read a body up to a limit, whatever length was announced."""
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise TooLargeError(_too_large(limit))
        return message

    return counted


def _with_headers(send: Send) -> Send:
    """Send answers with `HEADERS`, unless they have their own of a name."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            names = {key.lower() for key, _ in given}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in names]
            message = {**message, "headers": [*given, *more]}
        await send(message)

    return sending
