"""supervisor, child, starting: whole processes. Workers start, serve, are replaced and end; nobody is left behind."""

import contextlib
import os
import re
import signal
import socket

import pytest
from supervised import READY, is_alive, running_workers, search_path, until_gone, until_reaped
from waiting import until

from fastasgi.control import Control

START = pytest.mark.parametrize("start", ["fork", "spawn"])
QUICK = (
    "--timeout-graceful-shutdown", "0.2", "--timeout-disconnect-grace", "0.2", "--timeout-lifespan-shutdown", "0.2",
)  # fmt: skip


def pid_of(answer):
    status, body = answer
    assert status == 200
    return int(body.split()[1])


# --- start and end ------------------------------------------------------------------------------------------------


@START
@pytest.mark.pins("workers.start-and-stop", "process.exit-codes")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_start_serve_and_end(start, number):
    with running_workers("numbered", FASTASGI_WORKER_START=start) as server:
        workers = server.pids()
        assert len(workers) == 2
        assert pid_of(server.ask()) in workers
        server.signal(number)
        assert server.wait() == 0, server.log()
        assert not any(is_alive(pid) for pid in workers)
        assert not server.is_listening()
        log = server.log()
        assert log.count(READY) == 1, "said once, not by each worker"
        assert log.count("Application shutdown complete.") == 2
        assert "Traceback" not in log and "ERROR" not in log


@pytest.mark.pins("workers.start-failure", "process.exit-codes", "process.startup-failure")
@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("nowhere:app", "no module named 'nowhere'"),
        ("net_apps:failing", "app failed to start: no database today"),
        ("net_apps:dies_at_startup", "a worker was killed by SIGKILL while it started"),
    ],
)
def test_a_worker_that_cannot_start_ends_the_start(app, says):
    with running_workers(app, workers=8, is_ready=False) as server:
        assert server.wait() == 3
        assert server.log().count(says) == 1, "the reason is printed once"


@pytest.mark.pins("workers.start-failure")
def test_a_start_has_a_limit_of_its_own():
    argv = ("--timeout-worker-startup", "1.5")
    with running_workers("stuck_at_startup", *argv, is_ready=False) as server:
        assert server.wait() == 3
        assert "a worker was not ready within 1.5 s (timeout_worker_startup)" in server.log()
        assert "in stuck_at_startup" in server.log(), "where it is stuck"


@pytest.mark.pins("workers.stop-bounded", "process.second-signal")
def test_a_second_signal_cancels_and_a_third_kills():
    slow = ("--timeout-graceful-shutdown", "60", "--timeout-disconnect-grace", "60")
    with running_workers("main", *slow) as server:
        client = server.connect()
        client.send(b"GET /patient HTTP/1.1\r\nHost: x\r\n\r\n")
        client.until(b"data: hello")
        server.signal(signal.SIGTERM)
        server.until_logged("Shutting down 2 workers")
        server.signal(signal.SIGTERM)
        server.until_logged("Ending at once")
        server.until_logged("event: cancelled")
        server.signal(signal.SIGTERM)
        assert server.wait(15) == 0


@pytest.mark.pins("workers.stop-bounded")
def test_a_worker_that_does_not_end_is_killed():
    """Its loop is blocked: it hears nothing."""
    argv = (*QUICK, "--timeout-worker-healthcheck", "none")
    with running_workers("main", *argv) as server:
        client = server.connect()
        client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        blocked = int(re.search(r"event: blocks (\d+)", server.until_logged("event: blocks "))[1])
        others = [pid for pid in server.pids() if pid != blocked]
        server.signal(signal.SIGQUIT)
        until_reaped(others)
        server.signal(signal.SIGTERM)
        server.until_logged("Ending at once", 2)
        server.signal(signal.SIGTERM)
        assert server.wait(15) == 0
        assert "Killing 1 worker\n" in server.log()


@pytest.mark.pins("workers.stop-bounded")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_cuts_the_applications_shutdown_short(number):
    with running_workers("stuck_at_shutdown", "--timeout-lifespan-shutdown", "60") as server:
        server.signal(number)
        server.until_logged("event: stuck", 2)
        server.signal(number)
        assert server.wait(15) == 0
        assert server.log().count("cancelling the application's shutdown") == 2


