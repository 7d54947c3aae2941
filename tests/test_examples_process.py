"""The examples that are about the process: Django, logs, metrics, sets of options, certificates, load."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import httpx
import pytest
from example_sites import EXAMPLES, ROOT, client_of, served
from frameworks.serving import Lines
from process import PATIENCE_S, no_alarm, running
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

import fastasgi
from fastasgi.options import FIELDS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are started as on Unix")


def url_of(server):
    """Where a process listens."""
    return f"http://127.0.0.1:{server.address[1]}"


def environment(**changes):
    """Of a program that is started from the root of a checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


# --- Django ---------------------------------------------------------------------------------------------------------


def test_django():
    with running("examples.with_django:application") as server:
        with client_of(url_of(server)) as client:
            page = client.get("/").text
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
            assert client.post("/", data={"name": "ada"}).status_code == 403, "without the token"
            answer = client.post("/", data={"name": "ada", "csrfmiddlewaretoken": token}, follow_redirects=True)
            assert "<h1>Hello ada</h1>" in answer.text
            assert client.get("/sleep").json() == {"slept": True, "https": False}
            assert client.get("/numbers/1000").text.split()[-1] == "999"
            style = re.search(r'href="([^"]+\.css)"', page)[1]
            assert client.get(style).content == (EXAMPLES / "static" / "style.css").read_bytes()
            assert client.get("/static/nothing.css").status_code == 404
            assert client.get("/", headers={"host": "evil.test"}).status_code == 400
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "ERROR" not in server.log()


# --- logs -----------------------------------------------------------------------------------------------------------

LOG_OPTIONS = [
    "--log-config", "examples/structured_logs.json", "--log-format", "json", "--request-id-header", "X-Request-ID",
    "--access-log-format", "request_id client method path query status duration bytes user_agent",
]  # fmt: skip


def test_structured_logs():
    """Every line is JSON, and the lines of a request have its id, errors of the server's log too."""
    with running("examples.structured_logs:app", *LOG_OPTIONS) as server:
        with client_of(url_of(server), headers={"user-agent": 'a "quoted" one'}) as client:
            sold = client.post("/orders/tea?count=2", headers={"x-user": "ada", "x-request-id": "mine"})
            assert sold.json()["request"] == sold.headers["x-request-id"] == "mine"
            refused = client.post("/orders/coffee", headers={"x-user": "bob"})
            failed = client.get("/prices/coffee")
            assert (refused.status_code, failed.status_code) == (409, 500)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        lines = [json.loads(line) for line in server.log().splitlines()]
    by_id = {}
    for line in lines:
        assert {"timestamp", "level", "logger", "message"} <= set(line)
        by_id.setdefault(line.get("request_id"), []).append(line)

    app, access = by_id.pop("mine")
    assert [app[name] for name in ("logger", "message", "item", "count", "who")] == ["shop", "sold", "tea", 2, "ada"]
    assert access["logger"] == "fastasgi.access"
    assert [access[name] for name in ("method", "path", "query", "status")] == ["POST", "/orders/tea", "count=2", 200]
    assert access["user_agent"] == 'a "quoted" one'
    assert access["bytes"] > 0 and access["duration"] > 0

    app, access = by_id.pop(refused.headers["x-request-id"])
    assert [app["level"], app["left"], app["who"], access["status"]] == ["WARNING", 0, "bob", 409]

    lines = {line["logger"]: line for line in by_id.pop(failed.headers["x-request-id"])}
    assert set(lines) == {"shop", "fastasgi.error", "fastasgi.access"}
    assert lines["shop"]["who"] == "nobody", "from a thread, in the same context"
    assert lines["fastasgi.error"]["exception"]["type"] == "KeyError"
    assert "in price" in lines["fastasgi.error"]["exception"]["traceback"]

    assert set(by_id) == {None}
    assert any("running on" in line["message"] for line in by_id[None])


# --- metrics --------------------------------------------------------------------------------------------------------


def figures(url):
    """All figures, by name and labels."""
    with client_of(url) as client:
        text = client.get("/metrics").text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def worker_of(url):
    """Which worker takes the next connection."""
    with client_of(url) as client:
        return client.get("/worker").json()["pid"]


