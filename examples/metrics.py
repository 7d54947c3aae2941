"""Metrics for Prometheus at /metrics, right with any number of workers.

With `PROMETHEUS_MULTIPROC_DIR`, an empty folder, each worker keeps its figures in files there, and whichever worker is
asked adds up those of all. Without it the figures are those of the one process.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = os.environ.get("PROMETHEUS_MULTIPROC_DIR")

REQUESTS = Counter("http_requests_total", "Requests by route and status", ["method", "route", "status"])
SECONDS = Histogram("http_request_seconds", "From the head of a request to the end of its answer", ["method", "route"])
RUNNING = Gauge("http_requests_running", "Requests that are being served", multiprocess_mode="livesum")
ORDERS = Counter("shop_orders_total", "What was ordered", ["item"])


class Measured:
    """Middleware that counts and times requests. `/metrics` itself is left out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and note how it went."""
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        status = 500  # where the application raises before it answers

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        RUNNING.inc()
        try:
            await self.app(scope, receive, noting_status)
        finally:
            RUNNING.dec()
            # by route, not by path: a client can make up any number of paths, and each would be kept for ever
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            SECONDS.labels(method, route).observe(time.perf_counter() - began)
            REQUESTS.labels(method, route, status).inc()


METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def forget_ended_workers(folder: str) -> None:
    """What is running in a worker that has ended, or crashed, runs no longer; what it counted still counts."""
    for path in Path(folder).glob("gauge_live*.db"):
        pid = int(path.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid, folder)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A worker that starts takes the place of one that has ended."""
    if FOLDER:
        forget_ended_workers(FOLDER)
    yield


app = FastAPI(title="Shop", lifespan=lifespan)
app.add_middleware(Measured)


@app.get("/metrics")
def metrics() -> Response:
    """A plain function, so in a thread: it reads files."""
    registry: CollectorRegistry = REGISTRY
    if FOLDER:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, FOLDER)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@app.post("/orders/{item}")
async def order(item: str) -> dict[str, str]:
    """Order something."""
    if item not in ("tea", "coffee"):
        raise HTTPException(404, f"there is no {item}")
    ORDERS.labels(item).inc()
    return {"ordered": item}


@app.get("/worker")
async def worker() -> dict[str, int]:
    """Which process answers."""
    return {"pid": os.getpid()}