@pytest.mark.pins("workers.pre-stop")
def test_serving_on_before_the_drain():
    with running_workers("numbered", "--drain-delay", "1") as server:
        server.signal(signal.SIGTERM)
        server.until_logged("Serving for another 1 s (drain_delay)", 2)
        assert pid_of(server.ask()) in server.pids()
        assert server.wait() == 0


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CLOSE_1012 = b"\x88\x02\x03\xf4"
MASKED_CLOSE_1012 = b"\x88\x82\0\0\0\0\x03\xf4"
UPLOAD = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo"


@pytest.mark.pins("workers.drain", "websocket.shutdown")
@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_the_end_with_everything_open(over):
    """An idle connection, a WebSocket, an upload that goes on, one that does not, an event stream, a stopped reader."""
    argv = ("--drain-delay", "0.2", "--timeout-graceful-shutdown", "1.5", "--timeout-disconnect-grace", "0.3")
    with running_workers("main", *argv, over=over) as server:
        idle, wire, upload, stuck, stream, reader = (server.connect() for _ in range(6))
        assert idle.get().status == 200
        wire.send(HANDSHAKE)
        wire.until(b"\r\n\r\n")
        upload.send(UPLOAD)
        stuck.send(UPLOAD)
        stream.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        stream.until(b"data: hello")
        reader.send(b"GET /download HTTP/1.1\r\nHost: x\r\n\r\n")
        reader.until(b"\r\n\r\n")
        server.until_logged("event: slow begins", 2)
        server.signal(signal.SIGTERM)
        wire.until(CLOSE_1012)
        wire.send(MASKED_CLOSE_1012)
        assert idle.rest() == b""
        answer = upload.answer(b"dy", "POST")
        assert (answer.status, answer.announces_close) == (200, True)
        until(lambda: not server.is_listening(), "it accepts no more")  # while others still run
        assert server.child.poll() is None
        assert not stream.rest().endswith(b"0\r\n\r\n"), "a stream that was cut does not look whole"
        assert server.wait() == 0
        assert_in_order(server.log())


def assert_in_order(log):
    """What that end has written, of two workers."""
    told, cancelled = (
        next(at for at, line in enumerate(log.splitlines()) if words in line and "GET /stream" in line)
        for words in ("telling them to end", "cancelling them")
    )
    wanted = [
        at_line(log, "Serving for another 0.2 s"), at_line(log, "event: slow ends"), told,
        at_line(log, "event: disconnect"), cancelled, at_line(log, "event: cancelled"),
        at_line(log, "Finished supervisor process"),
    ]  # fmt: skip
    assert wanted == sorted(wanted), log
    assert at_line(log, "Serving for another 0.2 s") < at_line(log, "event: websocket 1012") < told
    for name, times in (("GET /stream", 2), ("GET /download", 2), ("POST /slow", 1)):
        assert log.count(name) == times, "told to end, and what then still ran cancelled"
    assert log.count("event: shutdown") == 2
    assert "ERROR" not in log and "Traceback" not in log


def at_line(log, text):
    """The number of the first line with this."""
    return next(at for at, line in enumerate(log.splitlines()) if text in line)


# --- death --------------------------------------------------------------------------------------------------------


