"""Numbered messages to the pages that are open: each page takes them at its own speed, and one that comes back is told
what it has missed, as far as that is kept."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

#: For pages that come back; and for one page, which it does not take.
KEPT, KEPT_CHARACTERS = 4000, 1 << 24
WAITING = 200


def message(data: dict[str, Any]) -> str:
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


RELOAD = message({"reload": True})


@dataclass(eq=False)
class Reader:
    """A page that is open. queue: what it has not taken yet; the last is None. waiting: characters."""

    queue: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    waiting: int = 0

    def put(self, text: str) -> bool:
        """False where it is far behind."""
        if self.queue.qsize() >= WAITING or (self.waiting and self.waiting + len(text) > KEPT_CHARACTERS):
            return False
        self.queue.put_nowait(text)
        self.waiting += len(text)
        return True

    async def take(self) -> str | None:
        """The next; None after the last."""
        text = await self.queue.get()
        self.waiting -= len(text or "")
        return text

    def end(self, *last: str) -> None:
        """In place of what it has not taken."""
        while not self.queue.empty():
            self.queue.get_nowait()
        for text in (*last, None):
            self.queue.put_nowait(text)


class Messages:
    """version: the number of the newest. readers: the pages that get what is sent."""

    def __init__(self) -> None:
        self.version = 0
        self.readers: set[Reader] = set()
        self._kept: deque[tuple[int, str]] = deque()
        self._characters = 0

    def send(self, data: dict[str, Any]) -> None:
        self.version += 1
        text = message({**data, "version": self.version})
        self._kept.append((self.version, text))
        self._characters += len(text)
        while len(self._kept) > KEPT or (self._characters > KEPT_CHARACTERS and len(self._kept) > 1):
            self._characters -= len(self._kept.popleft()[1])
        for reader in list(self.readers):
            if not reader.put(text):
                self.readers.discard(reader)
                reader.end(RELOAD)

    def since(self, version: int) -> list[str] | None:
        """All after this one; None where that is not kept."""
        found = [text for number, text in self._kept if number > version]
        return found if len(found) == self.version - version else None

    def lasts(self, version: int) -> bool:
        """Whether a page of this version can be told what is new for some time still."""
        first = self._kept[0][0] if self._kept else self.version + 1
        return first <= version + 1 and self.version - version < KEPT // 2

    def end(self) -> None:
        """End what the pages read."""
        for reader in self.readers:
            reader.end()
        self.readers.clear()
