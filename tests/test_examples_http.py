"""The examples that speak HTTP, over real sockets: rest, uploads, guarded, background, and the frameworks' own."""

import contextlib
import importlib
import logging

import pytest
from example_sites import served
from process import Blocking
from waiting import until
from websockets.sync.client import connect

from fastasgi import serve_in_thread

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # frameworks' own, at their import


def example(name):
    """The module of an example."""
    return importlib.import_module(f"examples.{name}")


@contextlib.contextmanager
def dialled(server):
    """A client that speaks in bytes."""
    client = Blocking(("127.0.0.1", int(server.url.rpartition(":")[2])))
    try:
        yield client
    finally:
        client.close()


# --- rest -----------------------------------------------------------------------------------------------------------


def test_rest_keeps_notes():
    with served("examples.rest:app") as (_, client):
        made = client.post("/notes", json={"title": " tea ", "text": "green"})
        assert made.status_code == 201
        note = made.json()
        assert (note["id"], note["title"], note["text"]) == (1, "tea", "green")
        where = made.headers["location"]
        assert client.get(where).json() == note
        changed = client.patch(where, json={"text": "black"})
        assert changed.json() == {**note, "text": "black"}
        assert client.patch(where, json={"title": "tea"}).status_code == 200, "its own title is not taken"
        assert client.delete(where).status_code == 204
        gone = client.get(where)
        assert (gone.status_code, gone.json()) == (404, {"detail": "there is no note 1"})
        assert client.delete(where).status_code == 404


def test_rest_refuses_what_is_wrong():
    with served("examples.rest:app") as (_, client):
        assert client.post("/notes", json={"title": "tea"}).status_code == 201
        assert client.post("/notes", json={"title": "tea"}).status_code == 409
        assert client.post("/notes", json={"title": "coffee"}).status_code == 201
        assert client.patch("/notes/2", json={"title": "tea"}).status_code == 409
        for wrong in ({"title": ""}, {"title": "x" * 101}, {"text": "x"}, {"title": "x", "colour": "red"}, ["x"]):
            assert client.post("/notes", json=wrong).status_code == 422, wrong
        assert client.post("/notes", content=b"{").status_code == 422
        assert client.get("/notes", params={"limit": 0}).status_code == 422
        assert client.get("/notes/x").status_code == 422
        assert client.put("/notes/1").status_code == 405


def test_rest_has_pages():
    with served("examples.rest:app") as (_, client):
        for number in range(5):
            client.post("/notes", json={"title": f"note {number}"})
        client.delete("/notes/2")
        answer = client.get("/notes", params={"limit": 2})
        seen = [note["id"] for note in answer.json()["items"]]
        while "next" in answer.links:
            answer = client.get(answer.links["next"]["url"])
            seen += [note["id"] for note in answer.json()["items"]]
        assert seen == [1, 3, 4, 5]
        assert answer.json()["next_after"] is None


# --- uploads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where uploads go; a file may have 3,000,000 bytes."""
    uploads = example("uploads")
    monkeypatch.setattr(uploads, "FOLDER", tmp_path / "uploads")
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 3_000_000)
    return tmp_path / "uploads"


DATA = bytes(range(256)) * 8000  # 2 MB


def pieces(data):
    """The same in pieces, so that the length is unknown."""
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


