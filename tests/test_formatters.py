"""formatters: JSON lines, formats of access lines, and that compiled code writes the very line that logging writes."""

import asyncio
import contextvars
import io
import json
import logging
import os
import re

import pytest
from drive import Bench, body, hello, request, start, turn

from fastasgi._access import AccessLog
from fastasgi._http1 import Http1
from fastasgi._runtime import Runtime
from fastasgi.errors import ConfigError
from fastasgi.formatters import (
    ACCESS_FIELDS,
    ACCESS_LINE,
    JSON_ACCESS_FIELDS,
    AccessFormatter,
    DefaultFormatter,
    JsonFormatter,
    RequestIdFilter,
    check_access_format,
    compile_json,
    compile_line,
    field_names,
    request_id,
    timestamp_of,
)
from fastasgi.logging import can_bypass, configure

EVERYTHING = " ".join(f"{name}=[%({name})s]" for name in ACCESS_FIELDS if name != "timestamp")
TRICKY = (
    'User-Agent: Mozilla/5.0 "quoted" \\back\\ caf\xe9',
    "Referer: https://example.com/?a=b\tc",
    "X-Request-Id: abc-123",
)


class Collected(logging.StreamHandler):
    """What logging makes of access records."""

    def __init__(self, formatter):
        super().__init__(io.StringIO())
        self.setFormatter(formatter)

    @property
    def text(self):
        return self.stream.getvalue()


async def ask(access, *requests, app=hello, **options):
    """Have requests answered with this log, a clock that moves by 1234 us at each look, and request ids."""
    bench = Bench(app, None, {"request_id_header": "X-Request-ID", **options})
    loop = asyncio.get_running_loop()
    bench.runtime = Runtime(bench.config, app, loop, handler_factory=Http1, clock=bench.clock, access=access)
    bench.clock.step_ns = 0
    for one in requests:
        peer = bench.connect()
        peer.feed(one)
        await turn(5)
        assert peer.output.startswith(b"HTTP/1.1 ")
    await bench.close()
    return bench


async def both(formatter, line, *requests, **options):
    """The lines by compiled code, and those by logging, of the same requests."""
    loop = asyncio.get_running_loop()
    clock = Steps()
    reading, writing = os.pipe()
    try:
        access = AccessLog(
            loop, writing, line, use_colors=getattr(formatter, "use_colors", False), clock=clock
        )
        await ask(access, *requests, **options)
        access.close()
        compiled = os.read(reading, 1 << 16).decode()
    finally:
        os.close(reading)
        os.close(writing)
    logger = logging.Logger("fastasgi.access", logging.INFO)
    handler = Collected(formatter)
    logger.addHandler(handler)
    await ask(AccessLog(loop, logger=logger, clock=clock), *requests, **options)
    return compiled, handler.text


class Steps:
    """A clock that says the same: requests begin at 1_000_000 s, see `drive.Clock`, and take 1.5 ms."""

    def __call__(self):
        return 1_000_000 * 10**9 + 1_500_999


@pytest.mark.parametrize("use_colors", [False, True])
@pytest.mark.parametrize(
    "fmt",
    [ACCESS_LINE, EVERYTHING, "%(levelprefix)s %(message)s", "%(levelname)s %(name)s %(process)d 100%% %(status)d"],
)
@pytest.mark.pins("logs.compiled-same")
async def test_compiled_code_writes_the_line_of_logging(fmt, use_colors):
    formatter = AccessFormatter(fmt, use_colors=use_colors)
    requests = [
        request(target='/a"b\\c?d="e\\f', headers=TRICKY),
        request("POST", body=b"x", version="1.0", headers=("X-Request-ID: 1",)),
        request("HEAD", headers=("User-Agent:", "X-Request-ID: 2")),
        request(target="/%ff", headers=("X-Request-ID: 3", "Referer: \xff\x80")),
    ]
    compiled, logged = await both(formatter, compile_line(fmt, use_colors), *requests)
    assert compiled == logged
    assert compiled.count("\n") == len(requests)
    assert ("\x1b[" in compiled) is (use_colors and ("request_line" in fmt or "levelprefix" in fmt))


