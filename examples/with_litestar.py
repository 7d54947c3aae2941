"""Litestar: typed handlers, a dependency, validation by the types of a dataclass, an error with its own status."""

from dataclasses import dataclass

from litestar import Litestar, get, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ClientException


@dataclass
class Order:
    """What is ordered."""

    item: str
    count: int = 1


class Stock:
    """How much of everything is there."""

    def __init__(self) -> None:
        self.left = {"tea": 3}

    def take(self, order: Order) -> int:
        """Take it; how much is left then. Raises 409."""
        left = self.left.get(order.item, 0)
        if not 0 < order.count <= left:
            raise ClientException(f"{left} of {order.item} are left", status_code=409)
        self.left[order.item] = left - order.count
        return self.left[order.item]


async def stock_of(state: State) -> Stock:
    """The stock, for each request."""
    stock: Stock = state.stock
    return stock


@get("/stock")
async def show(stock: Stock) -> dict[str, int]:
    """Tell it."""
    return stock.left


@post("/orders")
async def order(data: Order, stock: Stock) -> dict[str, int]:
    """Order something."""
    return {"left": stock.take(data)}


app = Litestar([show, order], state=State({"stock": Stock()}), dependencies={"stock": Provide(stock_of)})