@START
@pytest.mark.pins("workers.replaced")
def test_a_worker_that_dies_is_replaced(start):
    with running_workers("deadly", FASTASGI_WORKER_START=start) as server:
        first = server.pids()
        os.kill(first[0], signal.SIGKILL)
        server.until_logged(f"worker [{first[0]}] was killed by SIGKILL: replacing it")
        client = server.connect()
        client.send(b"GET /segfault HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.rest() == b""
        server.until_logged("was killed by SIGSEGV: replacing it")
        log = server.until_logged("Application startup complete.", 4)
        assert server.ask()[0] == 200
        killed = {int(pid) for pid in re.findall(r"worker \[(\d+)\] was killed", log)}
        assert len(killed) == 2, "the replacement of the first may be the second"
        assert first[0] in killed
        assert len(server.pids()) == 2
        assert not killed & set(server.pids())
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.pins("workers.replaced")
def test_a_worker_that_ends_by_itself_is_replaced():
    with running_workers("deadly") as server:
        client = server.connect()
        client.send(b"GET /exit HTTP/1.1\r\nHost: x\r\n\r\n")
        client.rest()
        server.until_logged("ended with exit code 7: replacing it")
        one = server.pids()[0]
        os.kill(one, signal.SIGTERM)
        server.until_logged(f"worker [{one}] ended with exit code 0: replacing it")
        server.until_logged("Application startup complete.", 4)
        assert server.ask()[0] == 200


@pytest.mark.pins("workers.hung")
def test_a_blocked_and_a_stopped_worker_are_replaced_and_the_first_says_where():
    argv = ("--timeout-worker-healthcheck", "2.5", *QUICK)
    with running_workers("main", *argv) as server:
        client = server.connect()
        client.send(b"GET /hang?me HTTP/1.1\r\nHost: x\r\n\r\n")
        log = server.until_logged("event: blocks ")
        blocked = int(re.search(r"event: blocks (\d+)", log)[1])
        (other,) = set(server.pids()) - {blocked}
        os.kill(other, signal.SIGSTOP)
        log = server.until_logged("(hung): replacing it", 2)
        assert f"worker [{blocked}] gave no sign of life for 2.5 s" in log
        assert re.search(r'File ".*net_apps.py", line \d+ in main', log)
        assert "running: GET /hang of 127.0.0.1:" in log
        assert f"worker [{other}] gave no sign of life for 2.5 s (timeout_worker_healthcheck); it is stopped" in log
        server.until_logged("Application startup complete.", 4)
        assert server.ask("/")[0] == 200


@pytest.mark.pins("workers.no-orphans")
def test_workers_end_with_a_supervisor_that_was_killed():
    """Also one that is blocked, which cannot notice: the kernel ends it, when the drain's bounds have passed."""
    with (
        running_workers("main", "--loop", "asyncio", *QUICK, FASTASGI_WORKER_START="spawn") as spawned,
        running_workers("main", "--loop", "uvloop", *QUICK, FASTASGI_WORKER_START="fork") as forked,
    ):
        left = []
        for server in (spawned, forked):  # both wait for the same time, at once
            left += server.pids()
            server.connect().send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            server.until_logged("event: blocks")
            server.signal(signal.SIGKILL)
            server.wait()
        until_gone(left)
        for server in (spawned, forked):
            assert server.log().count("the supervisor of worker") == 1, "the blocked one could not say so"
            assert server.log().count("event: shutdown") == 1, "and the other one has drained"


@pytest.mark.pins("workers.crash-loop", "process.exit-codes")
@pytest.mark.time_limit(60)
@pytest.mark.slow
def test_a_crash_loop_ends_the_server():
    with running_workers("dies_soon") as server:
        assert server.wait(45) == 1
        assert "giving up (stop_on_crash_loop)" in server.log()


@pytest.mark.pins("workers.crash-loop")
@pytest.mark.time_limit(60)
@pytest.mark.slow
def test_a_crash_loop_goes_on_where_it_is_to():
    with running_workers("dies_soon", "--no-stop-on-crash-loop") as server:
        server.until_logged("workers end soon after their start, again and again; trying on", patience_s=45)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


# --- replacing ----------------------------------------------------------------------------------------------------


@pytest.mark.pins("workers.recycled")
@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("--limit-max-requests", "5"), "limit_max_requests of 5 reached"),
        (("--worker-lifetime", "0.5"), "older than 0.5 s (worker_lifetime)"),
        (("--limit-worker-rss", "1000000"), "above 1000000 B (limit_worker_rss)"),
    ],
)
def test_a_worn_worker_is_replaced_without_a_gap(argv, why):
    with running_workers("numbered", *argv) as server:
        first = set(server.pids())
        client = server.connect()
        while why not in server.log():
            client = client if not client.get("/1").announces_close else server.connect()
        while first & set(server.pids()):
            client = client if not client.get("/1").announces_close else server.connect()
        log = server.log()
        assert log.index("replacing it") < log.index("Shutting down"), "the replacement comes first"
        assert "ERROR" not in log


