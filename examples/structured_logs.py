"""Logs for machines: every line is a JSON object, and all lines of a request carry its id and who asked.

The id is the server's (`--request-id-header`): it is in the answer too, so that a user can quote it. Who asked is ours:
a context variable, which a filter gives to every record. `structured_logs.json` says which lines go where.
"""

import logging
from contextvars import ContextVar
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException

from fastasgi.logging import request_id

logger = logging.getLogger("shop")
who: ContextVar[str | None] = ContextVar("who", default=None)
STOCK = {"tea": 3, "coffee": 0}


class WhoFilter(logging.Filter):
    """Gives `who` to records that are made within a request of somebody."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        name = who.get()
        if name is not None:
            record.who = name
        return True


async def remember_who(x_user: Annotated[str, Header()] = "nobody") -> None:
    """A context of its own belongs to each request: nothing has to be forgotten at the end."""
    who.set(x_user)


app = FastAPI(title="Shop", dependencies=[Depends(remember_who)])


@app.post("/orders/{item}")
async def order(item: str, count: int = 1) -> dict[str, str | int]:
    """Order something. What is given as `extra` becomes fields of the line."""
    left = STOCK.get(item, 0)
    if count > left:
        logger.warning("sold out", extra={"item": item, "left": left, "count": count})
        raise HTTPException(409, f"only {left} of {item} are left")
    logger.info("sold", extra={"item": item, "count": count})
    return {"item": item, "count": count, "request": request_id.get() or ""}


@app.get("/prices/{item}")
def price(item: str) -> dict[str, int]:
    """An error of ours: one line too, with its traceback. This function runs in a thread, in the same context."""
    logger.info("asked for a price", extra={"item": item})
    return {"pence": {"tea": 250}[item]}
