"""Plans of a load as JSON, and `python -m fastasgi.bench.http`."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the load client needs epoll", allow_module_level=True)

from http_load import GET, HELLO, NONCE, PATIENCE_S, answer, plan, serving

from fastasgi.bench.http import Exchange, Plan, Result, Target, main

ROOT = Path(__file__).resolve().parents[1]
ASK = f"GET /?n={NONCE} HTTP/1.1\r\n\r\n".encode()
TOLD = NONCE.encode()


def test_plan_is_a_line_and_back():
    plain = Plan(exchanges=[Exchange(GET)])
    full = Plan(
        target=Target(uds="/run/x"), exchanges=[Exchange(ASK, TOLD), Exchange(GET, 7)], connections=2, seconds=1,
        warm_up_s=0.5, rate=10.5, status=201, fields=[("a", "b")], nonce=NONCE, stall_s=3, connect_s=4, wait=True,
        may_reconnect=True, core=0,
    )  # fmt: skip
    for one in (plain, full):
        line = one.as_line()
        assert "\n" not in line
        assert Plan.from_line(line) == one
    assert json.loads(plain.as_line())["host"] == "127.0.0.1"
    least = json.dumps({"exchanges": [{"request": base64.b64encode(GET).decode()}]})
    assert Plan.from_line(least) == plain


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"conections": 1}, "conections"),
        ({"connections": "1"}, "'connections', got '1'"),
        ({"connections": 0}, "expected connections"),
        ({"exchanges": []}, "expected connections and exchanges"),
        ({"exchanges": [{}]}, "expected the keys"),
        ({"exchanges": [{"request": "%"}]}, "expected base64"),
        ({"exchanges": [{"request": 5}]}, "expected base64"),
        ({"exchanges": ["x"]}, "expected an object"),
        ({"rate": 0}, "a rate above 0"),
        ({"seconds": -1}, "expected seconds"),
        ({"fields": ["abc"]}, "too many values"),
        ({"target": {}}, "target"),
    ],
)
def test_plan_that_cannot_be_meant(change, says):
    data = json.loads(Plan(exchanges=[Exchange(GET)]).as_line()) | change
    with pytest.raises(ValueError, match=re.escape(says)):
        Plan.from_line(json.dumps(data))


def command(*words, given=None):
    return subprocess.run(
        [sys.executable, "-m", "fastasgi.bench.http", *words],
        input=given, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S,
    )  # fmt: skip


def test_command_runs_a_plan():
    with serving() as server:
        line = plan(server, connections=2, warm_up_s=0.05, wait=True).as_line()
        done = command("-", given=f"{line}\n\n")
        idle = command("-", given=f"{line}\n")
    assert done.stderr == "" and done.returncode == 0
    ready, line = done.stdout.splitlines()
    assert ready == "ready"
    result = Result.from_line(line)
    assert 0 < result.answers < len(server.requests)
    assert json.loads(line)["rate"] == pytest.approx(result.rate)
    assert (idle.returncode, idle.stdout) == (0, "ready\n")


def url_of(server):
    return f"http://127.0.0.1:{server.target.port}"


def test_command_learns_what_must_come(capsys):
    answers = iter(range(10**9))
    cases = {"content": b"a".upper, "length": lambda: b"%09d" % next(answers), "framing": lambda: bytes(next(answers))}
    for checked, body in cases.items():
        with serving(lambda number, request, body=body: answer(body())) as server:
            assert main([f"{url_of(server)}/a?b", "--connections", "2", "--seconds", "0.02"]) == 0
        assert json.loads(capsys.readouterr().out)["checked"] == checked
    assert server.requests[0] == f"GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:{server.target.port}\r\n\r\n".encode()
    assert set(server.requests) == {server.requests[0]}


def test_command_asks_what_it_is_told(capsys, tmp_path):
    words = ["--method", "POST", "--header", "Host: x", "--header", "A: b", "--body-size", "5", "--status", "201"]
    words += ["--rate", "100", "--seconds", "0.05", "--core", "0", "--stall", "5", "--uds", str(tmp_path / "s")]
    with serving(lambda number, request: answer(status="201 Created"), uds=str(tmp_path / "s")) as server:
        assert main(["http://ignored", *words]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == 5
    wanted = b"POST / HTTP/1.1\r\nHost: x\r\nA: b\r\nContent-Length: 5\r\n\r\n\x00\x01\x02\x03\x04"
    assert set(server.requests) == {wanted}


def test_command_says_what_was_wrong(capsys):
    with serving(lambda number, request: answer(HELLO if len(server.requests) < 10 else b"oh")) as server:
        assert main([url_of(server), "--seconds", "5"]) == 1
        assert "expected a body of 13 bytes, got 2" in capsys.readouterr().err
    with serving(lambda number, request: answer(status="404 Not Found")) as server:
        assert main([url_of(server)]) == 1
        assert "expected status 200, got 404, and b'Hello, World!'" in capsys.readouterr().err
    with serving(lambda number, request: b"nonsense\r\n\r\n") as server:
        assert main([url_of(server)]) == 1
        assert "got BadStatusLine" in capsys.readouterr().err
    assert main(["https://127.0.0.1/"]) == 2
    assert "expected a URL such as http://" in capsys.readouterr().err


def test_command_with_a_plan_that_is_none():
    done = command("-", given="{}\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bench: expected the keys ['exchanges']")


def test_replaced_plan_is_checked():
    with pytest.raises(ValueError, match="a rate above 0"):
        replace(Plan(exchanges=[Exchange(GET)]), rate=-1.0)
