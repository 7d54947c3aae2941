"""A Starlette endpoint: a path parameter, a query, a JSON answer. No middleware but its own."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def read_item(request: Request) -> JSONResponse:
    """Return the item of this number."""
    name = request.query_params.get("q", "engine")
    item = {"id": request.path_params["item_id"], "name": name, "tags": ["brass", "steam"], "price": 9.75}
    return JSONResponse(item)


app = Starlette(routes=[Route("/items/{item_id:int}", read_item)])
