"""docs/logging.md and docs/tls.md: commands run, the Python works, tables and lines are those of the code."""

import json
import logging
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from test_documents import blocks, rows
from tls_files import files

import fastasgi
from fastasgi.formatters import ACCESS_FIELDS, JSON_ACCESS_FIELDS
from fastasgi.options import FIELDS

ROOT = Path(__file__).resolve().parents[1]
LOGGING, TLS = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("logging.md", "tls.md"))


def of(text, language):
    """The blocks of a document in this language."""
    return [block for each, block in blocks(text) if each == language]


COMMANDS = [line for text in (LOGGING, TLS) for block in of(text, "sh") for line in block.strip().splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an application and certificates, the current one."""
    (tmp_path / "hello.py").write_text("async def app(scope, receive, send): ...\n")
    for name in ("cert", "key", "ca"):
        shutil.copy(getattr(files(), name), tmp_path / f"{name}.pem")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def _loggers():
    """Loggers as they were."""
    kept = [(each, each.handlers[:], each.level, each.propagate) for each in map(
        logging.getLogger, ("fastasgi", "fastasgi.error", "fastasgi.access", "fastasgi.asgi", "shop"))]
    yield
    for logger, handlers, level, propagate in kept:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command, folder):
    words = shlex.split(command)
    if words[0] == "openssl" and shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    if words[0] == "fastasgi":
        assert words[-1] == "--check-config"
        words[:1] = [sys.executable, "-m", "fastasgi"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.defpath}
    run = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    if words[0] == "openssl":
        fastasgi.Config("hello:app", log_config=None, ssl_certfile="cert.pem", ssl_keyfile="key.pem").load()


def test_the_table_of_fields():
    names = [name for first, _ in rows(LOGGING) for name in first if name in ACCESS_FIELDS]
    assert sorted(names) == sorted(ACCESS_FIELDS)


def test_the_lines_of_json():
    access, error = (json.loads(block) for block in of(LOGGING, "json"))
    assert tuple(access)[:4] == tuple(error)[:4] == ("timestamp", "level", "logger", "message")
    assert tuple(access)[4:] == JSON_ACCESS_FIELDS
    assert list(error["exception"]) == ["type", "message", "traceback"]


def test_defaults_of_the_options():
    for first, rest in rows(TLS):
        for name in first:
            if name in FIELDS:
                default = FIELDS[name].default
                shown = "none" if default is None else default if isinstance(default, str) else f"{default:g}"
                assert rest.split("|")[0].strip() == shown, name


@pytest.mark.usefixtures("_loggers")
def test_the_request_id_of_the_example(capsys):
    names = {}
    exec(compile(of(LOGGING, "python")[0], "logging.md", "exec"), names)
    names["handler"].setStream(sys.stderr)
    options = {"request_id_header": "X-Request-ID", "lifespan": "off", "access_log": False}
    with fastasgi.serve_in_thread(names["app"], port=0, **options) as server:
        answer = httpx.get(server.url, headers={"X-Request-ID": "abc"}, trust_env=False)
    assert (answer.text, answer.headers["x-request-id"]) == ("abc", "abc")
    assert "abc sold out\n" in capsys.readouterr().err


@pytest.mark.usefixtures("_loggers")
def test_the_configuration_of_the_example(folder):
    names = {}
    exec(compile(of(LOGGING, "python")[1], "logging.md", "exec"), names)
    logging.getLogger("fastasgi.error").warning("written")
    assert json.loads((folder / "server.log").read_text())["message"] == "written"


def test_the_extension_of_the_example():
    names = {}
    exec(compile(of(TLS, "python")[0], "tls.md", "exec"), names)
    certs = files()
    options = {"ssl_certfile": certs.both, "ssl_cert_reqs": "CERT_REQUIRED", "ssl_ca_certs": certs.ca}
    context = ssl.create_default_context(cafile=certs.ca)
    context.load_cert_chain(certs.client)
    with fastasgi.serve_in_thread(names["app"], port=0, lifespan="off", access_log=False, **options) as server:
        text = httpx.get(server.url, verify=context, trust_env=False).text
    assert re.fullmatch(r"CN=me\\, myself,.*O=Acme speaks TLS 0x0304", text)


def test_the_context_of_the_example(folder):
    names = {}
    code = of(TLS, "python")[1].replace('Config("hello:app", ', 'Config("hello:app", log_config=None, ')
    exec(compile(code, "tls.md", "exec"), names)
    names["config"].load()
    assert names["config"].ssl.minimum_version == ssl.TLSVersion.TLSv1_3
