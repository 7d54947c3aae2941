"""The same things asked of every framework: parameters, bodies, cookies, redirects."""

import asyncio
import hashlib
import io

import httpx
import pytest
from frameworks.common import BLOCK, ETAG, FILE
from frameworks.serving import ERROR, PATIENCE_S, only, without
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

pytest_plugins = ["frameworks.fixtures"]

UPLOAD_BYTES = 50 * 1024 * 1024
MIDDLEWARE = ("x-outer", "yes")


def digest_of(blocks):
    digest, size = hashlib.sha256(), 0
    for block in blocks:
        digest.update(block)
        size += len(block)
    return {"size": size, "sha256": digest.hexdigest()}


def test_hello_through_the_middleware(visit, client):
    answer = client.get("/hello")
    assert (answer.status_code, answer.text, answer.http_version) == (200, "hello", "HTTP/1.1")
    assert answer.headers["server"] == "fastasgi"
    assert MIDDLEWARE in answer.headers.items()
    visit.wait_access("GET /hello", 200)


def test_head_has_the_head_of_get_alone(client):
    answer = client.head("/hello")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "5"
    assert client.get("/hello").text == "hello"


def test_parameters_and_json(visit, client):
    answer = client.get("/items/7", params={"q": "tea & äöü"}, headers={"user-agent": "test"})
    found = answer.json()
    assert found.pop("client")[0] == "127.0.0.1"
    assert found == {"id": 7, "q": "tea & äöü", "agent": "test"}
    visit.wait_access("GET /items/7?q=tea+%26+%C3%A4%C3%B6%C3%BC", 200)


def test_routes_that_do_not_fit(visit, client):
    assert client.get("/no/such/route").status_code == 404
    assert client.get("/items/tea").status_code in (404, 422)
    if visit.framework != "django":  # its views take every method; BlackSheep's routes are by method
        assert client.post("/hello").status_code == (404 if visit.framework == "blacksheep" else 405)
    if visit.framework == "django":
        assert client.get("/no/such/route").status_code == 404
    assert client.get("/hello").status_code == 200


def test_one_connection_is_kept(client):
    ports = {client.get("/items/1").json()["client"][1] for _ in range(10)}
    assert len(ports) == 1


def test_connection_close_is_answered(client):
    first = client.get("/items/1", headers={"connection": "close"})
    assert first.headers["connection"] == "close"
    assert client.get("/items/1").json()["client"] != first.json()["client"]


def test_json_both_ways(client):
    sent = {"text": "äöü \u2028", "list": [1, 2.5, None, True], "deep": {"a": {"b": "c" * 10_000}}}
    assert client.post("/json", json=sent).json() == {"got": sent}


def test_form_urlencoded(client):
    fields = {"name": "A & B=ü", "colour": ["red", "green"]}
    assert client.post("/form", data=fields).json() == fields


def test_form_multipart_without_a_file(client):
    fields = {"name": (None, "A & B=ü"), "colour": (None, "red")}
    assert client.post("/form", files=fields).json() == {"name": "A & B=ü", "colour": ["red"]}


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_upload_of_a_file(client, size):
    data = (BLOCK * (size // len(BLOCK) + 1))[:size]
    answer = client.post("/upload", files={"file": ("Ä.bin", io.BytesIO(data))}, data={"note": "kept"})
    assert answer.json() == {"name": "Ä.bin", "note": "kept", **digest_of([data])}


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_upload_of_50_mib_is_streamed(client, how):
    times = UPLOAD_BYTES // len(BLOCK)
    headers = {"content-length": str(UPLOAD_BYTES)} if how == "length" else {}
    answer = client.post("/stream", content=(BLOCK for _ in range(times)), headers=headers)
    assert answer.json() == digest_of(BLOCK for _ in range(times))


def test_upload_that_nobody_reads(client):
    """The handler answers without its body; the connection serves on, or closes, but never hangs."""
    answer = client.post("/no/such/route", content=BLOCK * 16)
    assert answer.status_code in (404, 403)  # Django asks for its CSRF token first
    assert client.get("/hello").text == "hello"


@without("falcon")
def test_session_in_a_cookie(client):
    assert [client.get("/visits").json()["visits"] for _ in range(3)] == [1, 2, 3]


def test_cookies(visit, client):
    answer = client.get("/cookies")
    assert answer.json() == {}
    given = sorted(value.lower() for value in answer.headers.get_list("set-cookie"))
    assert len(given) == 2 and given[0].startswith("first=1")
    assert all(part in given[1] for part in ("second=2", "httponly", "max-age=60", "samesite=strict", "path=/cookies"))
    expected = {"first": "1", "second": "2"}
    if "; secure" in given[1]:  # as BlackSheep makes every strict one
        expected.pop("second")
    assert client.get("/cookies").json() == expected


def test_redirect(visit, client):
    answer = client.get("/redirect", follow_redirects=True)
    assert [one.status_code for one in answer.history] == [307]
    assert answer.text == "hello"
    assert str(answer.url) == f"{visit.url}/hello"


def test_etag(client):
    first = client.get("/etag")
    assert (first.status_code, first.text, first.headers["etag"]) == (200, "tagged", ETAG)
    again = client.get("/etag", headers={"if-none-match": ETAG})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", ETAG)
    assert "transfer-encoding" not in again.headers
    assert client.get("/etag").text == "tagged"


@without("falcon")
def test_file(client):
    answer = client.get("/file")
    assert answer.content == FILE.read_bytes()
    assert answer.headers["content-length"] == str(FILE.stat().st_size)
    assert "common.txt" in answer.headers["content-disposition"]


@without("django", "litestar", "falcon", "blacksheep")
def test_part_of_a_file(visit, client):
    answer = client.get("/file", headers={"range": "bytes=10-19"})
    assert (answer.status_code, answer.content) == (206, FILE.read_bytes()[10:20])
    size = FILE.stat().st_size
    assert answer.headers["content-range"] == f"bytes 10-19/{size}"
    assert client.get("/file", headers={"range": f"bytes={size}-"}).status_code == 416


def test_absolute_urls(visit, client):
    assert client.get("/urls").json() == {"base": f"{visit.url}/", "item": f"{visit.url}/items/7"}
    named = client.get("/urls", headers={"host": "example.org:81"}).json()
    assert named == {"base": "http://example.org:81/", "item": "http://example.org:81/items/7"}


@without("django")
def test_what_startup_left(client):
    assert client.get("/lifespan").text == "from startup"


@without("django", "quart")
def test_a_websocket_without_a_route_is_refused(visit, client):
    key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13"}
    answer = client.get("/no-websocket", headers={"connection": "Upgrade", "upgrade": "websocket", **key})
    assert answer.status_code == 403
    if visit.framework in ("blacksheep", "falcon"):  # which log it as an error
        assert visit.said()
        visit.forgive()
    assert client.get("/hello").text == "hello"


@only("litestar", "falcon", "blacksheep", "channels")
def test_websocket(visit):
    """Accepted, a message each way, a close."""
    with connect(f"{visit.url.replace('http', 'ws', 1)}/websocket", proxy=None, open_timeout=PATIENCE_S) as socket:
        socket.send("tea & äöü")
        assert socket.recv(PATIENCE_S) == "heard tea & äöü"
        with pytest.raises(ConnectionClosedOK):
            socket.recv(PATIENCE_S)
    assert not ERROR.search(visit.said())
    visit.forgive()  # of the lines that tell of it


async def test_many_at_once(options):
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=8)
    async with httpx.AsyncClient(limits=limits, **options) as client:

        async def one(number):
            if number % 3 == 0:
                answer = await client.post("/json", json={"number": number})
                return answer.json()["got"]["number"]
            if number % 3 == 1:
                return len((await client.get("/download", params={"blocks": number})).content) // len(BLOCK)
            return (await client.get(f"/items/{number}")).json()["id"]

        assert await asyncio.gather(*(one(number) for number in range(60))) == list(range(60))