@pytest.mark.pins("workers.scale")
def test_one_more_and_one_less(tmp_path):
    with running_workers("numbered", workers=1, is_ready=False) as server:
        # one worker alone has no supervisor
        server.until_logged(READY)
        assert server.pids() == []
    path = str(tmp_path / "control")
    with running_workers("numbered", "--control-socket", path, workers=2) as server:
        first = server.pids()
        server.signal(signal.SIGTTIN)
        server.until_logged("3 workers from now on, before 2")
        # Until the supervisor knows of that, the third is the one that is let go.
        until(lambda: states(path) == 3 * ["ready"], lambda: f"three are ready: {states(path)}")
        assert set(first) < set(server.pids())
        server.signal(signal.SIGTTOU)
        server.until_logged("2 workers from now on, before 3")
        server.signal(signal.SIGTTOU)
        server.until_logged("1 worker from now on, before 2")
        server.signal(signal.SIGTTOU)  # and no less
        server.until_logged("Finished server process", 2)
        until_gone(first)
        assert pid_of(server.ask()) not in first


# --- other signals ------------------------------------------------------------------------------------------------


@pytest.mark.pins("workers.reopen-logs")
def test_log_files_are_reopened(tmp_path):
    (tmp_path / "log.ini").write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=file\n"
        f"[handler_file]\nclass=FileHandler\nargs=('{tmp_path}/server.log',)\n"
    )
    with running_workers("numbered", "--log-config", str(tmp_path / "log.ini"), is_ready=False) as server:
        written = tmp_path / "server.log"
        until(lambda: written.exists() and READY in written.read_text(), "all are ready")
        written.rename(tmp_path / "old.log")
        server.signal(signal.SIGUSR1)
        until(written.exists, "a new file")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert written.read_text().count("Finished server process") == 2
        assert "Finished" not in (tmp_path / "old.log").read_text()


@pytest.mark.pins("workers.upgrade")
def test_a_successor_takes_over_the_sockets(tmp_path):
    """The process is the test's no more when its successor has started: it writes its process id."""
    steering = str(tmp_path / "control.sock")
    with running_workers("numbered", "--control-socket", steering) as server:
        first = server.pids()
        client = server.connect()
        assert client.get("/1").status == 200
        server.signal(signal.SIGUSR2)
        log = server.until_logged(READY, 2)
        successor = int(re.search(r"successor, supervisor process \[(\d+)\]", log)[1])
        try:
            server.until_logged("Shutting down", 3)  # the old supervisor and its two workers know of the drain
            assert client.get("/2").announces_close, "the old one lingers for requests that are on their way"
            assert server.wait() == 0
            until_gone(first)
            assert pid_of(server.ask()) not in first
            assert status(steering)["pid"] == successor, "it has taken over the control socket as well"
        finally:
            os.kill(successor, signal.SIGTERM)
            until_gone([successor])
        assert not server.is_listening()


def status(path):
    control = Control(path)
    try:
        return control.ask("status")
    finally:
        control.close()


def states(path):
    return [worker["state"] for worker in status(path)["workers"]]


@pytest.mark.pins("workers.upgrade")
def test_a_successor_that_does_not_start_leaves_all_as_it_is(tmp_path):
    (tmp_path / "breaking.py").write_text("from net_apps import numbered\n")
    with running_workers("breaking:numbered", folder=tmp_path, PYTHONPATH=search_path(tmp_path)) as server:
        (tmp_path / "breaking.py").write_text("nonsense\n")
        server.signal(signal.SIGUSR2)
        server.until_logged("the successor did not start (exit code 3): going on")
        assert pid_of(server.ask()) in server.pids()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.pins("workers.no-orphans")
def test_a_worker_inherits_nothing_of_its_siblings():
    """Else the end of one would not be seen while another lives."""
    with running_workers("numbered", workers=3) as server:
        workers = server.pids()
        assert len(workers) == 3
        kinds = until(lambda: alike(workers), lambda: f"all hold the same open: {list(map(open_kinds, workers))}")
        assert sum("socket" in kind for kind in kinds) >= 2, "what it listens on, and its link"


def alike(pids):
    """What each of them holds open, if it is the same."""
    first, *others = map(open_kinds, pids)
    return first if all(other == first for other in others) else None


def open_kinds(pid):
    """What the process holds open, sorted and without numbers; what it closes meanwhile is left out.

    One that starts looks through /proc for a moment, so that two that hold the same may differ.
    """
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return tuple(sorted(re.sub(r"\d+", "", link) for link in links))


def test_a_client_in_the_backlog_is_served_by_the_next(tmp_path):
    """A connection made before any worker was ready."""
    with running_workers("numbered", is_ready=False) as server:
        with socket.create_connection(server.address, 20) as early:
            early.sendall(b"GET /7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: early.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ") and b"\r\n\r\n7 " in answer
