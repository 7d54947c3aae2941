"""The options that concern connections: HTTP, WebSocket, proxies in front, limits, timeouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .._forwarded import Forwarder, TrustedPeers
from ..kinds import Choice, HeaderPair, Headers, Implementation, Integer, Seconds, Size, Switch, Texts
from .declaring import KIB, MIB, Declared, Given, option

Pairs = Iterable[tuple[str | bytes, str | bytes]]


def _peers(peers: list[str]) -> None:
    TrustedPeers(peers)


def _fields(fields: list[str]) -> None:
    Forwarder(TrustedPeers(()), fields)


class Traffic(Declared):
    """HTTP, WebSocket, proxies, limits, timeouts."""

    # -- HTTP ------------------------------------------------------------------------------------------------
    http: str = option(
        Implementation(
            "auto", "h11", "httptools", "zttp", cure="fastasgi has its own HTTP parser: leave http out"
        ),
        "HTTP",
        "Accepted for compatibility: there is one HTTP implementation, our own.",
        default="auto",
    )
    headers: Given[Pairs | Iterable[str] | Mapping[str, str] | None, list[HeaderPair]] = option(
        Headers(),
        "HTTP",
        "Header for every response.",
        default=None,
        flag="header",
        repeatable=True,
        unset=True,
    )
    server_header: bool = option(Switch(), "HTTP", "Send 'Server: fastasgi'.", default=True)
    date_header: bool = option(Switch(), "HTTP", "Send 'Date'.", default=True)
    # Gateways turn '-' into '_': a client that sends X_Forwarded_For may imitate the header that the proxy
    # sets.
    underscore_headers: str = option(
        Choice("drop-forwarded", "drop", "keep"),
        "HTTP",
        "Request headers with '_': drop those that imitate what proxies set, drop all, or keep all.",
        default="drop-forwarded",
    )

    # -- WebSocket -------------------------------------------------------------------------------------------
    ws: str = option(
        Implementation(
            "auto",
            "none",
            "websockets",
            "websockets-sansio",
            "wsproto",
            cure="fastasgi has its own WebSocket implementation: leave ws out",
        ),
        "WebSocket",
        "none turns WebSocket off; the other words are accepted for compatibility.",
        default="auto",
    )
    ws_max_size: int = option(
        Size(1), "WebSocket", "Length of a message; above it 1009.", default=16 * MIB, unit="B"
    )
    ws_max_queue: int = option(
        Integer(1, 2**20), "WebSocket", "Messages that may wait for the application.", default=32
    )
    ws_max_queue_bytes: int = option(
        Size(1),
        "WebSocket",
        "Length of the messages that may wait for the application.",
        default=MIB,
        unit="B",
    )
    ws_ping_interval: float | None = option(
        Seconds(never=True), "WebSocket", "Between two pings to a silent client; 0: none.", default=20.0, unit="s"
    )
    ws_ping_timeout: float | None = option(
        Seconds(), "WebSocket", "Wait for the answer to a ping; then 1011.", default=20.0, unit="s"
    )
    ws_per_message_deflate: bool = option(
        Switch(), "WebSocket", "Compress messages where the client can.", default=True, valued=True
    )
    ws_deflate_min_size: int = option(
        Size(), "WebSocket", "Length below which a message is not compressed.", default=256, unit="B"
    )

    # -- Proxies ---------------------------------------------------------------------------------------------
    proxy_headers: bool = option(
        Switch(),
        "Proxies",
        "Take client, scheme and host from X-Forwarded-* and Forwarded, where the peer is trusted.",
        default=True,
    )
    forwarded_allow_ips: Given[str | Iterable[str] | None, list[str]] = option(
        Texts("addresses, networks or paths with commas between, or *", "TRUSTED"),
        "Proxies",
        "Peers to believe: addresses, networks, unix or paths of Unix sockets; * is all.",
        default="127.0.0.1,::1",
        fallback="FORWARDED_ALLOW_IPS",
        unset=True,
        check=_peers,
    )
    # for and proto, as other servers: proxies pass the rest as the client sent it, unless they are told otherwise.
    forwarded_fields: Given[str | Iterable[str] | None, list[str]] = option(
        Texts("some of for, proto, host, port and prefix, with commas between", "WORDS"),
        "Proxies",
        "What they are believed in: for, proto, host, port, prefix; your proxy sets or removes each of these.",
        default="for,proto",
        unset=True,
        check=_fields,
    )
    proxy_protocol: bool = option(
        Switch(),
        "Proxies",
        "Connections begin with a header of the PROXY protocol, version 1 or 2.",
        default=False,
    )

    # -- Limits (each worker) --------------------------------------------------------------------------------
    limit_concurrency: int | None = option(
        Integer(1, nullable=True), "Limits", "Requests and WebSockets served at once; above it 503.", default=None
    )
    limit_connections: int | None = option(
        Integer(1, nullable=True),
        "Limits",
        "Open connections; above it new ones wait in the backlog, idle ones are closed first.",
        default=None,
    )
    limit_max_requests: int | None = option(
        Integer(1, nullable=True), "Limits", "Requests after which the process ends.", default=None
    )
    limit_max_requests_jitter: int = option(
        Integer(0),
        "Limits",
        "Up to so many are added to limit_max_requests, at random, so that workers do not end together.",
        default=0,
    )
    limit_request_line: int = option(
        Size(16), "Limits", "Length of the request line; above it 414.", default=8 * KIB, unit="B"
    )
    limit_request_head: int = option(
        Size(16), "Limits", "Length of all request headers; above it 431.", default=64 * KIB, unit="B"
    )
    limit_request_headers: int = option(
        Integer(1, 2**20), "Limits", "Number of request headers; above it 431.", default=100
    )
    limit_request_body: int | None = option(
        Size(nullable=True), "Limits", "Length of a request body; above it 413.", default=None, unit="B"
    )
    limit_unread_body: int = option(
        Size(),
        "Limits",
        "Length of a body left unread that is skipped to keep the connection; above it the connection closes.",
        default=64 * KIB,
        unit="B",
    )
    limit_chunk_extension: int = option(
        Size(), "Limits", "Length of all chunk extensions of a body; above it 400.", default=4 * KIB, unit="B"
    )
    h11_max_incomplete_event_size: int | None = option(
        Size(16, nullable=True),
        "Limits",
        "Accepted for compatibility: sets limit_request_head.",
        default=None,
        unit="B",
    )

    # -- Timeouts --------------------------------------------------------------------------------------------
    # 75 and not 5: balancers keep idle connections for 60 s; one that is reused while we close it is a
    # 502.
    timeout_keep_alive: float | None = option(
        Seconds(zero=True), "Timeouts", "Wait for the next request of a connection.", default=75, unit="s"
    )
    timeout_first_byte: float | None = option(
        Seconds(),
        "Timeouts",
        "From connect to the first byte; then closed without an answer.",
        default=10,
        unit="s",
    )
    timeout_request_head: float | None = option(
        Seconds(), "Timeouts", "From the first byte to the end of the head; then 408.", default=30, unit="s"
    )
    timeout_request_body: float | None = option(
        Seconds(), "Timeouts", "Grace before min_body_rate is asked for; then 408.", default=30, unit="s"
    )
    min_body_rate: int | None = option(
        Integer(0, 2**40, nullable=True),
        "Timeouts",
        "Average speed below which a request body ends with 408.",
        default=240,
        unit="B/s",
    )
    timeout_response_stall: float | None = option(
        Seconds(),
        "Timeouts",
        "Without progress of a client that reads; then the connection is aborted.",
        default=60,
        unit="s",
    )
    timeout_request: float | None = option(
        Seconds(), "Timeouts", "The whole of a request in the application.", default=None, unit="s"
    )
    timeout_ws_close: float | None = option(
        Seconds(),
        "Timeouts",
        "Wait for the client's half of a WebSocket's close; then the connection is closed.",
        default=10,
        unit="s",
    )
    timeout_tls_handshake: float | None = option(
        Seconds(), "Timeouts", "The TLS handshake; then the connection is closed.", default=10, unit="s"
    )
    timeout_startup: float | None = option(
        Seconds(),
        "Timeouts",
        "The application's startup; then the server does not start.",
        default=None,
        unit="s",
    )
    # Python only: without a callback there is nothing to time.
    timeout_notify: float = option(
        Seconds(nullable=False),
        "Timeouts",
        "Between two calls of callback_notify.",
        default=30,
        unit="s",
        flag=None,
        in_file=False,
        in_env=False,
    )
