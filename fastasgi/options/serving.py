"""The options that say what is served and where: the application, the sockets, TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..kinds import (
    Binds,
    Callback,
    CertificateRequirement,
    Choice,
    Integer,
    Path,
    Permissions,
    Switch,
    Text,
    TlsVersion,
)
from .declaring import Declared, Given, PathLike, option


class Serving(Declared):
    """Application, listening, TLS."""

    # -- Application -----------------------------------------------------------------------------------------
    factory: bool = option(
        Switch(), "Application", "APP is a function that makes the application.", default=False
    )
    app_dir: Given[PathLike | None, str] = option(
        Path(),
        "Application",
        "Directory that import strings start from; empty is the current one.",
        default="",
        unset=True,
    )
    interface: str = option(
        Choice("auto", "asgi3", "asgi2", "wsgi"),
        "Application",
        "How the application is called; auto looks at its parameters.",
        default="auto",
    )
    lifespan: Given[str | bool, str] = option(
        Choice("auto", "on", "off"),
        "Application",
        "Startup and shutdown events: auto accepts applications that have none, on does not.",
        default="auto",
    )
    root_path: str = option(
        Text(), "Application", "Path under which a proxy mounts the application.", default=""
    )
    env_file: Given[PathLike | None, str | None] = option(
        Path(nullable=True),
        "Application",
        "File of variables for the application's environment (needs python-dotenv).",
        default=None,
    )
    reset_contextvars: bool = option(
        Switch(),
        "Application",
        "Accepted for compatibility: each request always has its own context.",
        default=True,
    )

    # -- Listening -------------------------------------------------------------------------------------------
    host: str = option(
        Text(),
        "Listening",
        "Address or name to listen on; empty or :: is every address.",
        default="127.0.0.1",
    )
    port: int = option(
        Integer(0, 65535), "Listening", "TCP port to listen on; 0 picks a free one.", default=8000
    )
    uds: Given[PathLike | None, str | None] = option(
        Path(nullable=True), "Listening", "Unix socket to listen on instead of host and port.", default=None
    )
    uds_permissions: int | None = option(
        Permissions(nullable=True),
        "Listening",
        "Permissions of the Unix socket's file; none leaves them to the umask.",
        default=0o666,
    )
    fd: int | None = option(
        Integer(0, nullable=True),
        "Listening",
        "Descriptor of an inherited socket to listen on instead of host and port.",
        default=None,
    )
    bind: Given[str | Iterable[str] | None, list[str]] = option(
        Binds(),
        "Listening",
        "Where to listen instead of host and port: host:port, [::1]:8000, unix:path, fd://3 or systemd.",
        default=None,
        repeatable=True,
        unset=True,
    )
    backlog: int = option(
        Integer(1, 2**31 - 1), "Listening", "Connections that may wait to be accepted.", default=2048
    )
    reuse_port: Given[str | bool, str] = option(
        Choice("auto", "on", "off"),
        "Listening",
        "Give each worker a socket of its own for the same port (SO_REUSEPORT).",
        default="auto",
    )

    # -- TLS -------------------------------------------------------------------------------------------------
    ssl_keyfile: Given[PathLike | None, str | None] = option(
        Path(nullable=True), "TLS", "File of the private key.", default=None
    )
    ssl_certfile: Given[PathLike | None, str | None] = option(
        Path(nullable=True), "TLS", "File of the certificate, with those between it and the root.", default=None
    )
    ssl_keyfile_password: str | None = option(
        Text(nullable=True), "TLS", "Password of an encrypted private key.", default=None, secret=True
    )
    ssl_version: Given[int | str, int] = option(
        TlsVersion(),
        "TLS",
        "Version to speak: PROTOCOL_TLS_SERVER is any that is safe, TLSv1.2 or TLSv1.3 that one alone.",
        default="PROTOCOL_TLS_SERVER",
    )
    ssl_cert_reqs: Given[int | str, int] = option(
        CertificateRequirement(),
        "TLS",
        "Whether clients must show a certificate: CERT_NONE, CERT_OPTIONAL or CERT_REQUIRED.",
        default="CERT_NONE",
    )
    ssl_ca_certs: Given[PathLike | None, str | None] = option(
        Path(nullable=True),
        "TLS",
        "File of the authorities whose client certificates are trusted.",
        default=None,
    )
    ssl_ciphers: str | None = option(
        Text(nullable=True), "TLS", "Ciphers as OpenSSL names them; none is OpenSSL's choice.", default=None
    )
    ssl_context_factory: Callable[[Any, Callable[[], Any]], Any] | None = option(
        Callback(),
        "TLS",
        "Function of (config, default factory) that returns the ssl.SSLContext.",
        default=None,
        flag=None,
        in_file=False,
        in_env=False,
    )