def test_uploads_are_kept_as_they_came(folder):
    with served("examples.uploads:app") as (_, client):
        assert client.get("/files").json() == []
        answer = client.put("/files/a.bin", content=pieces(DATA))
        assert (answer.status_code, answer.json()) == (201, {"name": "a.bin", "size": len(DATA)})
        assert (folder / "a.bin").read_bytes() == DATA
        files = [("files", ("b.bin", DATA)), ("files", ("../../c d.txt", b"c")), ("files", ("..", b""))]
        assert client.post("/files", files=files).json() == [
            {"name": "b.bin", "size": len(DATA)}, {"name": "c d.txt", "size": 1}, {"name": "unnamed", "size": 0},
        ]  # fmt: skip
        assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "b.bin", "c d.txt", "unnamed"]
        assert [each["name"] for each in client.get("/files").json()] == ["a.bin", "b.bin", "c d.txt", "unnamed"]
        part = client.get("/files/b.bin", headers={"range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, DATA[1000:2000])
        assert client.get("/files/z").status_code == 404
        for name in (".hidden", "..%2Fup", "a%2Fb"):
            assert client.put(f"/files/{name}", content=b"x").status_code in (404, 422), name


def test_uploads_that_are_too_big(folder):
    with served("examples.uploads:app", limit_request_body=4_000_000) as (server, client):
        assert client.put("/files/a", content=pieces(DATA * 2)).status_code == 413
        assert client.put("/files/a", content=pieces(DATA + DATA[:1_500_000])).status_code == 413
        assert client.post("/files", files={"files": ("a", DATA + DATA[:1_500_000])}).status_code == 413
        with dialled(server) as peer:  # nothing of the body is asked for
            answer = peer.answer(
                b"PUT /files/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3000001\r\n\r\n"
            )
            assert answer.status == 413
            assert b"at most 3000000 bytes" in answer.body
    assert not folder.exists() or list(folder.iterdir()) == []


def test_uploads_whose_client_leaves(folder):
    with served("examples.uploads:app") as (server, client), dialled(server) as peer:
        peer.send(b"PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
        until(lambda: client.get("/files").is_success and list(folder.glob(".*.part")), "it is being written")
    assert list(folder.iterdir()) == []  # the server has ended, so its requests have


# --- guarded --------------------------------------------------------------------------------------------------------

PAGE = {"origin": "https://app.example.com"}


@pytest.fixture
def clock(monkeypatch):
    """The clock of the limit, as a list of one number; nobody has asked yet."""
    app = example("guarded").app
    now = [1000.0]
    monkeypatch.setitem(app.user_middleware[-1].kwargs, "clock", lambda: now[0])
    monkeypatch.setattr(app, "middleware_stack", None)
    return now


def test_guarded_limits_each_client(clock):
    with served("examples.guarded:app") as (_, client):
        assert client.get("/").json() == {"client": "127.0.0.1"}
        codes = [client.get("/", headers=PAGE).status_code for _ in range(11)]
        assert codes == [200] * 9 + [429] * 2
        refused = client.get("/", headers=PAGE)
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["access-control-allow-origin"] == PAGE["origin"], "a page in a browser can read it"
        # our proxy is this machine: another browser behind it has a count of its own
        assert client.get("/", headers={"x-forwarded-for": "10.0.0.1"}).json() == {"client": "10.0.0.1"}
        clock[0] += 0.5
        assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


def test_guarded_hosts_and_origins(clock):
    with served("examples.guarded:app") as (_, client):
        assert client.get("/", headers={"host": "elsewhere.test"}).status_code == 400
        assert client.get("/", headers={"host": "api.example.com"}).status_code == 200
        asked = {**PAGE, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        before = client.options("/", headers=asked)
        assert before.status_code == 200
        assert before.headers["access-control-allow-methods"] == "GET, POST"
        stranger = client.get("/", headers={"origin": "https://evil.test"})
        assert "access-control-allow-origin" not in stranger.headers
        assert client.options("/", headers={**asked, "origin": "https://evil.test"}).status_code == 400


def test_guarded_remembers_only_so_many():
    limit = example("guarded").RateLimit(None, per_second=1.0, burst=1, max_clients=2, clock=lambda: 0.0)
    assert [limit.take(client) for client in ("a", "b", "a")] == [0.0, 0.0, 1.0]
    assert [limit.take(client) for client in ("c", "b")] == [0.0, 0.0], "b was silent the longest"
    client_of = example("guarded").client_of
    assert client_of({"client": ("2001:db8:1:2:3:4:5:6", 1)}) == client_of({"client": ("2001:db8:1:2::9", 2)})
    assert client_of({"client": None}) == ""


# --- background -----------------------------------------------------------------------------------------------------


def test_background_work_ends_before_the_server(caplog):
    caplog.set_level(logging.INFO, "mail")
    with served("examples.background:app") as (_, client):
        for name in ("ada", "bob", "eve"):
            assert client.post(f"/letters/{name}").status_code == 202
        assert isinstance(client.get("/letters").json(), list)
    said = [record.message for record in caplog.records if record.name == "mail"]
    assert said[-1] == "3 letters were sent"
    assert {f"noted that {name} was written to" for name in ("ada", "bob", "eve")} <= set(said)


# --- frameworks -----------------------------------------------------------------------------------------------------


def test_starlette():
    with served("examples.with_starlette:app") as (_, client):
        assert client.get("/hello/ada?from=bob").json() == {"hello": "ada", "from": "bob"}
        assert client.get("/numbers/1000").text.split() == [str(number) for number in range(1000)]
        page = client.get("/").text
        (style,) = [word[6:-2] for word in page.split() if word.startswith("href=")]
        answer = client.get(style)
        assert answer.headers["content-type"].startswith("text/css")
        again = client.get(style, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_quart(caplog):
    with served("examples.with_quart:app") as (server, client):
        assert client.get("/hello/ada?from=bob").json() == {"hello": "ada", "visits": 1, "came_from": "bob"}
        assert client.post("/words", content=pieces(b"tea and\ncoffee " * 9999)).json() == {"words": 29997}
        with connect(server.url.replace("http", "ws") + "/shout", proxy=None) as socket:
            socket.send("hello, é")
            assert socket.recv() == "HELLO, É"


def test_litestar():
    with served("examples.with_litestar:app") as (_, client):
        before = client.get("/stock").json()["tea"]
        assert client.post("/orders", json={"item": "tea", "count": 1}).json() == {"left": before - 1}
        assert client.get("/stock").json() == {"tea": before - 1}
        refused = client.post("/orders", json={"item": "coffee"})
        assert (refused.status_code, refused.json()["detail"]) == (409, "0 of coffee are left")
        assert client.post("/orders", json={"count": "many"}).status_code == 400


@pytest.mark.parametrize("app", ["app", "mixed"])
def test_flask(app):
    pytest.importorskip("a2wsgi")
    with served(f"examples.with_flask:{app}") as (_, client):
        assert client.get("/hello/ada").json() == {"hello": "ada", "address": "127.0.0.1"}
        answer = client.post("/lines", content=pieces(b"a line\n" * 10_000))
        assert answer.text.splitlines() == [f"{number} a line" for number in range(1, 10_001)]
        assert client.get("/nowhere").status_code == 404
        assert client.get("/new").status_code == (404 if app == "app" else 200)


def test_demo():
    with serve_in_thread("examples.demo:app", port=0) as server, dialled(server) as peer:
        assert b"fastasgi serves this page" in peer.get().body