@pytest.mark.parametrize(
    "names", [JSON_ACCESS_FIELDS, ACCESS_FIELDS, ("request_line",), ("request_line", "status")]
)
@pytest.mark.pins("logs.compiled-same")
async def test_compiled_code_writes_the_json_of_logging(names):
    requests = [
        request(target='/a"b\\c?d="e\\f', headers=TRICKY),
        request("HEAD", headers=("User-Agent:", "X-Request-ID: 2"), version="1.0"),
    ]
    compiled, logged = await both(JsonFormatter(access_fields=names), compile_json(names), *requests)
    first, second = ([json.loads(line) for line in text.splitlines()] for text in (compiled, logged))
    for line in (*first, *second):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
        line["timestamp"] = ""
    assert first == second
    assert list(first[0]) == list(second[0])


async def test_fields_of_a_json_access_line():
    line = compile_json((*JSON_ACCESS_FIELDS, "request_id", "user_agent", "referer"))
    compiled, _ = await both(JsonFormatter(), line, request(target="/a?b", headers=TRICKY))
    found = json.loads(compiled)
    del found["timestamp"]
    assert found == {
        "level": "INFO", "logger": "fastasgi.access", "message": '127.0.0.1:50000 - "GET /a?b HTTP/1.1" 200',
        "client": "127.0.0.1:50000", "method": "GET", "path": "/a", "query": "b", "http_version": "1.1", "status": 200,
        "duration": 0.0015, "bytes": 2, "request_id": "abc-123",
        "user_agent": 'Mozilla/5.0 "quoted" \\back\\ caf\xe9', "referer": "https://example.com/?a=b\tc",
    }  # fmt: skip


async def test_bytes_are_those_of_the_body_that_left():
    async def stream(scope, receive, send):
        await send(start(200))
        await send(body(b"12345", True))
        await send(body(b"678"))

    async def broken(scope, receive, send):
        raise LookupError("bug")

    line = compile_line("%(bytes)s")
    assert await both(AccessFormatter("%(bytes)s"), line, request(), app=stream) == ("8\n", "8\n")
    assert await both(AccessFormatter("%(bytes)s"), line, request("HEAD"), app=hello) == ("0\n", "0\n")
    text = len("Internal Server Error")
    assert (await both(AccessFormatter("%(bytes)s"), line, request(), app=broken))[0] == f"{text}\n"


