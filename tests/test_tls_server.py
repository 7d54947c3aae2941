"""TLS as clients meet it: a whole server with certificates, and httpx, curl, websockets and bare `ssl` as clients."""

import asyncio
import contextlib
import json
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from answers import read_answers
from drive import drain_body
from process import ROOT
from tls_files import PASSWORD, files

import fastasgi
from fastasgi.errors import StartupError

PATIENCE_S = 10.0


async def app(scope, receive, send):
    """Tells of its scope; `/big?N` sends N bytes; POST counts."""
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps([scope["scheme"], sorted(scope["extensions"])])})
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/big":
        data = b"x" * int(scope["query_string"])
    elif scope["method"] == "POST":
        data = b"%d" % len(await drain_body(receive))
    else:
        data = json.dumps([scope["scheme"], scope.get("extensions")]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(data))]})
    await send({"type": "http.response.body", "body": data})


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return request.param


def serving(loop="auto", **options):
    """A server of `app` in a thread, with the certificate and key of the tests unless told otherwise."""
    certs = files()
    options = {"ssl_certfile": certs.cert, "ssl_keyfile": certs.key, "lifespan": "off", **options}
    return fastasgi.serve_in_thread(app, port=0, loop=loop, access_log=False, **options)


def client_context(version=None, cert=None):
    """The context of a client that trusts the authority of the tests."""
    made = ssl.create_default_context(cafile=files().ca)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if cert is not None:
        made.load_cert_chain(cert)
    return made


@contextlib.contextmanager
def connected(server, context=None, **options):
    """A blocking TLS connection."""
    port = int(server.url.rpartition(":")[2])
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    context = context or client_context()
    with plain, context.wrap_socket(plain, server_hostname="localhost", **options) as sock:
        yield sock


def ask(sock, request=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
    """One whole answer."""
    sock.sendall(request)
    seen = b""
    while not (found := read_answers(seen, ["GET"])):
        data = sock.recv(1 << 16)
        assert data, seen
        seen += data
    return found[0]


@pytest.mark.pins("tls.extension")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_httpx(loop, version):
    with serving(loop) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=client_context(version), base_url=server.url, trust_env=False) as client:
            for _ in range(3):
                scheme, extensions = client.get("/").json()
    assert scheme == "https"
    tls = extensions["tls"]
    assert tls.pop("server_cert") == Path(files().cert).read_text()
    assert tls.pop("cipher_suite") in range(0x10000)
    assert tls == {
        "client_cert_chain": [], "client_cert_name": None, "client_cert_error": None,
        "tls_version": int(version),
    }  # fmt: skip


