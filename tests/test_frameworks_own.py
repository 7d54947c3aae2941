"""What only one of the frameworks has: static files and GZip, dependencies with yield, CSRF, cancelled views."""

import http.client
import re
import socket

import pytest
from frameworks.common import BLOCK, FILE
from frameworks.serving import PATIENCE_S, Site, only

pytest_plugins = ["frameworks.fixtures"]


class TestStarlette:
    @only("starlette")
    def test_static_files(self, client):
        path = f"/static/{FILE.name}"
        answer = client.get(path)
        assert answer.content == FILE.read_bytes()
        again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        since = client.get(path, headers={"if-modified-since": answer.headers["last-modified"]})
        assert since.status_code == 304
        part = client.get(path, headers={"range": "bytes=3-5"})
        assert (part.status_code, part.content) == (206, answer.content[3:6])
        parts = client.get(path, headers={"range": "bytes=0-3,10-12"})
        assert parts.status_code == 206
        assert parts.headers["content-type"].startswith("multipart/byteranges")
        assert client.head(path).headers["content-length"] == str(len(answer.content))
        assert client.get("/static/no-such").status_code == 404
        assert client.get("/static/../conftest.py").status_code == 404

    @only("starlette")
    def test_gzip(self, client):
        answer = client.get("/zipped/json")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.json() == {"words": ["fast"] * 5000}
        plain = client.get("/zipped/json", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.json() == answer.json()
        assert client.get("/zipped/stream", params={"blocks": 30}).content == BLOCK * 30

    @only("starlette")
    def test_body_read_in_the_middleware_and_again(self, client):
        assert client.post("/read-twice", content=b"tea").json() == {"body": "tea", "seen": 3}
        big = b"x" * 1_000_000
        assert client.post("/read-twice", content=big).json() == {"body": big.decode(), "seen": len(big)}

    @only("starlette")
    def test_handler_without_a_response(self, visit, client):
        assert client.get("/nothing").status_code == 500
        visit.assert_one_error("TypeError: 'NoneType' object is not callable")


class TestFastAPI:
    @only("fastapi")
    def test_dependencies_with_yield(self, visit, client):
        assert client.get("/resources").json() == ["resource", "thread resource"]
        opened = ["resource opened", "thread resource opened"]
        assert sorted(visit.events()) == sorted([*opened, "thread resource closed", "resource closed"])

    @only("fastapi")
    def test_dependency_sees_the_error(self, visit, client):
        answer = client.get("/resources", params={"teapot": True})
        assert (answer.status_code, answer.json(), answer.headers["x-teapot"]) == (418, {"detail": "a teapot"}, "yes")
        assert visit.events()[2:] != [] and "resource saw the error" in visit.events()

    @only("fastapi")
    def test_models_and_validation(self, client):
        answer = client.post("/orders", json={"name": "tea"})
        assert (answer.status_code, answer.json()) == (201, {"name": "tea", "amount": 1})
        wrong = client.post("/orders", json={"amount": "many"})
        assert wrong.status_code == 422 and len(wrong.json()["detail"]) == 2
        assert client.post("/orders", content=b"{no json").status_code == 422

    @only("fastapi")
    def test_interface_is_described(self, client):
        assert "/orders" in client.get("/openapi.json").json()["paths"]
        assert "swagger" in client.get("/docs").text.lower()


class TestDjango:
    @only("django")
    def test_form_with_csrf(self, client):
        page = client.get("/person").text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
        wrong = client.post("/person", data={"csrfmiddlewaretoken": token, "name": "x" * 11, "age": -1})
        assert wrong.status_code == 200 and wrong.text.count("errorlist") == 2
        fields = {"csrfmiddlewaretoken": token, "name": "Ada", "age": 36}
        saved = client.post("/person", data=fields, follow_redirects=True)
        assert [one.status_code for one in saved.history] == [302]
        assert saved.json() == {"name": "Ada", "age": 36}

    @only("django")
    def test_form_without_csrf_is_refused(self, client):
        assert client.post("/person", data={"name": "Ada", "age": 36}).status_code == 403

    @only("django")
    def test_async_view_is_cancelled_when_its_client_leaves(self, visit):
        with socket.create_connection(("127.0.0.1", visit.site.port), PATIENCE_S) as sock:
            sock.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            visit.wait_event("slow waits")
        visit.wait_event("slow stopped")

    @only("django")
    def test_plain_generator(self, visit, client):
        assert client.get("/download-sync").text == "one,two,three"


class TestIdleStreams:
    """A stream that has nothing to say ends with its client."""

    @pytest.mark.parametrize("kind", ["idle", "polled"])
    def test_starlette(self, kind):
        site = Site("starlette")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
            connection.request("GET", f"/{kind}-events")
            answer = connection.getresponse()
            assert answer.read1() == b"data: x\n\n"
            answer.close()
            connection.close()
            site.mark("?collect=1")
            site.err.wait(f"^event: {kind} events stopped$", patience_s=1.0)
        finally:
            site.kill()