async def test_the_duration_is_that_of_the_request():
    """Between the head and the last byte, on the monotonic clock."""
    logger = logging.Logger("fastasgi.access", logging.INFO)
    handler = Collected(AccessFormatter("%(duration)s %(duration).2f %(duration_ms)s"))
    logger.addHandler(handler)
    gate = asyncio.Event()

    async def late(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    bench = Bench(late, None, {})
    access = AccessLog(asyncio.get_running_loop(), logger=logger, clock=bench.clock)
    bench.runtime = Runtime(
        bench.config, late, asyncio.get_running_loop(), handler_factory=Http1, clock=bench.clock, access=access
    )
    peer = bench.connect()
    peer.feed(request())
    bench.clock.advance(2.5)
    gate.set()
    await turn(5)
    assert peer.output
    assert handler.text == "2.500000 2.50 2500.000\n"
    await bench.close()


@pytest.mark.parametrize("fmt", ["%(asctime)s", "%(duration).3f", "%(status)5d", "%(method)d", "%(threadName)s", "50%"])
def test_formats_that_only_logging_can_write(fmt):
    assert compile_line(fmt) is None


def test_field_names():
    assert field_names("method path,status  bytes") == ("method", "path", "status", "bytes")
    assert field_names("%(method)s - %(status)d %(method)s") == ("method", "status")
    assert field_names(["client"]) == ("client",)
    with pytest.raises(ValueError, match="'pfad' is no field"):
        field_names("method pfad")
    with pytest.raises(ValueError, match="names no field"):
        field_names(" ")


def test_formats_are_checked():
    check_access_format("%(client)s %(asctime)s", is_json=False)
    check_access_format("client status", is_json=True)
    for wrong in ("%(pfad)s", "%(client", "client", ""):
        with pytest.raises(ValueError, match=r"field|format"):
            check_access_format(wrong, is_json=False)


def test_timestamps():
    assert timestamp_of(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp_of(1795372200.9999) == "2026-11-22T18:30:00.999Z"


# --- JSON of other lines ------------------------------------------------------------------------------------------


def made(message="hello %s", args=("there",), **extra):
    record = logging.LogRecord("app.views", logging.WARNING, "f.py", 1, message, args, extra.pop("exc_info", None))
    record.__dict__.update(extra)
    record.created = 1795372200.25
    return record


def test_a_json_line():
    assert JsonFormatter().format(made(user=5, when={1})) == (
        '{"timestamp":"2026-11-22T18:30:00.250Z","level":"WARNING","logger":"app.views","message":"hello there",'
        '"user":5,"when":"{1}"}'
    )


def test_an_exception_is_three_fields_of_one_line():
    try:
        raise ValueError('a "b"\nc')
    except ValueError as error:
        line = JsonFormatter().format(made(exc_info=(ValueError, error, error.__traceback__)))
    assert "\n" not in line
    found = json.loads(line)["exception"]
    assert (found["type"], found["message"]) == ("ValueError", 'a "b"\nc')
    assert found["traceback"].startswith("Traceback (most recent call last):\n")


def test_the_request_id_of_the_context():
    def in_context():
        request_id.set("id-1")
        record = made()
        assert RequestIdFilter().filter(record)
        text = DefaultFormatter("%(request_id)s %(message)s", use_colors=False).format(made())
        return json.loads(JsonFormatter().format(made()))["request_id"], record.request_id, text

    assert contextvars.copy_context().run(in_context) == ("id-1", "id-1", "id-1 hello there")
    assert DefaultFormatter("%(request_id)s", use_colors=False).format(made()) == "-"
    assert "request_id" not in json.loads(JsonFormatter().format(made()))
    record = made(request_id="given")
    RequestIdFilter().filter(record)
    assert record.request_id == "given"


# --- options ------------------------------------------------------------------------------------------------------


@pytest.fixture
def _loggers():
    names = ("fastasgi", "fastasgi.error", "fastasgi.access", "fastasgi.asgi")
    kept = [(logging.getLogger(n), logging.getLogger(n).handlers[:], logging.getLogger(n).propagate) for n in names]
    levels = [logging.getLogger(n).level for n in names]
    yield
    for (logger, handlers, propagate), level in zip(kept, levels, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.usefixtures("_loggers")
def test_formats_reach_our_formatters_of_any_dict(capfd):
    from fastasgi.config import LOGGING_CONFIG

    access = logging.getLogger("fastasgi.access")
    configure(LOGGING_CONFIG, level=None, use_colors=False, access_log_format="%(status)s %(path)s")
    assert access.handlers[0].formatter._fmt == "%(levelprefix)s %(status)s %(path)s"
    assert can_bypass(access).line == compile_line("%(levelprefix)s %(status)s %(path)s")
    configure(LOGGING_CONFIG, level=None, log_format="json", with_request_id=True)
    assert can_bypass(access).line == compile_json((*JSON_ACCESS_FIELDS, "request_id"))
    configure(LOGGING_CONFIG, level=None, log_format="json", access_log_format="status bytes", with_request_id=True)
    assert can_bypass(access).line == compile_json(("status", "bytes"))
    logging.getLogger("fastasgi.error").warning("told")
    assert json.loads(capfd.readouterr().err)["message"] == "told"
    assert LOGGING_CONFIG["formatters"]["access"]["()"] == "fastasgi.logging.AccessFormatter"


@pytest.mark.usefixtures("_loggers")
def test_formatters_of_others_are_left_alone():
    plain = {"version": 1, "formatters": {"access": {"format": "%(message)s"}}, "disable_existing_loggers": False}
    configure(plain, level=None, log_format="json", access_log_format="%(status)s")
    with pytest.raises(ConfigError):
        configure({**plain, "formatters": {"x": {"()": "no.such.Thing"}}}, level=None, log_format="json")
