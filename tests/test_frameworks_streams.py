"""Bodies that flow: downloads, clients that go away, event streams, work after the answer, handlers that raise."""

import asyncio
import contextlib
import http.client
import socket

import httpx
import pytest
from frameworks.common import BLOCK
from frameworks.serving import ERROR, LEFT, PATIENCE_S, without

pytest_plugins = ["frameworks.fixtures"]

BOOM = "ValueError: boom"


@contextlib.contextmanager
def dialled(visit, target):
    """A plain socket that has asked for `target`."""
    with socket.create_connection(("127.0.0.1", visit.site.port), PATIENCE_S) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield sock


def read_until(sock, wanted):
    seen = b""
    while wanted not in seen:
        data = sock.recv(1 << 16)
        assert data, seen
        seen += data
    return seen


def test_download(client):
    with client.stream("GET", "/download", params={"blocks": 200}) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        data = answer.read()
    assert data == BLOCK * 200
    assert client.get("/hello").text == "hello"


def test_client_aborts_a_download(visit, client):
    with client.stream("GET", "/endless") as answer:
        blocks = answer.iter_raw()
        assert sum(len(next(blocks)) for _ in range(10)) > 0
    visit.wait_stopped("endless stopped")
    assert client.get("/hello").text == "hello"
    visit.wait_access("GET /endless", 200)


@pytest.mark.parametrize("times", [5])
def test_clients_that_vanish_with_a_reset(visit, times):
    for _ in range(times):
        with dialled(visit, "/endless") as sock:
            read_until(sock, b"\r\n\r\n")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    visit.wait_stopped("endless stopped", times)


def test_client_aborts_an_upload(visit, client):
    """The handler is told by the framework's own error; Starlette lets it out, and that is one line."""
    with socket.create_connection(("127.0.0.1", visit.site.port), PATIENCE_S) as sock:
        head = b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        sock.sendall(head + BLOCK)
    if visit.framework in ("starlette", "fastapi"):
        visit.site.err.wait(f"^{LEFT}POST /stream ended with starlette.requests.ClientDisconnect", visit.start)
    if visit.framework == "blacksheep":  # which logs what it raises, whoever is to blame
        visit.site.err.wait("^blacksheep.exceptions.MessageAborted", visit.start)
        visit.forgive()
    assert client.get("/hello").text == "hello"


def test_server_sent_events_until_the_client_leaves(visit):
    with dialled(visit, "/events") as sock:
        seen = read_until(sock, b"data: xx\n\n")
        assert b"content-type: text/event-stream" in seen.lower()
        assert b"\r\n0\r\n\r\n" not in seen
        assert visit.events() == []
    visit.wait_stopped("events stopped")


def test_many_event_streams_at_once(visit):
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            read_until(stack.enter_context(dialled(visit, "/events")), b"data: xx\n\n")
    visit.wait_stopped("events stopped", 10)


@without("django", "blacksheep")
def test_work_goes_on_after_the_response(visit, client):
    """The answer is complete and the connection free while the work still waits."""
    assert client.get("/background").text == "started"
    first = client.get("/items/1").json()["client"]
    visit.wait_event("background waits")
    assert visit.events() == ["background waits"]
    assert client.post("/release").status_code == 204
    visit.wait_event("background done")
    visit.wait_event("background in a thread")
    assert client.get("/items/1").json()["client"] == first


@without("django", "blacksheep")
def test_work_goes_on_after_the_client_has_left(visit, options):
    with httpx.Client(**options) as one:
        assert one.get("/background", headers={"connection": "close"}).text == "started"
    visit.wait_event("background waits")
    with httpx.Client(**options) as other:
        assert other.post("/release").status_code == 204
    visit.wait_event("background done")


async def test_worker_threads_do_not_block_the_loop(visit, options):
    count = 1 if visit.framework == "django" else 3  # Django has one thread for all of them
    async with httpx.AsyncClient(**options) as client:
        waiting = [asyncio.create_task(client.get("/thread")) for _ in range(count)]
        await asyncio.to_thread(visit.wait_event, "thread waits", count)
        assert (await client.get("/hello")).text == "hello"
        assert (await client.post("/release")).status_code == 204
        assert [answer.text for answer in await asyncio.gather(*waiting)] == ["released"] * count


def test_handler_that_raises(visit, client):
    """500; one traceback in the log; the next request is served."""
    answer = client.get("/boom")
    assert answer.status_code == 500
    assert "boom" not in answer.text and "Traceback" not in answer.text
    if visit.framework == "litestar":  # says nothing unless it is told to
        assert visit.said() == ""
    else:
        visit.assert_one_error(BOOM)
    assert client.get("/hello").text == "hello"
    visit.wait_access("GET /boom", 500)


def test_stream_that_raises_is_cut_off(visit, client):
    """The client can tell: the body has no end. (But Starlette's BaseHTTPMiddleware ends it, then raises.)"""
    with client.stream("GET", "/boom-late") as answer:
        assert answer.status_code == 200
        if visit.framework in ("starlette", "fastapi"):
            assert answer.read() == BLOCK
        else:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                answer.read()
    visit.site.err.wait(BOOM, visit.start)
    said = visit.said()
    assert said.count("Exception in ASGI application") == 1, said
    assert len(ERROR.findall(said)) == 1, said
    visit.forgive()
    assert client.get("/hello").text == "hello"


def test_peer_that_speaks_nonsense(visit, client):
    """Answered by the server, not the application; one line says whose fault it was."""
    with socket.create_connection(("127.0.0.1", visit.site.port), PATIENCE_S) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n")
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        assert answer.status == 400
        answer.read()
        assert sock.recv(1) == b""
    said = visit.said()
    assert said.startswith("INFO:     client sent a bad request: ") and said.count("\n") == 0, said
    visit.forgive()
    assert client.get("/hello").text == "hello"
