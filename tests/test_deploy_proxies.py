"""deploy/nginx, deploy/haproxy and deploy/traefik as they are, with other ports and folders, in front of a server with
the options that their pages tell: redirect, TLS, who the client is, uploads, event streams, WebSockets."""

import asyncio
import contextlib
import hashlib
import os
import re
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
import websockets
from deploying import DEPLOY, load_app, options_of, starts, text_of
from proxying import CLIENT, _free_port, _run, _until_listening, program, within
from tls_files import files

import fastasgi

pytestmark = pytest.mark.time_limit(60)
MIB = 1024 * 1024
HOST = "localhost"  # what the certificate is for

@pytest.fixture(scope="module")
def app():
    return load_app()


# What Debian's nginx.conf has around the files of conf.d, and no root.
AROUND = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    gzip on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/conf.d/*.conf;
}}
"""


def replaced(text, changes):
    """The text with each of these replaced; every one is in it."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in it"
        text = text.replace(old, str(new))
    return text


@contextlib.contextmanager
def two_ports():
    """Ports for HTTP and HTTPS, kept free for a program that listens with SO_REUSEPORT."""
    with _free_port() as plain, _free_port() as secure:
        yield plain.getsockname()[1], secure.getsockname()[1]


def options_for(where):
    """The options of a server of deploy/, but for where it listens and for its processes."""
    (start,) = (start for start in starts() if start.where == where)
    left_out = ("app", "host", "port", "bind", "workers", "control_socket", "uds_permissions")
    return {name: value for name, value in start.options.items() if name not in left_out}


@contextlib.asynccontextmanager
async def served(app, where, places):
    """The application served as `where` has it, but at these places; the server and the scopes that it has given."""
    scopes = []

    async def noting(scope, receive, send):
        scopes.append(scope)
        await app(scope, receive, send)

    async with fastasgi.serve(noting, bind=places, lifespan="off", **options_for(where)) as server:
        yield server, scopes


@contextlib.contextmanager
def nginx(folder, changes, upstream):
    """nginx with app.conf, proxy.conf and this upstream; the ports for HTTP and HTTPS."""
    path = program("nginx")
    (folder / "conf.d").mkdir()
    certificates = files()
    with two_ports() as (plain, secure):
        common = {
            "listen 80;": f"listen 127.0.0.1:{plain} reuseport;", "listen [::]:80;": "",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{secure} ssl http2 reuseport;",
            "listen [::]:443 ssl http2;": "",
            "/etc/ssl/app/fullchain.pem": certificates.cert, "/etc/ssl/app/privkey.pem": certificates.key,
            "/etc/nginx/snippets/app-proxy.conf": DEPLOY / "nginx" / "proxy.conf",
        }  # fmt: skip
        (folder / "conf.d" / "app.conf").write_text(replaced(text_of("nginx/app.conf"), common))
        (folder / "conf.d" / "app-upstream.conf").write_text(replaced(text_of(upstream), changes))
        config = folder / "nginx.conf"
        config.write_text(AROUND.format(folder=folder))
        argv = [path, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        with _run(argv, [], folder / "nginx.log") as child:
            for port in (plain, secure):
                _until_listening(("127.0.0.1", port), child)
            yield plain, secure


def browser(port, scheme="https"):
    """A client of the proxy, from an address of its own."""
    context = ssl.create_default_context(cafile=files().ca) if scheme == "https" else False
    transport = httpx.AsyncHTTPTransport(local_address=CLIENT, verify=context)
    return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{HOST}:{port}", timeout=20, trust_env=False)


EVIL = {
    "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "http", "Forwarded": "for=6.6.6.6", "X-Forwarded-Host": "evil",
}  # fmt: skip


async def check_redirect(plain):
    async with browser(plain, "http") as http:
        answer = await within(http.post("/path?x=1", content=b"abc"))
    assert answer.status_code == 308
    assert re.fullmatch(rf"https://{HOST}(:\d+)?/path\?x=1", answer.headers["location"])


async def check_client(http, port):
    for headers in ({}, EVIL):
        answer = await within(http.get("/", headers=headers))
        assert answer.json() == {"client": CLIENT, "scheme": "https", "host": f"{HOST}:{port}"}


async def check_upload(http):
    data = os.urandom(3 * MIB)

    async def pieces():
        for at in range(0, len(data), MIB):
            yield data[at : at + MIB]

    for content in (data, pieces()):
        answer = await within(http.post("/upload", content=content))
        assert answer.json() == {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def status_of_announced(port, path, length):
    """The status of a request that announces a body of this length, before a byte of it has come."""
    context = ssl.create_default_context(cafile=files().ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return status


async def check_events(http):
    """The stream never ends: what is held back would never come."""
    async with http.stream("GET", "/events") as stream:
        events = stream.aiter_bytes()
        assert await within(anext(events)) == b"data: 1\n\n"
        assert await within(anext(events)) == b"data: 2\n\n"


async def check_websocket(port):
    context = ssl.create_default_context(cafile=files().ca)
    async with websockets.connect(
        f"wss://{HOST}:{port}/ws", ssl=context, host="127.0.0.1", local_addr=(CLIENT, 0), proxy=None
    ) as socket_:
        for text in ("héllo", "x" * 100_000):
            await within(socket_.send(text))
            assert await within(socket_.recv()) == text


@pytest.mark.pins("deploy.nginx")
async def test_nginx_before_four_servers(tmp_path, app):
    async with served(app, "systemd/instances/app@.service", ["127.0.0.1:0"] * 4) as (server, scopes):
        ports = [int(url.rpartition(":")[2]) for url in server.urls]
        changes = {f"127.0.0.1:{8001 + index}": f"127.0.0.1:{port}" for index, port in enumerate(ports)}
        with nginx(tmp_path, changes, "nginx/upstream.conf") as (plain, secure):
            await check_redirect(plain)
            async with browser(secure) as http:
                await check_client(http, secure)
                await check_upload(http)
                await check_events(http)
                for _ in range(4):
                    await within(http.get("/health"))
                assert (await within(http.post("/", content=b"x" * 2 * MIB))).status_code == 405, "of the application"
            assert await within(status_of_announced(secure, "/", 101 * MIB)) == 413
            await check_websocket(secure)
    assert {scope["server"][1] for scope in scopes} == set(ports), "all four have their share"
    assert {(scope["client"][0], scope["scheme"]) for scope in scopes} == {(CLIENT, "https"), (CLIENT, "wss")}
    for scope in scopes:  # whatever the client has said
        headers = dict(scope["headers"])
        assert headers[b"x-real-ip"] == headers[b"x-forwarded-for"] == CLIENT.encode()
        assert not {b"forwarded", b"x-forwarded-host"} & set(headers)


@pytest.mark.pins("deploy.nginx")
async def test_nginx_before_a_unix_socket(tmp_path, app):
    path = tmp_path / "app.sock"
    async with served(app, "systemd/notify/app.service", [f"unix:{path}"]) as (_, scopes):
        with nginx(tmp_path, {"unix:/run/app/app.sock": f"unix:{path}"}, "nginx/upstream-unix.conf") as (_, secure):
            async with browser(secure) as http:
                await check_client(http, secure)
            await check_websocket(secure)
    assert [scope["type"] for scope in scopes] == ["http", "http", "websocket"]


@contextlib.contextmanager
def haproxy(folder, changes):
    path = program("haproxy")
    with socket.socket() as plain, socket.socket() as secure:
        for sock in (plain, secure):
            sock.bind(("127.0.0.1", 0))
            sock.listen(64)
        config = folder / "haproxy.cfg"
        config.write_text(replaced(text_of("haproxy/haproxy.cfg"), {
            "bind :80\n": f"bind fd@{plain.fileno()}\n", "bind :443 ": f"bind fd@{secure.fileno()} ",
            "/etc/haproxy/app.pem": files().both, "log /dev/log": "log stderr format raw",
            "maxconn 20000": "maxconn 100", **changes,  # as many descriptors as anybody has
        }))  # fmt: skip
        fds = [plain.fileno(), secure.fileno()]
        with _run([path, "-db", "-f", str(config)], fds, folder / "haproxy.log"):
            yield plain.getsockname()[1], secure.getsockname()[1]


@pytest.mark.pins("deploy.haproxy")
async def test_haproxy_speaks_the_proxy_protocol_to_a_unix_socket(tmp_path, app):
    path = tmp_path / "app.sock"
    async with served(app, "haproxy/app.service.d.conf", [f"unix:{path}"]) as (_, scopes):
        with haproxy(tmp_path, {"unix@/run/app/app.sock": f"unix@{path}"}) as (plain, secure):
            async with browser(secure) as http:
                await check_client(http, secure)
                await check_upload(http)
                await check_events(http)
            await check_redirect(plain)
            await check_websocket(secure)
    assert {scope["client"][0] for scope in scopes if scope["path"] != "/health"} == {CLIENT}
    assert all(scope["client"][1] > 0 for scope in scopes if scope["path"] == "/"), "the port too: of the PROXY header"


def traefik_program():
    """Traefik's path; skips the test where it is not installed."""
    return program("traefik")


@contextlib.contextmanager
def traefik(folder, ports):
    path = traefik_program()
    (folder / "conf.d").mkdir()
    with two_ports() as (plain, secure):
        (folder / "traefik.yaml").write_text(replaced(text_of("traefik/traefik.yaml"), {
            '":80"': f'"127.0.0.1:{plain}"\n    reusePort: true',
            '":443"': f'"127.0.0.1:{secure}"\n    reusePort: true',
            "/etc/traefik/conf.d": folder / "conf.d", "/var/lib/traefik": folder,
            # nobody is asked for a certificate: an address of this machine where nobody listens
            "storage:": "caServer: https://127.0.0.1:9/directory\n      storage:",
        }))  # fmt: skip
        changes = {f"127.0.0.1:{8001 + index}": f"127.0.0.1:{port}" for index, port in enumerate(ports)}
        changes["app.example.com"] = HOST
        (folder / "conf.d" / "app.yaml").write_text(replaced(text_of("traefik/app.yaml"), changes))
        with _run([path, f"--configFile={folder / 'traefik.yaml'}"], [], folder / "traefik.log") as child:
            for port in (plain, secure):
                _until_listening(("127.0.0.1", port), child)
            yield plain, secure


@pytest.mark.slow
@pytest.mark.pins("deploy.traefik")
async def test_traefik_before_four_servers(tmp_path, app):
    traefik_program()
    async with served(app, "systemd/instances/app@.service", ["127.0.0.1:0"] * 4) as (server, scopes):
        ports = [int(url.rpartition(":")[2]) for url in server.urls]
        with traefik(tmp_path, ports) as (plain, secure):
            async with browser(plain, "http") as http:
                while (await within(http.get("/"))).status_code == 404:  # its own routes come a moment later
                    await asyncio.sleep(0.05)
            await check_redirect(plain)
            context = ssl.create_default_context()  # its own certificate, as long as it has no other
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            transport = httpx.AsyncHTTPTransport(local_address=CLIENT, verify=context)
            async with httpx.AsyncClient(
                transport=transport, base_url=f"https://{HOST}:{secure}", timeout=20, trust_env=False
            ) as http:
                while (await within(http.get("/health"))).status_code == 404:  # the files are read a moment later
                    await asyncio.sleep(0.05)
                await check_client(http, secure)
                await check_upload(http)
                await check_events(http)
                for _ in range(8):
                    await within(http.get("/health"))
            async with websockets.connect(
                f"wss://{HOST}:{secure}/ws", ssl=context, host="127.0.0.1", local_addr=(CLIENT, 0), proxy=None
            ) as socket_:
                await within(socket_.send("héllo"))
                assert await within(socket_.recv()) == "héllo"
    ours = [scope for scope in scopes if dict(scope["headers"]).get(b"x-forwarded-for")]
    assert {scope["server"][1] for scope in ours} == set(ports)
    assert {(scope["client"][0], scope["scheme"]) for scope in ours} == {(CLIENT, "https"), (CLIENT, "wss")}
    log = Path(tmp_path, "traefik.log").read_text()
    unexpected = [line for line in log.splitlines() if "ERR" in line and "acme" not in line.lower()]
    assert not unexpected, unexpected


def test_haproxy_accepts_the_file_as_it_is(tmp_path):
    """Its own check, but for the certificate."""
    config = tmp_path / "haproxy.cfg"
    config.write_text(replaced(text_of("haproxy/haproxy.cfg"), {"/etc/haproxy/app.pem": files().both}))
    run = subprocess.run([program("haproxy"), "-c", "-f", str(config)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr + run.stdout
    assert "WARNING" not in run.stderr + run.stdout, run.stderr + run.stdout


def test_options_are_those_of_the_pages():
    assert options_for("systemd/instances/app@.service") == {}, "127.0.0.1 is believed by default"
    assert options_for("haproxy/app.service.d.conf") == options_of(
        ["--proxy-protocol", "--forwarded-allow-ips", "*", "--forwarded-fields", "proto"])  # fmt: skip
