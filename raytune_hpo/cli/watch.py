"""raytune-hpo watch RUN_DIR, or a folder of runs"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_hpo.cli.arguments import say
from raytune_hpo.errors import ExperimentError

if TYPE_CHECKING:
    import uvicorn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default="runs", help="the folder of a run, or of runs (default: runs)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, metavar="N", help="the port (default: 8750, or the next that is free)")
    parser.add_argument(
        "--read-only", action="store_true", help="without the buttons that stop, pause, clone, ... trials"
    )
    parser.add_argument("--control", action="store_true", help="with them also where others than this machine listen")
    # For `run --watch`: the server ends with the process that began it.
    parser.add_argument("--while-stdin", action="store_true", help=argparse.SUPPRESS)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.pages.guard import LOOPBACK, own_hosts
    from raytune_hpo.pages.page import check_installed
    from raytune_hpo.pages.server import Watched, application, check_served, listening, new_token, server_of

    check_installed()
    check_served("watch")
    if options.port is not None and not 1 <= options.port <= 65535:
        raise ExperimentError("--port", options.port, "must be from 1 to 65535")
    if options.read_only and options.control:
        raise ExperimentError("--control", True, "does not go with --read-only")
    watched = Watched(Path(options.path))
    token, here = new_token(), options.host in LOOPBACK
    control = options.control or (here and not options.read_only)
    made = application(watched, token, own_hosts(options.host), control=control)
    socket = listening(options.host, options.port)
    port = socket.getsockname()[1]
    if options.port not in (None, port):
        say(f"port {options.port} is in use: {port} in its place")
    shown = f"[{options.host}]" if ":" in options.host else options.host
    say(f"http://{shown}:{port}/{token}/")
    if here:
        say(f"from another machine: ssh -L {port}:localhost:{port} THIS_MACHINE, then the same link there")
    else:
        may = "read and command the run" if control else "read the run"
        say(f"whoever has this link can {may}, over an unencrypted connection")
    sys.stdout.flush()
    run_ended = threading.Event()
    server = server_of(made, watched, run_ended)
    if options.while_stdin:
        threading.Thread(target=_end_with, args=(server, run_ended), daemon=True).start()
    try:
        server.run(sockets=[socket])
    except KeyboardInterrupt:
        pass
    finally:
        socket.close()
    return 0


def _end_with(server: uvicorn.Server, run_ended: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    run_ended.set()
    server.should_exit = True
