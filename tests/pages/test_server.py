"""The server: who is answered, and what is new reaches a page in order, once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import hostile_run, pbt_run
from served import TOKEN, live_journal, served
from written_run import end, result, suggest, written_run

from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import Closed, Reported
from raytune_hpo.states import RunStatus

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("storage")
    hostile_run(made / "hostile")
    pbt_run(made / "<pbt> & more")
    written_run(made / "broken")
    (made / "broken" / "journal.jsonl").write_text('{"nonsense": 1}\n{"nonsense": 2}\n')
    (made / "beside").mkdir()
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with served(folder) as made:
        yield made


def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), _lower(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), _lower(error.headers)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_all_runs_of_a_folder_are_links(url: str) -> None:
    status, text, headers = asked(url)
    assert status == 200
    assert 'href="runs/hostile/"' in text
    assert "&lt;pbt&gt; &amp; more" in text
    assert 'href="runs/%3Cpbt%3E%20%26%20more/"' in text
    assert "damaged" in text
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_a_run_has_its_page_and_document(url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = asked(f"{url}runs/hostile/")
    assert status == 200
    assert "<h1>hostile</h1>" in text
    assert '<script src="plotly.js">' in text
    status, script, _ = asked(f"{url}runs/hostile/plotly.js")
    assert status == 200
    assert "plotly.js" in script[:400]
    status, text, _ = asked(f"{url}runs/%3Cpbt%3E%20%26%20more/document.json")
    assert status == 200
    assert main(["report", str(folder / "<pbt> & more"), "--json"]) == 0
    assert json.loads(text) == json.loads(capsys.readouterr().out)["runs"][0]
    status, text, _ = asked(f"{url}runs/broken/")
    assert status == 409
    assert "journal" in text


@pytest.mark.parametrize(
    "path",
    ["", "wrong/", "{token}x/", "../{token}/", "x{token}/runs/hostile/", "runs/hostile/", "plotly.js"],
)
def test_without_the_token_nobody_is_answered(url: str, path: str) -> None:
    base = url[: url.index(TOKEN)]
    assert asked(base + path.replace("{token}", TOKEN))[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "runs/../",
        "runs/..%2f..%2f/",
        "runs/%2e%2e/",
        "runs/./",
        "runs/beside/",
        "runs/none/",
        "runs/hostile/../../../",
        "runs/hostile/journal.jsonl",
        "runs/hostile/experiment.json",
        "runs//etc/",
        "runs/hostile%00/",
    ],
)
def test_paths_outside_the_runs_are_refused(url: str, path: str) -> None:
    host = url.split("/")[2]
    with contextlib.closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.request("GET", f"/{TOKEN}/{path}")  # the path as it is
        answer = connection.getresponse()
        body = answer.read().decode()
    assert answer.status in (403, 404), body[:200]
    assert "Traceback" not in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost:9999", 200),  # through a forwarded port
        ("[::1]:9999", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("localhost.evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.7:80", 421),
        ("", 421),
    ],
)
def test_only_its_own_host_is_answered(url: str, host: str, status: int) -> None:
    assert asked(url, Host=host)[0] == status


def test_it_can_only_read(url: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        status, _, headers = asked(f"{url}runs/hostile/", method)
        assert status == 405
        assert headers["content-security-policy"].startswith("default-src 'none'")  # whatever the answer is


class Stream:
    """Server-sent events of a run, as they come."""

    def __init__(self, url: str, since: int) -> None:
        self.messages: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self._read, args=(f"{url}events?since={since}",), daemon=True)
        self.thread.start()

    def _read(self, url: str) -> None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    self.messages.append(json.loads(line[6:]))

    def until(self, count: int, timeout_s: float = 30) -> list[dict[str, Any]]:
        deadline = time.monotonic() + timeout_s
        while len(self.messages) < count:
            assert time.monotonic() < deadline, self.messages
            time.sleep(0.02)
        return self.messages


def version_of(text: str) -> int:
    from test_page import data_of

    found: int = data_of(text)["version"]
    return found


def test_what_is_new_comes_once_and_in_order(tmp_path: Path) -> None:
    with live_journal(tmp_path / "run") as append, served(tmp_path / "run") as url:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        _, text, _ = asked(url)
        assert '<span class="pill running">' in text
        since = version_of(text)
        first, second = Stream(url, since), Stream(url, since)
        for epoch in range(2, 7):
            append(*result("t00000", epoch, 0.5 + epoch / 100))
            time.sleep(0.1)
        expected = [["t00000", epoch, 0.5 + epoch / 100] for epoch in range(2, 7)]
        for stream in (first, second):
            deadline = time.monotonic() + 30
            while sum(len(m.get("points", ())) for m in stream.messages) < 5 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert [point for m in stream.messages for point in m.get("points", ())] == expected
            versions = [m["version"] for m in stream.messages]
            assert versions == list(range(since + 1, since + 1 + len(versions)))
        newest = [m for m in first.messages if m.get("rows")][-1]["rows"][-1]
        assert newest[:2] == ["t00000", 0.56]
        # Whoever comes back is told what it has missed, and nothing twice; whoever has missed too much, to load anew.
        late = Stream(url, since + 1)
        assert late.until(1)[0]["version"] == since + 2
        assert Stream(url, 10_000).until(1) == [{"reload": True}]
        # Sections, too, once they are others.
        deadline = time.monotonic() + 60
        while not any("html" in m for m in first.messages) and time.monotonic() < deadline:
            time.sleep(0.1)
        sections = next(m for m in first.messages if "html" in m)
        assert "curves-0-0" in sections["figures"]
        assert "summary" in sections["html"]
        assert "setup" not in sections["html"]  # it is as it was


def test_a_run_that_ends_is_shown_as_it_ended(tmp_path: Path) -> None:
    with live_journal(tmp_path / "run") as append, served(tmp_path / "run") as url:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        stream = Stream(url, version_of(asked(url)[1]))
        append(end("t00000", "completed", "max_epochs"), Closed(RunStatus.FINISHED))
        deadline = time.monotonic() + 30
        while not any("html" in m for m in stream.messages):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "finished" in [m for m in stream.messages if "status" in m][-1]["status"]
    assert json.loads(json.dumps(stream.messages)) == stream.messages


def test_texts_that_are_no_unicode_and_names_that_are_no_text(tmp_path: Path) -> None:
    metric = "<b>\ud800"
    reported = Reported("t00000", 0, 1, {metric: 0.5}, 1.0)
    written_run(tmp_path / "odd", suggest("t00000"), reported, metric=metric, name=metric, task={"class": metric})
    other = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(other)
    for name in (b"experiment.json", b"journal.jsonl"):
        Path(os.fsdecode(other + b"/" + name)).write_bytes((tmp_path / "odd" / os.fsdecode(name)).read_bytes())
    with served(tmp_path) as url:
        status, text, _ = asked(url)
        assert (status, text.count('href="runs/')) == (200, 2)
        assert "\\ud800" in text
        assert asked(f"{url}runs/odd/")[0] == 200
        status, text, _ = asked(f"{url}runs/odd/document.json")
        assert (status, json.loads(text)["run"]["metric"]) == (200, metric)


@contextlib.contextmanager
def watching(*arguments: str, **more: Any) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`watch` in a process of its own, and what it said before it served."""
    command = [sys.executable, "-m", "raytune_hpo", "watch", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more) as process:
        try:
            assert process.stdout is not None
            lines = []
            while not lines or not lines[-1].startswith("http:"):
                lines.append(process.stdout.readline().strip())
                assert lines[-1], process.stderr and process.stderr.read()
            yield process, lines
        finally:
            process.kill()


