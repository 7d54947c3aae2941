"""A program as typed users write it: `make types` checks it strictly, `test_python_api.py` runs it.

`warn_unused_ignores` is on: each `type: ignore` is an error that a type checker must find.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, assert_type

import fastasgi
from fastasgi.asgi import ASGI3Application

Message = dict[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def notify() -> None:
    """For `callback_notify`."""


def configured() -> fastasgi.Config:
    config = fastasgi.Config(app, port=0, log_config=None, callback_notify=notify, timeout_notify=5)
    assert_type(config.port, int)
    assert_type(config.uds, str | None)
    assert_type(config.is_ssl, bool)
    assert_type(config.should_reload, bool)
    config.load()
    assert_type(config.loaded_app, ASGI3Application)
    assert_type(config.get_loop_factory(), Callable[[], asyncio.AbstractEventLoop] | None)
    config.bind_socket().close()
    return config


async def steps(server: fastasgi.Server) -> None:
    await server.startup()
    assert_type(server.started, bool)
    assert_type(server.url, str)
    assert_type(server.urls, tuple[str, ...])
    with server.capture_signals():
        assert_type(await server.on_tick(0), bool)
        server.should_exit = True
        await server.main_loop()
    await server.shutdown()


async def embedded() -> None:
    async with fastasgi.serve(app, port=0) as server:
        assert_type(server.url, str)
        server.should_exit = True


def threaded() -> None:
    with fastasgi.serve_in_thread(app, port=0, limit_concurrency=5) as server:
        assert_type(server.url, str)
    server.start()
    server.stop()


def mistakes() -> None:
    """Never called."""
    fastasgi.run(app, prot=1)  # type: ignore[call-arg]
    fastasgi.serve(app, port="8000")  # type: ignore[arg-type]
    fastasgi.serve_in_thread(app, lifespn="on")  # type: ignore[call-arg]
    fastasgi.Server(app)  # type: ignore[arg-type]
    fastasgi.Server(configured()).url = ""  # type: ignore[misc]
    fastasgi.Config()  # type: ignore[call-arg]


if __name__ == "__main__":
    server = fastasgi.Server(configured())
    asyncio.run(steps(server))
    asyncio.run(embedded())
    threaded()
    print(server.exit_code)
