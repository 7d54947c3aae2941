"""Work behind the answer: small tasks of a request, and a queue with a worker of its own that is emptied at the end.

The server waits for both when it stops. A task of a request holds the request, so the drain waits for it (at most
`--timeout-graceful-shutdown`); the queue is emptied in the shutdown of the lifespan (at most
`--timeout-lifespan-shutdown`). Work that must not be lost when a process dies belongs into a queue outside of it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request

logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(name)s: %(message)s")
logger = logging.getLogger("mail")

Letter = tuple[str, str]


class Outbox:
    """Letters that wait, and one task that sends them."""

    def __init__(self, max_waiting: int = 1000) -> None:
        self._letters: asyncio.Queue[Letter] = asyncio.Queue(max_waiting)
        self.sent: list[Letter] = []

    def put(self, letter: Letter) -> None:
        """Have it sent. Raises 503 where too much waits: a queue without an end only hides that."""
        try:
            self._letters.put_nowait(letter)
        except asyncio.QueueFull:
            raise HTTPException(503, "too many letters wait", {"retry-after": "10"}) from None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send letters within the block; at its end those that wait still go."""
        task = asyncio.create_task(self._send_all())
        try:
            yield
            await self._letters.join()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _send_all(self) -> None:
        while True:
            letter = await self._letters.get()
            try:
                await self.send(letter)
            except OSError:
                logger.exception("a letter to %s was not sent", letter[0])
            finally:
                self._letters.task_done()

    async def send(self, letter: Letter) -> None:
        """Stands for a connection to a mail server."""
        await asyncio.sleep(0.05)
        self.sent.append(letter)
        logger.info("sent a letter to %s", letter[0])


class State(TypedDict):
    """What the lifespan gives to all requests."""

    outbox: Outbox


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """The outbox works while requests are served, and a little longer."""
    outbox = Outbox()
    async with outbox.running():
        yield {"outbox": outbox}
    logger.info("%d letters were sent", len(outbox.sent))


def outbox_of(request: Request) -> Outbox:
    """The outbox, for each request."""
    outbox: Outbox = request.state.outbox
    return outbox


TheOutbox = Annotated[Outbox, Depends(outbox_of)]
app = FastAPI(title="Mail", lifespan=lifespan)


@app.post("/letters/{to}", status_code=202)
async def write(to: str, outbox: TheOutbox, later: BackgroundTasks) -> dict[str, str]:
    """Answer at once: the letter is sent by the outbox, the note is written by a task of this request."""
    outbox.put((to, "hello"))
    later.add_task(note, to)
    return {"to": to}


async def note(to: str) -> None:
    """Runs when the answer has been sent."""
    await asyncio.sleep(0.05)
    logger.info("noted that %s was written to", to)


@app.get("/letters")
async def sent(outbox: TheOutbox) -> list[str]:
    """To whom letters were sent."""
    return [to for to, _ in outbox.sent]