def test_the_command_says_its_link_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    run = pbt_run(tmp_path / "run")
    with watching(str(run)) as (process, (link,)):
        assert link.startswith("http://127.0.0.1:")
        assert len(link.split("/")[3]) >= 32
        assert asked(link)[0] == 200
        port = int(link.split("/")[2].rpartition(":")[2])
        with watching(str(run), "--port", str(port)) as (_, (line, second)):
            assert line == f"port {port} is in use: {port + 1} in its place"
            assert second.split("/")[3] != link.split("/")[3]  # a token of its own
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_ends_at_once_whoever_reads(tmp_path: Path) -> None:
    """With a page that is open, and with one that takes nothing of what it is sent."""
    with live_journal(tmp_path / "run") as append:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        with watching(str(tmp_path / "run")) as (process, (link,)):
            stream = Stream(link, version_of(asked(link)[1]))
            stream.until(1)
            host, path = link.split("/")[2], link.split("/", 3)[3]
            with socket.create_connection((host.split(":")[0], int(host.split(":")[1]))) as stalled:
                stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                stalled.sendall(f"GET /{path}plotly.js HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                time.sleep(0.5)
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 0
                assert time.monotonic() - began < 2
            assert process.stderr is not None
            assert process.stderr.read() == ""


def test_before_it_ends_with_its_run_the_pages_have_the_end(tmp_path: Path) -> None:
    with live_journal(tmp_path / "run") as append:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        with watching(str(tmp_path / "run"), "--while-stdin", stdin=subprocess.PIPE) as (process, (link,)):
            stream = Stream(link, version_of(asked(link)[1]))
            stream.until(1)
            append(end("t00000", "completed", "max_epochs"), Closed(RunStatus.FINISHED))
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0
            stream.thread.join(10)
    assert "finished" in [m for m in stream.messages if "status" in m][-1]["status"]
    assert "Finished: 1 completed." in [m for m in stream.messages if "html" in m][-1]["html"]["summary"]


def test_it_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    run = pbt_run(tmp_path / "run")
    read_end, write_end = os.pipe()
    with watching(str(run), "--while-stdin", stdin=read_end) as (process, _):
        os.close(read_end)
        os.close(write_end)  # as the end of its process does, kill -9 too
        assert process.wait(30) == 0


def test_a_page_beside_a_run_ends_with_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "quick.py"
    file.write_text(
        "from raytune_hpo import Experiment, Float, report\n\n\n"
        "def train(config):\n    report({'y': config['x']})\n\n\n"
        "experiment = Experiment(name='quick', task=train, space={'x': Float(0, 1)}, metric='y', executor='inline',\n"
        "                        num_samples=3, scheduler='fifo', searcher='random', mode='min')\n"
    )
    assert main(["run", str(file), "--run-dir", str(tmp_path / "run"), "--watch", "--quiet"]) == 0
    link = next(line for line in capfd.readouterr().err.splitlines() if line.startswith("watch: "))
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(link.removeprefix("watch: "), timeout=5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], "neither a run nor a folder of runs"),
        ([".", "--port", "0"], "--port"),
        ([".", "--port", "70000"], "--port"),
        ([".", "--host", "no.such.host.invalid"], "--host"),
        ([".", "--host", "192.0.2.7"], "--host"),
    ],
)
def test_wrong_commands_are_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *arguments]) == 2
    text = capsys.readouterr().err
    assert says in text
    assert len(text.splitlines()) == 1
