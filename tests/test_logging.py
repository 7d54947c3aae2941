"""logging: the text of every line, where it goes, four forms of log_config, and when handlers may be
bypassed."""

import configparser
import copy
import io
import json
import logging
import logging.handlers
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastasgi.config import LOGGING_CONFIG, Config
from fastasgi.errors import ConfigError, StartupError
from fastasgi.logging import (
    ACCESS_FORMAT,
    LOGGER_NAMES,
    TRACE,
    AccessFormatter,
    DefaultFormatter,
    can_bypass,
    configure,
    level_number,
    log_startup_error,
    reopen_files,
)

NAMES = ("fastasgi", *LOGGER_NAMES)
MESSAGE = '%s - "%s %s HTTP/%s" %d'
ARGS = ("127.0.0.1:50000", "GET", "/path?q=1", "1.1", 200)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """What a test does to our loggers is undone."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(x.level, x.handlers[:], x.propagate, x.filters[:], x.disabled) for x in loggers]
    yield
    for logger, (level, handlers, propagate, filters, disabled) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
        logger.filters = filters


def record(level: int = logging.INFO, args: Any = ARGS, name: str = "fastasgi.access") -> logging.LogRecord:
    return logging.LogRecord(name, level, "file.py", 1, '%s - "%s %s HTTP/%s" %d', args, None)


def access_formatter(**options: Any) -> AccessFormatter:
    return AccessFormatter(fmt=ACCESS_FORMAT, **options)


def test_access_line() -> None:
    line = access_formatter(use_colors=False).format(record())
    assert line == 'INFO:     127.0.0.1:50000 - "GET /path?q=1 HTTP/1.1" 200 OK'


@pytest.mark.parametrize(("status", "shown"), [(404, "404 Not Found"), (299, "299"), (999, "999")])
def test_access_line_has_the_phrase_where_there_is_one(status: int, shown: str) -> None:
    assert access_formatter(use_colors=False).format(record(args=(*ARGS[:4], status))).endswith(f'" {shown}')


def test_access_line_in_colours() -> None:
    line = access_formatter(use_colors=True).format(record())
    assert line == (
        "\x1b[32mINFO\x1b[0m:     127.0.0.1:50000 - "
        '"\x1b[1mGET /path?q=1 HTTP/1.1\x1b[0m" \x1b[32m200 OK\x1b[0m'
    )


def test_record_of_an_application_on_the_access_logger_is_not_an_error() -> None:
    other = logging.LogRecord("fastasgi.access", logging.INFO, "f", 1, "own %s", ("text",), None)
    assert access_formatter(use_colors=False).format(other) == "INFO:     own text"


def test_formatting_leaves_the_record_alone() -> None:
    original = record()
    before = dict(original.__dict__)
    access_formatter(use_colors=True).format(original)
    assert {k: v for k, v in original.__dict__.items() if k != "message"} == before


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.INFO, "INFO:     "), (logging.CRITICAL, "CRITICAL: "), (TRACE, "TRACE:    ")],
)
def test_default_line(level: int, prefix: str) -> None:
    formatter = DefaultFormatter("%(levelprefix)s %(message)s", use_colors=False)
    line = formatter.format(logging.LogRecord("fastasgi", level, "f", 1, "Started %d", (3,), None))
    assert line == f"{prefix}Started 3"


def test_color_message_replaces_the_message_in_colours() -> None:
    plain = logging.LogRecord("fastasgi", logging.INFO, "f", 1, "on %s", ("x",), None)
    plain.__dict__["color_message"] = "ON %s"
    assert DefaultFormatter("%(message)s", use_colors=True).format(plain) == "ON x"
    assert DefaultFormatter("%(message)s", use_colors=False).format(plain) == "on x"


def test_colours_follow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert AccessFormatter().use_colors
    assert not DefaultFormatter().use_colors
    monkeypatch.setattr(sys, "stderr", None)
    assert not DefaultFormatter().use_colors


def test_level_numbers() -> None:
    names = ["critical", "error", "warning", "info", "debug", "trace", 7]
    assert [level_number(name) for name in names] == [50, 40, 30, 20, 10, 5, 7]  # type: ignore[arg-type]
    assert logging.getLevelName(TRACE) == "TRACE"


def test_access_lines_go_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Config("a:b", use_colors=False)
    logging.getLogger("fastasgi.error").info("started")
    logging.getLogger("fastasgi.access").info(MESSAGE, *ARGS)
    captured = capsys.readouterr()
    assert captured.err == "INFO:     started\n"
    assert captured.out == 'INFO:     127.0.0.1:50000 - "GET /path?q=1 HTTP/1.1" 200 OK\n'


def test_no_line_twice_with_basic_config() -> None:
    code = (
        "import logging, sys; logging.basicConfig(stream=sys.stderr)\n"
        "from fastasgi.config import Config; Config('a:b')\n"
        "logging.getLogger('fastasgi.error').info('once')\n"
        "logging.getLogger('fastasgi.access').info('%s %s %s %s %d', 'a', 'GET', '/', '1.1', 200)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr.count("once") == 1
    assert run.stdout == 'INFO:     a - "GET / HTTP/1.1" 200 OK\n'


def test_level_is_applied_to_our_loggers() -> None:
    Config("a:b", log_level="warning")
    assert [logging.getLogger(name).level for name in LOGGER_NAMES] == [30, 30, 30]
    Config("a:b", log_config=None, log_level="trace")
    assert [logging.getLogger(name).level for name in LOGGER_NAMES] == [TRACE, TRACE, TRACE]


def test_default_level_does_not_undo_an_explicit_log_config() -> None:
    settings = copy.deepcopy(LOGGING_CONFIG)
    settings["loggers"]["fastasgi.error"]["level"] = "ERROR"
    Config("a:b", log_config=settings)
    assert logging.getLogger("fastasgi.error").level == logging.ERROR


def test_none_leaves_logging_alone() -> None:
    Config("a:b")
    handlers = logging.getLogger("fastasgi").handlers[:]
    logging.getLogger("fastasgi.error").setLevel(17)
    Config("a:b", log_config=None)
    assert logging.getLogger("fastasgi").handlers == handlers
    assert logging.getLogger("fastasgi.error").level == 17


def test_no_access_log() -> None:
    Config("a:b", access_log=False)
    logger = logging.getLogger("fastasgi.access")
    assert (logger.handlers, logger.propagate) == ([], False)


def test_use_colors_does_not_change_the_given_dict() -> None:
    before = copy.deepcopy(LOGGING_CONFIG)
    Config("a:b", use_colors=True)
    assert before == LOGGING_CONFIG
    formatter = logging.getLogger("fastasgi.access").handlers[0].formatter
    assert isinstance(formatter, AccessFormatter)
    assert formatter.use_colors


INI = """
[loggers]
keys=root,ours
[handlers]
keys=err
[formatters]
keys=plain
[logger_root]
level=WARNING
handlers=
[logger_ours]
level=ERROR
handlers=err
qualname=fastasgi.error
[handler_err]
class=StreamHandler
args=(sys.stderr,)
formatter=plain
[formatter_plain]
format=%(message)s
"""
PLAIN: dict[str, Any] = {"version": 1, "incremental": True, "loggers": {"fastasgi.error": {"level": "ERROR"}}}


def as_dict(tmp_path: Any) -> Any:
    return PLAIN


def as_json(tmp_path: Any) -> Any:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(PLAIN))
    return str(path)


def as_ini(tmp_path: Any) -> Any:
    path = tmp_path / "log.ini"
    path.write_text(INI)
    return path


def as_parser(tmp_path: Any) -> Any:
    parser = configparser.RawConfigParser()
    parser.read_string(INI)
    return parser


def as_file(tmp_path: Any) -> Any:
    return io.StringIO(INI)


@pytest.mark.parametrize("form", [as_dict, as_json, as_ini, as_parser, as_file])
def test_forms_of_log_config(form: Callable[[Any], Any], tmp_path: Any) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        Config("a:b", log_config=form(tmp_path))
        assert logging.getLogger("fastasgi.error").level == logging.ERROR
    finally:
        root.handlers, root.level = before


def test_log_config_as_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    class Yaml:
        @staticmethod
        def safe_load(file: Any) -> Any:
            assert file.read() == "text"
            return PLAIN

    monkeypatch.setitem(sys.modules, "yaml", Yaml)
    path = tmp_path / "log.yaml"
    path.write_text("text")
    Config("a:b", log_config=str(path))
    assert logging.getLogger("fastasgi.error").level == logging.ERROR


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("nowhere.ini", "log_config: cannot read 'nowhere.ini': No such file"),
        ({"version": 2}, "log_config: "),
        ({"version": 1, "handlers": {"x": {"class": "no.such.Handler"}}}, "no.such"),
    ],
)
def test_log_config_that_is_wrong(source: Any, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configure(source, level=None)
    assert text in str(raised.value)


def test_yaml_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match="pip install PyYAML"):
        configure("log.yaml", level=None)


def test_startup_error_shows_details_first(capsys: pytest.CaptureFixture[str]) -> None:
    Config("a:b", use_colors=False)
    log_startup_error(StartupError("100% broken", details="Traceback: %s"))
    assert capsys.readouterr().err == "ERROR:    Traceback: %s\nERROR:    100% broken\n"


# ------------------------------------------------------------------------------------------------ bypass
def standard(stdout: Any) -> logging.Logger:
    """The access logger as the built-in configuration makes it on this stdout."""
    sys.stdout = stdout
    Config("a:b", use_colors=False)
    return logging.getLogger("fastasgi.access")


@pytest.fixture
def out(tmp_path: Any) -> Iterator[Any]:
    """A file to be stdout: with a descriptor."""
    before = sys.stdout
    with open(tmp_path / "out", "w+") as file:
        yield file
        sys.stdout = before


def test_bypass_with_the_built_in_handlers(out: Any) -> None:
    found = can_bypass(standard(out))
    assert found is not None
    assert (found.fd, found.use_colors) == (out.fileno(), False)
    assert found.line == (
        (b"INFO:     ", "client_addr"), (b' - "', "method"), (b" ", "full_path"), (b" HTTP/", "http_version"),
        (b'" ', "status_code"), (b"\n", ""),
    )  # fmt: skip


def test_bypass_flushes_what_the_stream_holds(out: Any, tmp_path: Any) -> None:
    logger = standard(out)
    out.write("printed before\n")
    can_bypass(logger)
    assert (tmp_path / "out").read_text() == "printed before\n"


def change_handler(change: Callable[[Any], Any]) -> Callable[[logging.Logger], None]:
    def apply(logger: logging.Logger) -> None:
        change(logger.handlers[0])

    return apply


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: setattr(x, "propagate", True), id="propagates"),
        pytest.param(lambda x: x.addFilter(lambda record: True), id="logger-filter"),
        pytest.param(lambda x: x.addHandler(logging.NullHandler()), id="second-handler"),
        pytest.param(lambda x: x.handlers.clear(), id="no-handler"),
        pytest.param(lambda x: x.setLevel(logging.WARNING), id="level"),
        pytest.param(change_handler(lambda h: h.addFilter(lambda record: True)), id="handler-filter"),
        pytest.param(change_handler(lambda h: h.setLevel(logging.WARNING)), id="handler-level"),
        pytest.param(change_handler(lambda h: h.setStream(io.StringIO())), id="other-stream"),
        pytest.param(change_handler(lambda h: h.setFormatter(logging.Formatter())), id="other-formatter"),
        pytest.param(
            change_handler(lambda h: h.setFormatter(AccessFormatter("%(asctime)s"))), id="field-of-logging"
        ),
        pytest.param(
            change_handler(lambda h: h.setFormatter(AccessFormatter("{path}", style="{"))), id="other-style"
        ),
        pytest.param(change_handler(lambda h: setattr(h, "terminator", "\0")), id="terminator"),
        pytest.param(change_handler(lambda h: setattr(h, "__class__", MyHandler)), id="handler-class"),
    ],
)
def test_no_bypass_when_anything_is_customised(out: Any, change: Callable[[logging.Logger], Any]) -> None:
    logger = standard(out)
    assert can_bypass(logger) is not None
    change(logger)
    assert can_bypass(logger) is None


class MyRecord(logging.LogRecord):
    pass


class MyHandler(logging.StreamHandler):  # type: ignore[type-arg]
    pass


def test_no_bypass_with_a_record_factory(out: Any) -> None:
    logger = standard(out)
    logging.setLogRecordFactory(MyRecord)
    try:
        assert can_bypass(logger) is None
    finally:
        logging.setLogRecordFactory(logging.LogRecord)


def test_no_bypass_without_a_descriptor(out: Any) -> None:
    assert can_bypass(standard(io.StringIO())) is None


def test_no_bypass_when_logging_is_disabled(out: Any) -> None:
    logger = standard(out)
    logging.disable(logging.INFO)
    try:
        assert can_bypass(logger) is None
    finally:
        logging.disable(logging.NOTSET)


# ------------------------------------------------------------------------------------------------ files
def test_files_are_opened_anew(tmp_path: Any) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    logger = logging.getLogger("fastasgi.error")
    handlers = [logging.FileHandler(path), logging.FileHandler(tmp_path / "later", delay=True)]
    memory = logging.handlers.MemoryHandler(1, target=logging.FileHandler(tmp_path / "behind"))
    logger.handlers = [*handlers, memory]
    try:
        logger.error("one")
        path.rename(moved)
        assert reopen_files() == 3
        logger.error("two")
        assert (moved.read_text(), path.read_text()) == ("one\n", "two\n")
        (tmp_path / "gone").mkdir()
        handlers[0].baseFilename = str(tmp_path / "no" / "such")
        assert reopen_files() == 2
    finally:
        assert memory.target is not None
        for handler in (*handlers, memory, memory.target):
            handler.close()


def test_a_log_config_of_uvicorn_with_our_name(out: Any, tmp_path: Any) -> None:
    """The built-in dictionary of uvicorn 0.54, with the names replaced; and a class of its formatters' shape."""
    uvicorn = pytest.importorskip("uvicorn.config")
    text = json.dumps(uvicorn.LOGGING_CONFIG).replace("uvicorn", "fastasgi")
    path = tmp_path / "log.json"
    path.write_text(text)
    sys.stdout = out
    Config("a:b", log_config=str(path), use_colors=False)
    logger = logging.getLogger("fastasgi.access")
    assert can_bypass(logger) is not None
    logger.info(MESSAGE, *ARGS)
    assert (tmp_path / "out").read_text() == 'INFO:     127.0.0.1:50000 - "GET /path?q=1 HTTP/1.1" 200 OK\n'


@pytest.mark.parametrize("has_app_dir", [True, False])
def test_log_config_may_name_classes_of_the_application(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, has_app_dir: bool
) -> None:
    """They are imported from where the application is, although logging is set up before that is imported."""
    (tmp_path / f"own_logs_{has_app_dir}.py").write_text("import logging\n\nclass Own(logging.Filter): ...\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    app_dir = str(tmp_path) if has_app_dir else ""
    if not has_app_dir:
        monkeypatch.chdir(tmp_path)
    settings = {"version": 1, "filters": {"own": {"()": f"own_logs_{has_app_dir}.Own"}}}
    Config("a:b", log_config=settings, app_dir=app_dir)
    assert f"own_logs_{has_app_dir}" in sys.modules
    del sys.modules[f"own_logs_{has_app_dir}"]


def test_formatters_can_be_derived_from_as_uvicorns_can() -> None:
    class Mine(AccessFormatter):
        def get_status_code(self, status_code: int) -> str:
            return f"<{status_code}>"

        def color_level_name(self, level_name: str, level_no: int) -> str:
            return f"{level_name}/{level_no}"

    line = Mine("%(levelprefix)s %(status_code)s", use_colors=True).format(record())
    assert line == "INFO/20:     <200>"
