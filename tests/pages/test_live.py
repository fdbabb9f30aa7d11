"""A run that is followed: its pages when its journal is moved, damaged or replaced; and slow pages."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from served import live_journal
from written_run import result, suggest, written_run

from raytune_hpo import ExperimentError
from raytune_hpo.journal.events import Closed, Narrowed, Reported, SessionOpened, Started
from raytune_hpo.pages import live, messages
from raytune_hpo.pages.live import Live
from raytune_hpo.pages.server import Watched
from raytune_hpo.results.followed import Followed
from raytune_hpo.states import RunStatus

pytest.importorskip("plotly")
pytest.importorskip("jinja2")


class Page:
    """What a browser does: it loads the page, and takes the news from there on."""

    def __init__(self, run: Live) -> None:
        self.run = run
        self.news: list[dict[str, Any]] = []
        self.ended = False
        self._task: asyncio.Task[None] | None = None

    async def load(self) -> str:
        text = await self.run.html()
        if self._task is not None:
            self._task.cancel()
        self.news, self.ended = [], False
        self._task = asyncio.create_task(self._read(self.run.news(self.run._made.since)))
        return text

    async def _read(self, news: AsyncIterator[str | None]) -> None:
        async for text in news:
            if text is not None:
                self.news.append(json.loads(text))
        self.ended = True

    def has(self, name: str) -> list[Any]:
        return [message[name] for message in self.news if name in message]

    async def until(self, true: Callable[[], Any], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, self.news
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.05)
    monkeypatch.setattr(live, "LOOK_S", 0.1)
    monkeypatch.setattr(live, "SHORTEST_S", 0.2)
    monkeypatch.setattr(live, "RESTS", 1)


def followed(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_a_run_that_is_deleted_is_told_of_and_one_in_its_place_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "run"

    async def test() -> None:
        page = Page(Live(path))
        await page.load()
        shutil.rmtree(path)
        await page.until(lambda: any(page.has("problem")))
        assert "is gone" in page.has("problem")[-1]
        with pytest.raises(ExperimentError, match="is gone"):
            await page.run.html()
        written_run(path, suggest("t00000"), *[result("t00000", epoch, 0.9) for epoch in range(1, 8)])
        await page.until(lambda: page.has("reload"))
        assert '<data value="7">7</data> epochs' in await page.load()
        await asyncio.sleep(0.5)
        assert not page.has("reload")  # once, not again and again
        assert not any(page.has("problem"))

    with live_journal(path) as append:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        followed(test())


def test_another_run_in_its_place_is_read_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import written_run as hand

    path = written_run(tmp_path / "run", suggest("t00000"), result("t00000", 1, 0.5))
    run = Followed(path)
    shutil.rmtree(path)
    with pytest.raises(ExperimentError, match="is gone"):
        run.fresh()
    monkeypatch.setattr(hand, "RUN_ID", "fedcba9876543210")
    hand.written_run(path, suggest("t00000"), suggest("t00001"), metric="validation_loss", mode="min")
    assert run.fresh() is None
    assert (run.results.metric, len(run.results.ledger.trials)) == ("validation_loss", 2)


def test_a_journal_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    path = written_run(tmp_path / "run", suggest("t00000"), *[result("t00000", epoch, 0.5) for epoch in range(1, 8)])
    run, journal = Followed(path), path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    with journal.open("r+b") as file:  # the same file: a backup that was copied back
        file.truncate(len(b"".join(lines[:3])))
    assert run.fresh() is None
    assert run.results.ledger.trials["t00000"].epoch == 2
    for _ in range(2):  # at each look, and not at the first alone
        with journal.open("ab") as file:
            file.write(b"nonsense\nnonsense\n")
        for _ in range(2):
            with pytest.raises(ExperimentError, match="journal"):
                run.fresh()


def test_a_journal_that_is_damaged_meanwhile_is_told_of_until_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "run"

    async def test() -> None:
        page = Page(Live(path))
        await page.load()
        journal = path / "journal.jsonl"
        sound = journal.read_bytes()
        with journal.open("r+b") as file:  # in its middle: what follows fits
            file.seek(len(sound) // 2)
            file.write(b"#")
        append(*result("t00000", 9, 0.5))
        await page.until(lambda: any(page.has("problem")))
        assert "was changed" in page.has("problem")[-1]
        with pytest.raises(ExperimentError, match="was changed"):
            await page.run.html()
        with journal.open("r+b") as file:
            file.write(sound)
        await page.until(lambda: page.has("problem")[-1] is None)
        await page.run.html()

    with live_journal(path) as append:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        for epoch in range(2, 9):
            append(*result("t00000", epoch, 0.5))
        followed(test())


def test_new_sections_load_the_page_again_once(tmp_path: Path) -> None:
    path = tmp_path / "run"

    async def test() -> None:
        page = Page(Live(path))
        await page.load()
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        await page.until(lambda: page.has("reload"))
        for _ in range(3):
            assert 'id="curves"' in await page.load()
            await asyncio.sleep(0.3)
            assert not page.has("reload")

    with live_journal(path) as append:
        followed(test())


def test_the_server_can_end_what_pages_read(tmp_path: Path) -> None:
    async def test() -> None:
        watched = Watched(written_run(tmp_path / "run", suggest("t00000")))
        page = Page(watched.live(""))
        await page.load()
        await asyncio.sleep(0.1)
        watched.end()
        await page.until(lambda: page.ended, timeout_s=5)

    followed(test())


def test_what_fails_ends_what_pages_read_and_they_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"

    async def test() -> None:
        page = Page(Live(path))
        await page.load()
        with monkeypatch.context() as patch:
            patch.setattr(Live, "_follow", lambda self: 1 / 0)
            await page.until(lambda: page.ended)
            assert page.run._task is not None
            with pytest.raises(ZeroDivisionError):
                await page.run._task
        await page.load()
        append(*result("t00000", 2, 0.5))
        await page.until(lambda: page.has("points"))

    with live_journal(path) as append:
        append(suggest("t00000"), *result("t00000", 1, 0.5))
        followed(test())


def test_what_ran_waits_when_its_session_ends(tmp_path: Path) -> None:
    """Without an event of its own. And what JSON has no number for is no number."""
    path = tmp_path / "run"

    async def test() -> None:
        page = Page(Live(path))
        await page.load()
        append(Started("t00000", 0, "host", "host-1"), Narrowed("t00001", {"lr": 0.1}))
        await page.until(lambda: page.has("rows"))
        assert [[row[0], row[3]] for row in page.has("rows")[-1]] == [["t00000", "running"], ["t00001", "pending"]]
        append(Reported("t00000", 0, 1, {"validation_accuracy": 0.5}, 1.7e308))
        append(Reported("t00000", 0, 2, {"validation_accuracy": float("inf")}, 1.7e308))
        await page.until(lambda: page.has("rows")[-1][0][5] == 2)
        append(Closed(RunStatus.INTERRUPTED))
        await page.until(lambda: page.has("rows")[-1][0][3] == "pending")
        assert [point for points in page.has("points") for point in points] == [["t00000", 1, 0.5]]
        append(SessionOpened(2))
        await page.until(lambda: "running" in page.has("status")[-1])

    with live_journal(path) as append:
        append(suggest("t00000"), suggest("t00001"))
        followed(test())


def test_a_page_that_does_not_take_its_messages_is_dropped_with_them() -> None:
    async def test() -> None:
        sent = messages.Messages()
        reader = messages.Reader()
        sent.readers.add(reader)
        for number in range(messages.WAITING + 5):
            sent.send({"number": number})
        assert sent.readers == set()
        assert [await reader.take(), await reader.take()] == [messages.RELOAD, None]

    followed(test())


def test_what_is_kept_for_pages_that_come_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(messages, "KEPT_CHARACTERS", 100_000)
        sent = messages.Messages()
        taking, stalled = messages.Reader(), messages.Reader()
        sent.readers |= {taking, stalled}
        for number in range(200):
            sent.send({"number": number, "text": "x" * 10_000})
            assert await taking.take()
        assert sum(len(text) for text in sent.since(191) or ()) <= 100_000
        assert (sent.since(150), sent.since(300)) == (None, None)
        assert sent.lasts(195)
        assert not sent.lasts(150)
        assert (taking in sent.readers, stalled in sent.readers) == (True, False)
        assert stalled.queue.qsize() == 2
        sent.send({"text": "x" * 200_000})  # of one alone there is no other way
        assert await taking.take()
        assert len(sent.since(200) or ()) == 1

    followed(test())
