"""What the applications share: their routes, and how they tell a test what happened inside.

    GET  /hello                 "hello"; HEAD too
    GET  /items/{id}?q=         JSON: {"id", "q", "client", "agent"}
    POST /json                  {"got": the body}
    POST /form                  {"name", "colour": [..]} of a form in either encoding
    POST /upload                {"name", "size", "sha256", "note"} of the file "file" of a multipart form
    POST /stream                {"size", "sha256"} of the body, never held as a whole
    GET  /download?blocks=      that many times BLOCK, streamed, of unknown length
    GET  /endless               the same without an end; "endless stopped" when the client has gone
    GET  /events                server-sent events, 3 and then none; "events stopped" when the client has gone
    GET  /background            "started"; then "background waits" for POST /release, then "background done"
    POST /release               lets work that waits go on
    GET  /thread                a plain function in a worker thread, "thread waits" for POST /release
    GET  /boom                  raises ValueError("boom")
    GET  /boom-late             one BLOCK, then raises ValueError("boom")
    GET  /visits                counts up in the session: {"visits"}
    GET  /lifespan              what startup left behind
    GET  /redirect              to /hello
    GET  /etag                  "tagged" with ETAG, or 304
    GET  /file                  FILE from the disk
    GET  /urls                  {"base", "item"}: absolute URLs of the application and of item 7
    GET  /cookies               sets two cookies, one with attributes; JSON of those that came
    GET  /mark                  "mark": what was told before is in the log now; with ?collect after gc.collect()
"""

import asyncio
import gc
import hashlib
import sys
import threading
from pathlib import Path

BLOCK = bytes(range(256)) * 256  # 64 KiB
FILE = Path(__file__)
ETAG = '"v1"'


def event(text: str) -> None:
    """Tell the test; in one write, so that lines of threads do not mix."""
    sys.stderr.write(f"event: {text}\n")
    sys.stderr.flush()


def mark(collect: bool) -> None:
    """Generators of streams that ended early may hang in cycles of the framework, until these are collected."""
    if collect:
        gc.collect()
    event("mark")


class Gate:
    """Held work of both kinds; each opening lets those through that wait."""

    def __init__(self) -> None:
        self._tasks, self._threads = asyncio.Event(), threading.Condition()

    async def passed(self) -> None:
        event("background waits")
        await self._tasks.wait()

    def passed_by_thread(self) -> None:
        with self._threads:
            event("thread waits")
            self._threads.wait()

    def open(self) -> None:
        self._tasks.set()
        self._tasks.clear()
        with self._threads:
            self._threads.notify_all()


class Digest:
    """Counts and hashes what it is given."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)

    def result(self) -> dict[str, int | str]:
        return {"size": self.size, "sha256": self._hash.hexdigest()}
