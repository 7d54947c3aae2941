"""Real proxies in front of a server of the test: nginx and HAProxy, on the loopback, without root.

`nginx(folder, upstream, settings)` and `haproxy(folder, upstream, ...)` run one for the length of a block and give the
address on which it takes clients. `CLIENT` is the address from which `client()` connects: on the loopback too, but
not that of the proxy, so that the two can be told apart.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

CLIENT = "127.0.0.5"
PATIENCE_S = 20.0
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", os.path.dirname(sys.executable)])

NGINX = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        "" "";
    }}
    upstream app {{
        server {upstream};
        keepalive 8;
    }}
    server {{
        listen {host}:{port} reuseport;
        location / {{
            proxy_pass http://app;
            {settings}
        }}
    }}
}}
"""

# What docs/proxies.md recommends.
NGINX_SETTINGS = """\
proxy_http_version 1.1;
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto https;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
proxy_buffering off;
"""

# What many have: HTTP/1.0 to the application, a connection for each request, responses buffered.
NGINX_OLD = """\
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto https;
"""

HAPROXY = """\
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    timeout tunnel 20s
    option abortonclose
frontend web
    bind fd@{fd}
    {settings}
    default_backend app
backend app
    {backend}
    server app1 {upstream}
"""

HAPROXY_SETTINGS = """\
http-request set-header X-Forwarded-Proto https
    http-request del-header Forwarded
    option forwardfor
"""


def program(name: str) -> str:
    """The path of a proxy; skips the test where it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextlib.contextmanager
def _front():
    """A listening socket for the proxy to inherit."""
    with socket.socket() as front:
        front.bind(("127.0.0.1", 0))
        front.listen(128)
        yield front


def _free_port() -> socket.socket:
    """A port that nobody else gets as long as this socket is open; a program may listen there with `reuseport`."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


def _until_listening(address: tuple[str, int], child: subprocess.Popen) -> None:
    """Wait for the first connection that is taken; each try waits a little for the program to end instead."""
    for _ in range(round(PATIENCE_S / 0.01)):
        with socket.socket() as trying:
            if trying.connect_ex(address) == 0:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.01)
            return
    raise AssertionError(f"nobody listens on {address}")


@contextlib.contextmanager
def _run(argv: list[str], fds: list[int], log: Path):
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield child
        assert child.poll() is None, log.read_text(errors="replace")
    except BaseException:
        print(log.read_text(errors="replace"))
        raise
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def nginx(folder: Path, upstream: str, settings: str = NGINX_SETTINGS):
    """nginx in front of `upstream` (host:port, or unix:path)."""
    path = program("nginx")
    with _free_port() as kept:
        host, port = kept.getsockname()
        config = folder / "nginx.conf"
        config.write_text(
            NGINX.format(folder=folder, upstream=upstream, host=host, port=port, settings=settings)
        )
        argv = [path, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        with _run(argv, [], folder / "nginx.log") as child:
            _until_listening((host, port), child)
            yield host, port


@contextlib.contextmanager
def haproxy(
    folder: Path, upstream: str, settings: str = HAPROXY_SETTINGS, *, mode="http", backend="", more=""
):
    """HAProxy in front of `upstream`; `more` are words of its `server` line."""
    path = program("haproxy")
    with _front() as front:
        config = folder / "haproxy.cfg"
        config.write_text(
            HAPROXY.format(
                mode=mode,
                fd=front.fileno(),
                settings=settings,
                backend=backend,
                upstream=f"{upstream.replace('unix:', 'unix@')} {more}",
            )
        )
        with _run([path, "-db", "-f", str(config)], [front.fileno()], folder / "haproxy.log"):
            yield front.getsockname()


PROXIES = {"nginx": nginx, "haproxy": haproxy}


@contextlib.asynccontextmanager
async def client(address: tuple[str, int]):
    """An HTTP client of the proxy, from an address of its own; it keeps its connection."""
    transport = httpx.AsyncHTTPTransport(local_address=CLIENT)
    url = f"http://{address[0]}:{address[1]}"
    async with httpx.AsyncClient(
        transport=transport, base_url=url, timeout=PATIENCE_S, trust_env=False
    ) as made:
        yield made


async def within(awaitable):
    """Wait, with a bound."""
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable
