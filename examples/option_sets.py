"""Sets of options as dictionaries, for `fastasgi.run(**config)`: one for production, one for WebSockets.

    python examples/option_sets.py production
    python examples/option_sets.py websocket

Each value is one that you may want to change, and says why. What is not here has a default that suits both.
"""

import os
import sys
from typing import Any

import fastasgi

PRODUCTION: dict[str, Any] = {
    "app": "examples.rest:app",
    # The proxy runs on this machine. In a container: "0.0.0.0", and the proxy's network in forwarded_allow_ips.
    "host": "127.0.0.1",
    "port": int(os.environ.get("PORT", "8000")),
    "forwarded_allow_ips": "127.0.0.1",
    # Processes: one for each core, replaced after a while, so that a leak of the application stays small.
    "workers": int(os.environ.get("WEB_CONCURRENCY", os.cpu_count() or 1)),
    "limit_max_requests": 100_000,
    "limit_max_requests_jitter": 10_000,
    # Load: more than a worker can do is refused at once, with 503, instead of late.
    "limit_concurrency": 500,
    "backlog": 2048,
    # Clients: no body above 10 MiB, no request that takes the application longer than a minute.
    "limit_request_body": 10 * 1024 * 1024,
    "timeout_request": 60,
    # Longer than the proxy keeps its connections to us (nginx: 60 s), so that it never sends into one that we close.
    "timeout_keep_alive": 75,
    # The end: together less than what systemd or Kubernetes waits before it kills.
    "drain_delay": 0,
    "timeout_graceful_shutdown": 15,
    "timeout_disconnect_grace": 5,
    "timeout_lifespan_shutdown": 5,
    # Logs: for machines, with an id for each request, without those of the health check.
    "log_format": "json",
    "request_id_header": "X-Request-ID",
    "access_log_format": "request_id client method path status duration bytes",
    "access_log_exclude": ["/health"],
    # What a stranger need not know.
    "server_header": False,
}

WEBSOCKET: dict[str, Any] = {
    "app": "examples.chat:app",
    "host": "127.0.0.1",
    "port": int(os.environ.get("PORT", "8000")),
    # The chat keeps its clients in the memory of one process.
    "workers": 1,
    # Messages: small ones; little may wait in the server for an application that is slow.
    "ws_max_size": 64 * 1024,
    "ws_max_queue": 16,
    "ws_max_queue_bytes": 256 * 1024,
    # Life: clients behind mobile networks vanish without a word; this finds them within 25 s, and keeps what lies
    # between us from thinking that the connection is idle.
    "ws_ping_interval": 15,
    "ws_ping_timeout": 10,
    # Compression: pays for texts; costs up to 75 KiB of memory for each connection that uses it.
    "ws_per_message_deflate": True,
    "ws_deflate_min_size": 512,
    # Slow readers: cut after 20 s without progress.
    "timeout_response_stall": 20,
    # The end: WebSockets are told at once (1012), and clients come again.
    "timeout_ws_close": 5,
    "timeout_graceful_shutdown": 5,
    # Sockets count in it as requests do: one for each person who is here.
    "limit_concurrency": 10_000,
}

SETS = {"production": PRODUCTION, "websocket": WEBSOCKET}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SETS:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(SETS)}")
    fastasgi.run(**SETS[sys.argv[1]])
