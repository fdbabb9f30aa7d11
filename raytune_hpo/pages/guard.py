"""Who is answered: a request whose Host is this server's own (so that no page of another site can reach it through a
name that leads here), and whose path begins with the token. Whatever the answer is, no browser keeps it or shows it
within another page, and what it holds reaches no address but this server's.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Guard:
    """An ASGI application round another one. hosts: whether a Host header's name is this server's own."""

    def __init__(self, app: ASGIApp, token: str, hosts: Callable[[str], bool]) -> None:
        self._app, self._token, self._hosts = app, token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message.get("headers", ())}
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in there]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        from starlette.responses import PlainTextResponse

        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._hosts(_name(hosts[0])):
            return PlainTextResponse("the Host header is not this server's", 421)
        given = scope["path"].removeprefix("/").partition("/")[0].encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._token):
            return PlainTextResponse("the link's token is missing or wrong", 403)
        return None


def _name(host: str) -> str:
    """Of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def own_hosts(address: str) -> Callable[[str], bool]:
    """What a Host header may name: this machine's loopback, also through a forwarded port, and the address that the
    user gave; where that stands for all addresses, this machine's name and any address as a number (no page of another
    site can have one of these as its own name)."""
    everywhere = address in ("0.0.0.0", "::")

    def own(name: str) -> bool:
        if name in LOOPBACK or name == address.lower():
            return True
        return everywhere and (_is_address(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower()))

    return own


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
