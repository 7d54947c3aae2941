"""Tests of `rest.py`, in three ways: without a server, with Starlette's test client, and over a real socket.

    python -m pytest examples/test_rest.py
"""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from starlette.testclient import TestClient

import fastasgi
from examples.rest import app


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Starlette's client: the application in the same process, no socket. `with` runs its lifespan."""
    with TestClient(app) as session:
        yield session


def test_a_note_is_kept(client: TestClient) -> None:
    """What was made is found."""
    made = client.post("/notes", json={"title": "tea"})
    assert made.status_code == 201
    assert client.get(made.headers["location"]).json() == made.json()


def test_a_note_needs_a_title(client: TestClient) -> None:
    """What is wrong is said."""
    answer = client.post("/notes", json={"title": ""})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "title"]


def test_the_interface_is_described() -> None:
    """httpx itself, for tests of asynchronous code. It runs no lifespan, so only what needs none is tested."""

    async def fetch() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://notes") as session:
            return await session.get("/openapi.json")

    assert "/notes/{note_id}" in asyncio.run(fetch()).json()["paths"]


@pytest.mark.fastasgi(app=app, limit_request_body=10_000)
def test_over_a_socket(live_server: fastasgi.Server) -> None:
    """A real server, a real connection: limits, timeouts and headers are those of production."""
    with httpx.Client(base_url=live_server.url) as session:
        assert session.post("/notes", json={"title": "tea", "text": "x" * 20_000}).status_code == 413
        assert session.post("/notes", json={"title": "tea"}).headers["server"] == "fastasgi"
