"""deploy/systemd: systemd's own programs read the units, rate what is left of rights, and start the server by a socket.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from deploying import DEPLOY, ROOT, UNITS, only, read_unit, text_of
from process import PATIENCE_S, no_alarm


def tool(name):
    """A program of systemd; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install systemd)")
    return found


def installed(folder, *names, drop_ins=()):
    """Units as they would be in /etc/systemd/system, with a program in the place of the server's that is there."""
    program = folder / "fastasgi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in names:
        target = folder / name.rpartition("/")[2]
        target.write_text(text_of(name).replace("/srv/app/.venv/bin/fastasgi", str(program)))
    for name in drop_ins:
        place = folder / "app.service.d" / name.replace("/", "-")
        place.parent.mkdir(exist_ok=True)
        place.write_text(text_of(name).replace("/srv/app/.venv/bin/fastasgi", str(program)))


FOLDERS = {
    "exec": ["systemd/exec/app.service"],
    "notify": ["systemd/notify/app.service"],
    "socket": ["systemd/socket/app.service", "systemd/socket/app.socket"],
    "instances": ["systemd/instances/app@.service"],
}


def test_every_unit_is_checked():
    assert {name for names in FOLDERS.values() for name in names} == {
        path.relative_to(DEPLOY).as_posix() for path in UNITS}  # fmt: skip


@pytest.mark.pins("deploy.systemd")
@pytest.mark.parametrize("kind", FOLDERS)
def test_systemd_reads_the_units(kind, tmp_path):
    verify = [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no"]
    drop_ins = ["systemd/hardening.conf"] + ["haproxy/app.service.d.conf"] * (kind == "notify")
    installed(tmp_path, *FOLDERS[kind], drop_ins=() if kind == "instances" else drop_ins)
    names = [name.rpartition("/")[2].replace("@", "@8001") for name in FOLDERS[kind]]
    run = subprocess.run([*verify, *names], cwd=tmp_path, capture_output=True, text=True,
                         env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"})  # fmt: skip
    said = [line for line in (run.stderr + run.stdout).splitlines() if str(tmp_path) in line or "app" in line]
    assert (run.returncode, said) == (0, [])


@pytest.mark.pins("deploy.systemd")
def test_systemd_refuses_what_is_wrong(tmp_path):
    """The check above can fail."""
    verify = [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no"]
    installed(tmp_path, "systemd/notify/app.service")
    path = tmp_path / "app.service"
    path.write_text(path.read_text().replace("WatchdogSec=20", "WatchdogSecs=20"))
    run = subprocess.run([*verify, "app.service"], cwd=tmp_path, capture_output=True, text=True,
                         env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"})  # fmt: skip
    assert "WatchdogSecs" in run.stderr


@pytest.mark.pins("deploy.systemd")
def test_little_is_left_to_an_intruder(tmp_path):
    """The overall exposure as systemd counts it, from 0 to 10; 9.2 without the file."""
    analyze = tool("systemd-analyze")
    installed(tmp_path, "systemd/notify/app.service")
    unit = tmp_path / "app.service"
    hardening = text_of("systemd/hardening.conf").partition("[Service]\n")[2]
    unit.write_text(unit.read_text().replace("[Install]", f"{hardening}\n[Install]"))
    command = [analyze, "security", "--offline=yes", "--no-pager", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for app\.service: (\d+\.\d)", run.stdout)
    assert found, run.stdout + run.stderr
    assert float(found[1]) < 2.0, run.stdout
    open_doors = set(re.findall(r"^\S*✗\S* (\w+)=", run.stdout, re.M))
    taken = {name for name, _ in read_unit(text_of("systemd/hardening.conf"))["Service"]}
    # internet and Unix sockets are left; and files that the group may read
    assert taken & open_doors <= {"RestrictAddressFamilies", "UMask"}, "a line that does not do what it is for"


def test_hardening_lets_the_server_do_its_work():
    """What fastasgi needs is not among what is taken: sockets of both kinds, and a folder to write to."""
    service = read_unit(text_of("systemd/hardening.conf"))["Service"]
    families = dict(service)["RestrictAddressFamilies"].split()
    assert set(families) == {"AF_INET", "AF_INET6", "AF_UNIX"}
    assert "MemoryDenyWriteExecute" not in dict(service)
    for name in ("exec", "notify", "socket"):
        assert only(read_unit(text_of(f"systemd/{name}/app.service")), "Service", "RuntimeDirectory")


APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def ask(path):
    """The answer to one request over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := client.recv(65536):
            data += piece
    return data


def until(child, log, is_so):
    """Wait for something that the child does; it must not end meanwhile."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, log.read_text()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.01)
            pytest.fail(log.read_text())


@pytest.mark.pins("deploy.systemd")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_first_connection_starts_the_server(tmp_path, workers, monkeypatch):
    """systemd-socket-activate holds the socket, and starts the server when a client comes, who gets its answer; the
    socket's name is that of app.socket, the option that of the service beside it."""
    activate = tool("systemd-socket-activate")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.py").write_text(APP)
    name = only(read_unit(text_of("systemd/socket/app.socket")), "Socket", "FileDescriptorName")
    log = tmp_path / "log"
    with log.open("wb") as output, no_alarm():
        child = subprocess.Popen(
            [activate, "--listen", str(tmp_path / "app.sock"), "--fdname", name, "--setenv", f"PYTHONPATH={ROOT}",
             sys.executable, "-m", "fastasgi", "main:app", "--lifespan", "off", "--bind", f"systemd:{name}",
             "--workers", workers, "--control-socket", "none"],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        until(child, log, (tmp_path / "app.sock").exists)
        assert b"fastasgi" not in log.read_bytes().replace(str(ROOT).encode(), b""), "nobody has asked yet"
        answer = ask("app.sock")
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"ok"), answer
        assert ask("app.sock").endswith(b"ok")
        until(child, log, lambda: "fastasgi running on unix:" in log.read_text())  # with all of its workers
        child.send_signal(signal.SIGTERM)  # it is the server by now
        assert child.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        child.kill()
        child.wait()
    assert (tmp_path / "app.sock").exists(), "the socket is systemd's"
