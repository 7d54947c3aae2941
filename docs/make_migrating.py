"""Writes the table of docs/migrating/uvicorn.md from the table of options: python docs/make_migrating.py.

What uvicorn has stands in `THERE`; a test compares it with the installed uvicorn, where that has this version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from make_options import default_of  # and where fastasgi is

from fastasgi.options import FIELDS
from fastasgi.suggest import ELSEWHERE

PAGE = Path(__file__).parent / "migrating" / "uvicorn.md"
BEGIN, END = "<!-- options: begin -->", "<!-- options: end -->"
VERSION = "0.54.0"

THERE: dict[str, Any] = {
    "host": "127.0.0.1", "port": 8000, "uds": None, "fd": None, "loop": "auto", "http": "auto", "http2": False,
    "ws": "auto", "ws_max_size": 16777216, "ws_max_queue": 32, "ws_ping_interval": 20.0, "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": True, "lifespan": "auto", "env_file": None, "log_config": "built in", "log_level": None,
    "access_log": True, "use_colors": None, "interface": "auto", "reload": False, "reload_dirs": None,
    "reload_delay": 0.25, "reload_includes": None, "reload_excludes": None, "workers": None, "proxy_headers": True,
    "server_header": True, "date_header": True, "forwarded_allow_ips": None, "root_path": "",
    "limit_concurrency": None, "limit_max_requests": None, "limit_max_requests_jitter": 0, "backlog": 2048,
    "timeout_keep_alive": 5, "timeout_notify": 30, "timeout_graceful_shutdown": None, "timeout_worker_healthcheck": 5,
    "callback_notify": None, "ssl_keyfile": None, "ssl_certfile": None, "ssl_keyfile_password": None,
    "ssl_version": "PROTOCOL_TLS_SERVER", "ssl_cert_reqs": "CERT_NONE", "ssl_ca_certs": None, "ssl_ciphers": None,
    "ssl_context_factory": None, "headers": None, "factory": False, "app_dir": "",
    "h11_max_incomplete_event_size": None, "reset_contextvars": False,
}  # fmt: skip
"""Parameters of uvicorn's `Config` in their order (`app_dir`: of its command line), with their defaults."""

MEANT = {
    "log_level": "`info`",
    "reload_dirs": "`.`",
    "reload_includes": "`*.py`",
    "reload_excludes": "`.*, .py[cod], .sw.*, ~*`",
    "workers": "`$WEB_CONCURRENCY` or `1`",
    "forwarded_allow_ips": "`$FORWARDED_ALLOW_IPS` or `127.0.0.1, ::1`",
    "timeout_graceful_shutdown": "no end",
    "headers": "empty",
}
"""What None means there, by uvicorn's own help."""

DIFFERS = {
    "loop": "the same words; on Linux the server reads and writes its sockets itself, with either loop",
    "http": "accepted, with one line in the log: there is one implementation; a class is refused",
    "ws": "`none` turns WebSocket off; the names of implementations are accepted, with one line in the log",
    "ws_max_queue": "`ws_max_queue_bytes` bounds it in bytes too",
    "interface": "seen by the parameters, not by being a coroutine function; WSGI is seen too",
    "reload": "works with `workers` above 1; does not need watchfiles for includes and excludes",
    "workers": "a replacement is ready before the old one goes; an application object is served too, by fork",
    "forwarded_allow_ips": "`unix` and paths are trusted too; malformed entries are refused: [rules](../proxies.md)",
    "limit_concurrency": "counts requests and WebSockets that are served, not idle connections",
    "limit_max_requests": "the replacement is ready before the worker ends",
    "timeout_keep_alive": "balancers keep idle connections for about 60 s",
    "timeout_graceful_shutdown": "then `http.disconnect`, and `timeout_disconnect_grace` later they are cancelled",
    "timeout_worker_healthcheck": "the stacks of a hung worker are logged before it is killed",
    "ssl_version": "names such as `TLSv1.3` besides numbers",
    "ssl_cert_reqs": "names such as `CERT_REQUIRED` besides numbers",
    "headers": "on the command line `--header`, as there",
    "factory": "seen, with a warning that says so",
    "h11_max_incomplete_event_size": "accepted: sets `limit_request_head`",
    "reset_contextvars": "accepted: each request always has a context of its own",
    "env_file": "feeds the application's environment only: see below",
    "log_config": "one written for uvicorn works once its names are replaced",
}


def table() -> str:
    """The rows of every option of uvicorn."""
    head = f"| option | in uvicorn {VERSION} | here | what differs |\n|---|---|---|---|\n"
    return head + "".join(f"{row(name)}\n" for name in THERE)


def row(name: str) -> str:
    """One option."""
    if name not in FIELDS:
        cure = ELSEWHERE[name].format_map({known: f"`{known}`" for known in FIELDS})
        return f"| `{name}` | {there(name)} | refused | {cure} |"
    here = default_of(FIELDS[name])
    same = there(name) in (here, here.partition(" ")[0] if FIELDS[name].unit else here)
    return f"| `{name}` | {there(name)} | {'same' if same else here} | {DIFFERS.get(name, '')} |"


def there(name: str) -> str:
    """uvicorn's default as a person reads it."""
    value = THERE[name]
    if name in MEANT:
        return MEANT[name]
    if value in ("", "built in"):
        return value or "empty"
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}`"


def page() -> str:
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