def test_metrics_add_up_over_workers(tmp_path):
    """Also over those that have ended, one of them in the middle of a request."""
    with running("examples.metrics:app", "--workers", "2", PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as server:
        url = url_of(server)
        seen = set()
        until(lambda: seen.add(worker_of(url)) or len(seen) == 2, "both workers answer")
        for number in range(10):
            with client_of(url) as client:
                client.post("/orders/tea")
                client.post(f"/orders/nothing-{number}")
                client.get(f"/nowhere/{number}")
        found = figures(url)
        assert found["shop_orders_total", "tea"] == 10
        assert found["http_requests_total", "/orders/{item}", "200", "POST"] == 10
        assert found["http_requests_total", "/orders/{item}", "404", "POST"] == 10
        assert found["http_requests_total", "404", "GET", "none"] == 10, "no path of a client's own becomes a name"
        assert found["http_request_seconds_count", "/orders/{item}", "POST"] == 20
        assert found["http_requests_running",] == 0
        os.kill(seen.pop(), signal.SIGKILL)
        until(lambda: worker_of(url) not in seen, "another worker has come")
        assert figures(url)["shop_orders_total", "tea"] == 10
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


DIED = """
import os
from examples import metrics

pid = os.fork()
metrics.RUNNING.inc(1 if pid == 0 else 5)
metrics.ORDERS.labels("tea").inc()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print(metrics.metrics().body.decode())
metrics.forget_ended_workers(metrics.FOLDER)
print(metrics.metrics().body.decode())
"""


def test_metrics_forget_what_ran_in_a_worker_that_died(tmp_path):
    """But not what it counted."""
    given = environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", DIED], cwd=ROOT, env=given, capture_output=True, text=True)
    running = re.findall(r"^http_requests_running (.*)$", done.stdout, re.M)
    assert running == ["6.0", "5.0"], done.stderr
    assert done.stdout.count('\nshop_orders_total{item="tea"} 2.0\n') == 2


# --- sets of options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["production", "websocket"])
def test_option_sets(name, monkeypatch):
    """Every key is an option, no value is the default's twin, and the server starts with them."""
    from examples.option_sets import SETS

    options = dict(SETS[name])
    assert set(options) <= set(FIELDS)
    fastasgi.Config(**{**options, "log_config": None})
    with no_alarm():
        child = subprocess.Popen(
            [sys.executable, "examples/option_sets.py", name],
            cwd=ROOT,
            env=environment(PORT="0", WEB_CONCURRENCY="1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    lines = Lines(child.stderr)
    try:
        url = lines.wait(r"running on (http://127\.0\.0\.1:\d+)")[1]
        with client_of(url) as client:
            if name == "production":
                answer = client.get("/notes", headers={"x-request-id": "mine"})
                assert answer.headers["x-request-id"] == "mine"
                assert "server" not in answer.headers
            else:
                assert client.get("/names").json() == []
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE_S) == 0
    finally:
        child.kill()
        child.wait()
        lines.close()


# --- mutual TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """What the README's commands make."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("mutual")
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8").partition("\n## mutual_tls.py\n")[2]
    commands = re.search(r"^```sh\n(mkdir.*?)^```$", text, re.M | re.S)[1]
    done = subprocess.run(["sh", "-ec", commands], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    if "unknown option" in done.stderr.lower():
        pytest.skip(f"openssl is too old for -CA, -noenc: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return folder / "certs"


def test_mutual_tls(certificates):
    from examples.mutual_tls_client import fetch

    options = {"ssl_certfile": certificates / "server.pem", "ssl_keyfile": certificates / "server.key"}
    ours = str(certificates / "ca.pem")
    with fastasgi.serve_in_thread(
        "examples.mutual_tls:app", port=0, **options, ssl_ca_certs=ours, ssl_cert_reqs="CERT_REQUIRED"
    ) as server:

        def ask(path, name):
            cert, key = (str(certificates / f"{name}.{kind}") for kind in ("pem", "key"))
            return fetch(server.url + path, ours, cert, key)

        assert ask("/accounts", "ada").json() == ["1001", "1002"]
        refused = ask("/accounts", "bob")
        assert (refused.status_code, refused.json()["detail"]) == (403, "CN=bob may not see the accounts")
        assert ask("/whoami", "bob").json() == {"name": "CN=bob"}
        with pytest.raises(httpx.TransportError):
            fetch(server.url + "/whoami", ours, None, None)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(server.url + "/whoami", str(certificates / "ada.pem"), None, str(certificates / "ada.key"))


def test_mutual_tls_without_the_option():
    with served("examples.mutual_tls:app") as (_, client):
        assert client.get("/whoami").status_code == 401


# --- load -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def many_files():
    """This process may have enough connections."""
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3000
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"only {hard} files may be open")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def load_test(url, *argv):
    """Run the script."""
    command = [sys.executable, "examples/load_test.py", url, *argv]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)


def test_load_of_a_thousand(many_files):
    with served("examples.demo:app") as (server, _):
        done = load_test(server.url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("1000 right answers in ")


def test_load_test_sees_what_is_wrong():
    """An application that gives each the answer of another, and one that is missing."""
    async def mixed_up(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"item_id": 7, "q": "tea 7"}'})

    with served(mixed_up, lifespan="off") as (server, _):
        done = load_test(server.url, "--requests", "10", "--connections", "3")
    assert done.returncode == 1
    assert done.stdout.startswith("1 right answers in ")
    assert "9 times: the answer to another request" in done.stdout
    done = load_test(server.url, "--requests", "2")
    assert done.returncode == 1
    assert "2 times: ClientConnectorError" in done.stdout
