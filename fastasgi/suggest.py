"""The name that a person most likely meant: a near one, or ours for an option that another server has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# Options of other servers by their names there: what does it here. Names of ours stand in braces.
ELSEWHERE: Mapping[str, str] = {
    # uvicorn, now and before
    "http2": "HTTP/2 comes with a later release; a proxy in front can speak it meanwhile",
    "debug": "{reload} restarts on changes, {log_level} debug says more",
    "wsgi": "WSGI applications are recognised; {interface} wsgi insists",
    "ws_protocol": "use {ws}",
    # gunicorn
    "timeout": "{timeout_worker_healthcheck} is for workers that hang, {timeout_request} for slow requests",
    "graceful_timeout": "use {timeout_graceful_shutdown}",
    "keep_alive": "use {timeout_keep_alive}",
    "max_requests": "use {limit_max_requests}",
    "max_requests_jitter": "use {limit_max_requests_jitter}",
    "worker_class": "there is one kind of worker; leave it out",
    "worker_connections": "use {limit_connections}",
    "threads": "an event loop needs no threads; use {workers}",
    "pid": "use {pid_file}",
    "pidfile": "use {pid_file}",
    "chdir": "use {app_dir}",
    "pythonpath": "use {app_dir}",
    "preload_app": "use {preload} on",
    "daemon": "run it under systemd or another supervisor",
    "certfile": "use {ssl_certfile}",
    "keyfile": "use {ssl_keyfile}",
    "ca_certs": "use {ssl_ca_certs}",
    "cert_reqs": "use {ssl_cert_reqs}",
    "ciphers": "use {ssl_ciphers}",
    "access_logfile": "access lines go to stdout, {log_config} can send them to a file",
    "access_logformat": "use {access_log_format}",
    "error_logfile": "log lines go to stderr, {log_config} can send them to a file",
    "log_file": "log lines go to stderr, {log_config} can send them to a file",
    "logger_class": "use {log_config}",
    "reload_extra_file": "use {reload_includes}",
    "reload_engine": "the best one is taken by itself; leave it out",
    "limit_request_fields": "use {limit_request_headers}",
    "limit_request_field_size": "use {limit_request_head}, the length of all headers together",
    "proxy_allow_from": "use {forwarded_allow_ips}",
    "proxy_allow_ips": "use {forwarded_allow_ips}",
    "worker_tmp_dir": "workers share memory, not files; leave it out",
    "config": "options stand in fastasgi.toml or in [tool.fastasgi] of pyproject.toml",
    "paste": "name the application as 'module:attribute'",
    # hypercorn
    "insecure_bind": "use {bind}",
    "quic_bind": "HTTP/3 is not served; use {bind}",
    "websocket_ping_interval": "use {ws_ping_interval}",
    "server_name": "check the Host header in the application or in a proxy",
    "statsd_host": "metrics come with a later release",
    # granian
    "ssl_certificate": "use {ssl_certfile}",
    "workers_lifetime": "use {worker_lifetime}",
    "workers_max_rss": "use {limit_worker_rss}",
    "workers_kill_timeout": "use {timeout_graceful_shutdown}",
    "respawn_failed_workers": "workers are always replaced; leave it out",
    "runtime_threads": "an event loop needs no threads; use {workers}",
    "blocking_threads": "an event loop needs no threads; use {workers}",
    "url_path_prefix": "use {root_path}",
    "working_dir": "use {app_dir}",
    "env_files": "use {env_file}",
    "log": "{log_level} critical says next to nothing",
    "reload_paths": "use {reload_dirs}",
    "reload_ignore_patterns": "use {reload_excludes}",
    # one letter, as gunicorn's command line has them
    "b": "use {bind}",
    "w": "use {workers}",
    "k": "there is one kind of worker; leave it out",
    "c": "options stand in fastasgi.toml or in [tool.fastasgi] of pyproject.toml",
    "t": "{timeout_worker_healthcheck} is for workers that hang, {timeout_request} for slow requests",
    "p": "use {port}",
    "h": "use {host}, or --help",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name in `known` that the person most likely meant by `word`, or None."""
    found = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` to be put behind a sentence, or nothing."""
    guess = nearest(word, known)
    return f"; did you mean {guess!r}?" if guess else ""


def cure_for_option(name: str, spelled: Mapping[str, str]) -> str:
    """What to put behind "unknown option ...": what does it here where another server has the name, else the
    nearest one. `spelled` maps the names of our options to what they are called where this one stood."""
    word = name.lstrip("-").replace("-", "_").lower()
    if word in ELSEWHERE:
        return "; " + ELSEWHERE[word].format_map(_Spelled(spelled))
    guess = nearest(word, spelled)
    return f"; did you mean {spelled[guess]!r}?" if guess else ""


class _Spelled(dict[str, str]):
    """Names that are not to be had where this one stood keep their own."""

    def __missing__(self, name: str) -> str:
        return name