def test_the_cipher_suite_is_its_number():
    context = client_context(ssl.TLSVersion.TLSv1_2)
    with serving(ssl_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") as server, connected(server, context) as sock:
        assert json.loads(ask(sock).body)[1]["tls"]["cipher_suite"] == 0xC02B


def test_clear_text_has_no_extension():
    with fastasgi.serve_in_thread(app, port=0, lifespan="off", access_log=False) as server:
        assert httpx.get(server.url, trust_env=False).json() == ["http", None]


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_one_version_alone(version):
    with serving(ssl_version=version) as server, connected(server) as sock:
        assert ask(sock).status == 200
        assert sock.version() == version
        assert sock.selected_alpn_protocol() is None
    offering = client_context()
    offering.set_alpn_protocols(["h2", "http/1.1"])
    with serving() as server, connected(server, offering) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(loop, version):
    context = client_context(version)
    with serving(loop) as server:
        with connected(server, context) as sock:
            ask(sock)  # tickets of TLS 1.3 come behind the handshake
            assert not sock.session_reused
            session = sock.session
        with connected(server, context, session=session) as sock:
            ask(sock)
            assert sock.session_reused


@pytest.mark.parametrize("by", ["httpx", "curl"])
def test_big_bodies_both_ways(loop, by, tmp_path):
    size = 20_000_000
    with serving(loop) as server:
        if by == "httpx":
            with httpx.Client(verify=client_context(), base_url=server.url, trust_env=False) as client:
                assert client.get(f"/big?{size}").content == b"x" * size
                assert client.post("/", content=bytes(size)).text == str(size)
            return
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        (tmp_path / "body").write_bytes(bytes(size))
        curl = ["curl", "-sS", "--noproxy", "*", "--cacert", files().ca, "--max-time", "20"]
        got = subprocess.run([*curl, f"{server.url}/big?{size}"], capture_output=True, check=True)
        assert got.stdout == b"x" * size
        got = subprocess.run(
            [*curl, "-X", "POST", "-T", str(tmp_path / "body"), server.url], capture_output=True, check=True
        )
        assert got.stdout == b"%d" % size


def test_websocket():
    with serving() as server:
        url = server.url.replace("https", "wss")
        with websockets.sync.client.connect(url, ssl=client_context(), proxy=None) as client:
            assert json.loads(client.recv()) == ["wss", ["tls", "websocket.http.response"]]


# --- client certificates ------------------------------------------------------------------------------------------


@pytest.mark.pins("tls.extension")
def test_a_client_certificate():
    context = client_context(cert=files().client)
    with serving(ssl_cert_reqs="CERT_REQUIRED", ssl_ca_certs=files().ca) as server, connected(server, context) as sock:
        tls = json.loads(ask(sock).body)[1]["tls"]
    assert tls["client_cert_chain"][0] in Path(files().client).read_text()
    assert tls["client_cert_name"].startswith("CN=me\\, myself,OU=")
    assert tls["client_cert_name"].endswith(",O=Acme")
    assert tls["client_cert_error"] is None


@pytest.mark.parametrize("cert", [None, "foreign"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_that_is_missing_or_of_a_stranger(loop, cert, version, caplog):
    context = client_context(version, cert and getattr(files(), cert))
    caplog.set_level(logging.DEBUG, "fastasgi.error")
    with serving(loop, ssl_cert_reqs="CERT_REQUIRED", ssl_ca_certs=files().ca) as server:
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)), connected(server, context) as sock:
            ask(sock)
        with connected(server, client_context(cert=files().client)) as sock:
            assert ask(sock).status == 200
    (said,) = [message for message in caplog.messages if message.startswith("client ")]
    wanted = "showed no certificate" if cert is None else "showed a certificate that cannot be trusted"
    assert wanted in said
    assert not [record for record in caplog.records if record.exc_info]


def test_an_optional_certificate_may_be_missing():
    with serving(ssl_cert_reqs=ssl.CERT_OPTIONAL, ssl_ca_certs=files().ca) as server, connected(server) as sock:
        assert json.loads(ask(sock).body)[1]["tls"]["client_cert_chain"] == []


# --- clients that do something else -------------------------------------------------------------------------------


def until(condition, what):
    """Wait for what another thread does."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.01)


@pytest.mark.pins("tls.plain-http")
def test_plain_http_is_one_debug_line(loop, caplog):
    caplog.set_level(logging.DEBUG, "fastasgi.error")
    with serving(loop) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
            name = "{}:{}".format(*sock.getsockname())
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP" not in sock.recv(1000)
        line = f"client {name} sent plain HTTP to the TLS port"
        until(lambda: line in caplog.messages, caplog.messages)
        with connected(server) as sock:
            assert ask(sock).status == 200
    assert [record.levelname for record in caplog.records if "client" in record.message] == ["DEBUG"]
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]


@pytest.mark.pins("tls.handshake-timeout")
@pytest.mark.parametrize("sends", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a part"])
def test_a_handshake_that_stalls(loop, sends, caplog):
    caplog.set_level(logging.DEBUG, "fastasgi.error")
    with serving(loop, timeout_tls_handshake=0.2) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
            sock.sendall(sends)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1000) == b""
        until(lambda: any("timeout_tls_handshake" in message for message in caplog.messages), caplog.messages)
        with connected(server) as sock:
            assert ask(sock).status == 200


def test_an_answer_to_an_upload_that_is_refused():
    """413 comes while the client still sends, and it reads it."""
    with serving(limit_request_body=1000) as server, connected(server) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(16384))
        seen = b""
        while data := sock.recv(1 << 16):
            seen += data
        assert seen.startswith(b"HTTP/1.1 413 ")


def test_a_stop_does_not_wait_for_idle_clients_that_do_not_answer():
    """The client never reads, so never says close_notify: no more than the bound of lingering."""
    with contextlib.ExitStack() as stack:
        with serving(timeout_graceful_shutdown=15) as server:
            sock = stack.enter_context(connected(server))
            ask(sock)
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 10


# --- what is wrong at start ---------------------------------------------------------------------------------------


@pytest.mark.pins("tls.startup-errors")
def test_a_wrong_file_ends_the_command_with_one_sentence():
    command = [sys.executable, "-m", "fastasgi", "nowhere:app", "--ssl-certfile", files().text]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert run.returncode == 3
    assert run.stderr.splitlines() == [
        f"ERROR:    ssl_certfile: expected a certificate in PEM form, but {files().text!r} holds no "
        "'-----BEGIN ... CERTIFICATE-----'"
    ]


def test_the_banner_has_an_address_to_click_on():
    command = [sys.executable, "-m", "fastasgi", "test_tls_server:app", "--app-dir", "tests", "--port", "0"]
    command += ["--ssl-certfile", files().cert, "--ssl-keyfile", files().sealed, "--ssl-keyfile-password", PASSWORD]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        for line in iter(child.stderr.readline, ""):
            if "running on" in line:
                break
        child.terminate()
        child.stderr.read()
        assert child.wait(PATIENCE_S) == 0
    assert "running on https://127.0.0.1:" in line


async def test_a_factory_makes_the_context(tmp_path):
    seen = []

    def factory(config, default):
        made = default()
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        seen.append(config.ssl_certfile)
        return made

    options = {"ssl_certfile": files().both, "ssl_context_factory": factory, "lifespan": "off"}
    async with fastasgi.serve(app, port=0, access_log=False, **options) as server:
        old = client_context(ssl.TLSVersion.TLSv1_2)
        port = int(server.url.rpartition(":")[2])
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old, server_hostname="localhost")
    assert seen == [files().both]


async def test_a_factory_may_take_its_certificate_from_elsewhere():
    def factory(config, default):
        with pytest.raises(StartupError, match="ssl_certfile is missing"):
            default()
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(files().both)
        return made

    async with fastasgi.serve(app, port=0, access_log=False, ssl_context_factory=factory, lifespan="off") as server:
        assert server.config.is_ssl
        found = await asyncio.to_thread(lambda: httpx.get(server.url, verify=client_context(), trust_env=False))
        assert found.json()[1]["tls"]["server_cert"] is None
