"""The guard by itself: whom it lets through, whatever server it is behind. (Some take two Host headers.)"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raytune_hpo.pages.guard import HEADERS, Guard, own_hosts

pytest.importorskip("starlette")
TOKEN = "a-token"


def answered(path: str, *hosts: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[int, dict[str, str]]:
    """The status, and the headers, of what comes back; the application behind the guard answers 200."""
    sent: list[Any] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", host) for host in hosts]}
    asyncio.run(Guard(behind, TOKEN, own_hosts("127.0.0.1"))(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        ((b"localhost:8750",), 200),
        ((), 421),
        ((b"evil.example",), 421),
        ((b"localhost", b"localhost"), 421),
        ((b"localhost", b"evil.example"), 421),
        ((b"evil.example", b"localhost"), 421),
        ((b"\xff",), 421),
    ],
)
def test_one_host_and_its_own(hosts: tuple[bytes, ...], status: int) -> None:
    found, headers = answered(f"/{TOKEN}/", *hosts)
    assert found == status
    assert HEADERS.items() <= headers.items()


@pytest.mark.parametrize("path", ["", "/", f"/x{TOKEN}/", f"/{TOKEN}x/", f"//{TOKEN}/", f"/x/{TOKEN}/", "/\udc80/"])
def test_the_token_comes_first(path: str) -> None:
    assert answered(path, b"localhost")[0] == 403


def test_what_is_said_of_keeping_an_answer_stays() -> None:
    _, headers = answered(f"/{TOKEN}/plotly.js", b"localhost", headers=((b"Cache-Control", b"private"),))
    assert headers["Cache-Control"] == "private"
    assert "cache-control" not in headers
