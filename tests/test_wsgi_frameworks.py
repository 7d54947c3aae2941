"""Flask and Django as WSGI applications, in a server of their own process, with httpx as the client."""

import signal
from collections.abc import Iterator

import pytest
from process import PATIENCE_S, Process, running

httpx = pytest.importorskip("httpx")
pytest.importorskip("a2wsgi")


@pytest.fixture(scope="module", params=["flask", "django"])
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    pytest.importorskip(request.param)
    with running(f"wsgi_{request.param}:application") as process:
        yield process
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


@pytest.fixture
def client(server: Process) -> Iterator["httpx.Client"]:
    host, port = server.address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=PATIENCE_S) as made:
        yield made


def test_get(client: "httpx.Client") -> None:
    first = client.get("/")
    assert first.status_code == 200
    assert first.text.startswith("127.0.0.1 ")
    assert client.head("/").status_code == 200
    assert client.get("/nowhere").status_code == 404


def test_upload_as_a_form(client: "httpx.Client") -> None:
    size = 3_000_000
    answer = client.post("/upload", files={"file": ("tea.bin", b"x" * size)}, data={"field": "value"})
    assert answer.json() == {"name": "tea.bin", "size": size, "field": "value"}


@pytest.mark.parametrize("chunked", [False, True])
def test_echo_of_a_stream(server: Process, client: "httpx.Client", chunked: bool) -> None:
    data = bytes(range(256)) * 40
    content = (data[start : start + 1000] for start in range(0, len(data), 1000)) if chunked else data
    # Django's WSGI handler takes a body without a Content-Length for none.
    expected = b"" if chunked and "wsgi_django" in server.log() else data
    assert client.post("/echo", content=content).content == expected


def test_error_is_500(client: "httpx.Client") -> None:
    assert client.get("/fails").status_code == 500
    assert client.get("/").status_code == 200


def test_what_is_said(server: Process) -> None:
    assert "is a WSGI application: each request runs in a thread" in server.log()
