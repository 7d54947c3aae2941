"""A FastAPI endpoint as tutorials write it: a path parameter, a query, a response model."""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    """What the endpoint answers."""

    id: int
    name: str
    tags: list[str]
    price: float


@app.get("/items/{item_id}")
async def read_item(item_id: int, q: str | None = None) -> Item:
    """Return the item of this number."""
    return Item(id=item_id, name=q or "engine", tags=["brass", "steam"], price=9.75)
