"""The server of live pages: a run, or all runs of a storage folder, to browsers that have the token.

    /TOKEN/                 the page of the run, or the list of runs
    /TOKEN/runs/NAME/       the page of one of them
    .../events?since=N      what is new after version N, as server-sent events
    .../document.json       the document of `report --json`
    .../plotly.js
    .../commands            POST: what a person asks of a trial (`control`), where the server was told to take such

Whom it answers says `guard`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.pages.control import MOST_BYTES, taken
from raytune_hpo.pages.guard import Guard
from raytune_hpo.pages.live import Live
from raytune_hpo.pages.page import plotly_js, runs_page
from raytune_hpo.results.listing import Listing
from raytune_hpo.storage.run_directory import DESCRIPTION

if TYPE_CHECKING:
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response

INSTALL = 'needs starlette and uvicorn: pip install "raytune-hpo[watch]"'
PORT, PORTS = 8750, 50
SETTLES_S = 3.0


class Watched:
    """What is shown: one run, or the runs of a folder. Each is followed from the first request for it on."""

    def __init__(self, path: Path) -> None:
        """Raises ExperimentError where there is neither a run nor a folder that holds runs."""
        self.path = path.absolute()
        self.is_run = (self.path / DESCRIPTION).exists()
        if not self.is_run and not self.path.is_dir():
            raise ExperimentError("run directory", str(path), "is neither a run nor a folder of runs")
        self.listing = Listing(self.path)
        self._lives: dict[str, Live] = {}
        if self.is_run:
            self.live("")

    def live(self, name: str) -> Live:
        """name: of the folder, "" for the one run. Raises ExperimentError."""
        if name not in self._lives:
            self._lives[name] = Live(self.path / name)
        return self._lives[name]

    async def settle(self) -> None:
        """Have pages shown what stands now, as far as that is quickly done."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLES_S):
                for live in self._lives.values():
                    await live.settle()

    def end(self) -> None:
        """End what pages read: the server stops."""
        for live in self._lives.values():
            live.messages.end()

    def names(self) -> list[str]:
        return [path.parent.name for path in self.path.glob(f"*/{DESCRIPTION}")]


def check_served(where: str) -> None:
    """Raises ExperimentError, naming `where`, without what serves pages."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ExperimentError(where, "a live page", INSTALL) from error


def application(watched: Watched, token: str, hosts: Callable[[str], bool], *, control: bool = False) -> Guard:
    """hosts: whether a Host header's name is this server's own. control: whether runs may be commanded."""
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    prefix = "/{token}/" if watched.is_run else "/{token}/runs/{name}/"

    def route(path: str, answer: Callable[[Request, Live], Any], method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            name = request.path_params.get("name", "")
            if name and name not in watched.names():
                return PlainTextResponse("no such run", 404)
            try:
                found: Response = await answer(request, watched.live(name))
            except ExperimentError as error:
                return PlainTextResponse(str(error), 409)
            return found

        return Route(prefix + path, endpoint, methods=[method])

    async def shown(request: Request, live: Live) -> Response:
        return HTMLResponse(_bytes(await live.html(control=control)))

    async def told(request: Request, live: Live) -> Response:
        return Response(json.dumps(await live.json(), allow_nan=False), media_type="application/json")

    async def events(request: Request, live: Live) -> Response:
        text = request.query_params.get("since", "0")
        since = int(text) if text.isdecimal() and len(text) < 16 else 0
        return StreamingResponse(_streamed(live.news(since)), media_type="text/event-stream")

    async def script(request: Request, live: Live) -> Response:
        kept = {"Cache-Control": "private, max-age=86400"}
        return Response(plotly_js(), media_type="text/javascript", headers=kept)

    async def commanded(request: Request, live: Live) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "a command is application/json"}, 415)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return JSONResponse({"error": f"a command has {MOST_BYTES:,} bytes at most"}, 413)
        try:
            said = await asyncio.to_thread(taken, live.run_dir, json.loads(bytes(body)))
        except (ValueError, RecursionError) as error:
            return JSONResponse({"error": f"a command is JSON: {error}"}, 400)
        except ExperimentError as error:
            return JSONResponse({"error": str(error)}, 409)
        return JSONResponse({"said": said})

    async def runs(request: Request) -> Response:
        found = await asyncio.to_thread(watched.listing.runs)
        return HTMLResponse(_bytes(runs_page(str(watched.path), found)))

    routes = [route("", shown), route("events", events), route("document.json", told), route("plotly.js", script)]
    if control:
        routes.append(route("commands", commanded, "POST"))
    if not watched.is_run:
        routes.append(Route("/{token}/", runs))
    return Guard(Starlette(routes=routes), token, hosts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def server_of(made: Guard, watched: Watched, run_ended: threading.Event) -> uvicorn.Server:
    """It serves until it is interrupted, and ends within two seconds then, whoever reads. Where it ends since the run
    has, pages are shown that."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if run_ended.is_set():
                await watched.settle()
            watched.end()
            # Whoever does not take what was sent is cut off, which is no error of anybody's.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    options: dict[str, Any] = {"server_header": False, "date_header": False, "lifespan": "off", "ws": "none"}
    return Server(uvicorn.Config(made, log_level="warning", access_log=False, timeout_graceful_shutdown=1, **options))


async def _streamed(messages: AsyncIterator[str | None]) -> AsyncIterator[str]:
    async for message in messages:
        yield ": beat\n\n" if message is None else f"data: {message}\n\n"


def listening(address: str, port: int | None) -> socket.socket:
    """A socket at the port, or at the next free one after PORT where none is asked for.

    Raises ExperimentError where there is no such address, or the port that was asked for is in use.
    """
    try:
        family = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][0]
    except (OSError, UnicodeError) as error:
        raise ExperimentError("--host", address, f"is no address of this machine ({error})") from error
    first = PORT if port is None else port
    for tried in range(first, first + PORTS):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, tried))
            made.listen(128)  # whoever has the link is answered, if not at once
        except OSError as error:
            made.close()
            if error.errno == errno.EADDRINUSE and tried < 65535:
                continue
            raise ExperimentError("--host", f"{address}:{tried}", f"cannot be used: {error.strerror}") from error
        return made
    raise ExperimentError("--port", first, f"is in use, and so are the {PORTS} after it")


def new_token() -> str:
    return secrets.token_urlsafe(24)
