"""The scope that an application is given, and the context variables around it."""

import contextvars
import copy
import sys

import pytest
from drive import (
    BODY,
    GET,
    START,
    exchange,
    hello,
    request,
    serving,
    turn,
    until,
)

KEYS = {
    "type",
    "asgi",
    "http_version",
    "server",
    "client",
    "scheme",
    "root_path",
    "method",
    "path",
    "raw_path",
    "query_string",
    "headers",
}


async def scope_of(data=GET, *, channel=None, state=None, **options):
    """The scope of one request."""
    found = []

    async def app(scope, receive, send):
        found.append(scope)
        await hello(scope, receive, send)

    async with serving(app, state=state, **options) as bench:
        await bench.connect(**(channel or {})).answer(data=data)
    return found[0]


# --- contents -------------------------------------------------------------------------------------


@pytest.mark.pins("response.scope-types")
async def test_a_whole_scope():
    data = request("GET", "/a%20b/%C3%A9?x=%20&y", headers=("X-One: 1", "X-TWO:  two "))
    scope = await scope_of(data)
    extensions = scope.pop("extensions", {})
    assert scope == {
        "type": "http",
        "asgi": scope["asgi"],
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": "/a b/é",
        "raw_path": b"/a%20b/%C3%A9",
        "query_string": b"x=%20&y",
        "headers": scope["headers"],
    }
    assert [tuple(pair) for pair in scope["headers"]] == [
        (b"host", b"example.com"),
        (b"x-one", b"1"),
        (b"x-two", b"two"),
    ]
    assert scope["asgi"]["version"] == "3.0"
    assert isinstance(extensions, dict)


@pytest.mark.pins("response.scope-types")
async def test_types_are_exact():
    """Frameworks compare and serialise: `str` where text belongs, `bytes` where bytes do, `int` ports."""
    scope = await scope_of(request(target="/x?y", headers=("Cookie: a=1",)))
    assert type(scope) is dict
    for key in ("type", "http_version", "method", "scheme", "path", "root_path"):
        assert type(scope[key]) is str, key
    for key in ("raw_path", "query_string"):
        assert type(scope[key]) is bytes, key
    assert type(scope["asgi"]) is dict
    assert all(type(key) is str and type(value) is str for key, value in scope["asgi"].items())
    for key in ("client", "server"):
        assert type(scope[key][0]) is str and type(scope[key][1]) is int
        assert len(scope[key]) == 2
    for name, value in scope["headers"]:
        assert type(name) is bytes and type(value) is bytes


async def test_a_scope_takes_no_more_memory_than_a_dict_of_text():
    """A literal in compiled code is laid out for keys of any kind, which takes half as much again."""
    scope = await scope_of()
    assert sys.getsizeof(scope) <= sys.getsizeof(dict(list(scope.items())))


@pytest.mark.pins("response.scope-types")
async def test_the_version_of_asgi_keeps_frameworks_listening_for_disconnect():
    """From 2.4 on they may wait for `send` to fail instead, which an idle stream never calls (test_frameworks_own)."""
    assert (await scope_of())["asgi"]["spec_version"] == "2.3"


@pytest.mark.pins("response.scope-types")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_http_version(version):
    assert (await scope_of(request(version=version)))["http_version"] == version


@pytest.mark.pins("response.scope-peers")
@pytest.mark.parametrize(
    ("client", "server"),
    [
        (("127.0.0.1", 50000), ("127.0.0.1", 8000)),
        (("2001:db8::1", 50000), ("::1", 8000)),
        (None, ("/run/app.sock", None)),
        (None, None),
    ],
    ids=["ipv4", "ipv6", "unix", "unknown"],
)
async def test_client_and_server(client, server):
    scope = await scope_of(channel={"client": client, "server": server})
    assert scope["client"] == client
    assert scope["server"] == server


async def test_scheme_of_the_channel():
    assert (await scope_of(channel={"scheme": "https"}))["scheme"] == "https"


@pytest.mark.parametrize("root_path", ["", "/api", "/api/v1"])
async def test_root_path(root_path):
    """ASGI: `path` holds the whole path, with the root path, as the classic server does it."""
    scope = await scope_of(request(target="/items"), root_path=root_path)
    assert scope["root_path"] == root_path
    assert scope["path"] == root_path + "/items"
    assert scope["raw_path"].endswith(b"/items")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH", "PURGE", "get"])
async def test_method(method):
    found = []

    async def app(scope, receive, send):
        found.append(scope["method"])
        await hello(scope, receive, send)

    answer, _ = await exchange(app, request(method), method=method)
    if method == "get" and answer.status == 501:  # allowed by the specification of ours
        return
    assert found == [method]


@pytest.mark.pins("response.extensions")
async def test_extensions_advertised_are_only_those_that_work():
    """None of the extensions of HTTP is there yet; `websocket.*` and `tls` have no place in this scope."""
    extensions = (await scope_of()).get("extensions") or {}
    assert extensions == {}


# --- nothing shared -------------------------------------------------------------------------------


def spoil(value, depth=0):
    """Change everything that can be changed, all the way down."""
    if isinstance(value, dict):
        for inner in list(value.values()):
            spoil(inner, depth + 1)
        value["spoiled"] = depth
        for key in list(value)[:-1]:
            value[key] = f"spoiled {depth}"
    elif isinstance(value, (list, bytearray)):
        for inner in value:
            spoil(inner, depth + 1)
        value.clear()
    elif isinstance(value, set):
        value.clear()
    elif isinstance(value, tuple):
        for inner in value:
            spoil(inner, depth + 1)


@pytest.mark.pins("response.scope-unshared")
@pytest.mark.parametrize("same_connection", [True, False])
async def test_nothing_is_shared_between_requests(same_connection):
    seen = []

    async def app(scope, receive, send):
        seen.append(copy.deepcopy({key: value for key, value in scope.items() if key != "state"}))
        await send(START)
        await send(BODY)
        spoil({key: value for key, value in scope.items() if key != "state"})
        spoil(scope.setdefault("extensions", {}))
        for key in list(scope):
            scope[key] = "spoiled"

    data = request(target="/x?y=1", headers=("Cookie: a=1", "Accept: */*"))
    async with serving(app, state={}) as bench:
        peer = bench.connect()
        for _ in range(3):
            await peer.answer(data=data)
            peer.forget()
            if not same_connection:
                peer = bench.connect()
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.pins("response.scope-unshared")
async def test_two_live_scopes_share_no_object_that_can_change():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await hello(scope, receive, send)

    def mutable(value, found):
        if isinstance(value, dict):
            found.add(id(value))
            for inner in value.values():
                mutable(inner, found)
        elif isinstance(value, (list, tuple)):
            if isinstance(value, list):
                found.add(id(value))
            for inner in value:
                mutable(inner, found)
        return found

    async with serving(app, state={"a": 1}) as bench:
        peer = bench.connect()
        peer.feed(GET * 3)
        await peer.several(3)
    ids = [mutable(scope, set()) for scope in scopes]
    assert not ids[0] & ids[1] and not ids[1] & ids[2] and not ids[0] & ids[2]


@pytest.mark.pins("response.scope-unshared")
async def test_a_scope_may_be_changed_while_it_is_served():
    """Routers write `path_params`, `endpoint`, `app`; some delete keys."""

    async def app(scope, receive, send):
        scope.clear()
        await send(START)
        await turn()
        await send(BODY)

    answer, state = await exchange(app)
    assert (answer.body, state) == (b"ok", "open")


@pytest.mark.pins("response.scope-state")
async def test_state_is_a_shallow_copy():
    pool = []
    states = []

    async def app(scope, receive, send):
        states.append(dict(scope["state"]))
        scope["state"]["mine"] = scope["path"]
        scope["state"].pop("flag", None)
        scope["state"]["pool"].append(scope["path"])
        await hello(scope, receive, send)

    state = {"pool": pool, "flag": True}
    async with serving(app, state=state) as bench:
        peer = bench.connect()
        peer.feed(request(target="/1") + request(target="/2"))
        await peer.several(2)
    assert states == [{"pool": pool, "flag": True}] * 2
    assert pool == ["/1", "/2"]
    assert state == {"pool": pool, "flag": True}


@pytest.mark.pins("response.scope-state")
async def test_no_state_without_lifespan_state():
    """ASGI: `state` is there when the server has lifespan state; never a dict of another request."""
    assert (await scope_of(state=None)).get("state") in (None, {})
    assert (await scope_of(state={}))["state"] == {}


@pytest.mark.pins("response.scope-state")
async def test_state_added_after_the_start_is_seen():
    """The runtime's own dict: what lifespan adds later (a background task) reaches later requests."""
    states = []

    async def app(scope, receive, send):
        states.append(scope["state"])
        await hello(scope, receive, send)

    shared = {}
    async with serving(app, state=shared) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await peer.several(1)
        shared["late"] = 1
        peer.feed(GET)
        await peer.several(2)
    assert states == [{}, {"late": 1}]


# --- context --------------------------------------------------------------------------------------

VARIABLE = contextvars.ContextVar("VARIABLE", default="untouched")


@pytest.mark.pins("response.contextvars")
@pytest.mark.parametrize("suspend", [False, True])
async def test_context_does_not_pass_to_the_next_request(suspend, event_loop_kind):
    seen = []

    async def app(scope, receive, send):
        seen.append(VARIABLE.get())
        VARIABLE.set(scope["path"])
        if suspend:
            await turn()
        await hello(scope, receive, send)
        seen.append(VARIABLE.get())

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(b"".join(request(target=f"/{index}") for index in range(3)))
        await peer.several(3)
        peer.feed(request(target="/3"))
        await peer.several(4)
        await bench.connect().answer(data=request(target="/4"))
    assert seen == [value for index in range(5) for value in ("untouched", f"/{index}")]
    assert VARIABLE.get() == "untouched"


@pytest.mark.pins("response.contextvars")
async def test_context_of_the_feeding_code_does_not_pass_to_the_request():
    """The context is a copy of the worker's base context, not of whoever's turn it is."""
    seen = []

    async def app(scope, receive, send):
        seen.append(VARIABLE.get())
        await hello(scope, receive, send)

    async with serving(app) as bench:
        token = VARIABLE.set("the feeder's")
        try:
            await bench.connect().answer(data=GET)
        finally:
            VARIABLE.reset(token)
    assert seen == ["untouched"]


@pytest.mark.pins("response.contextvars")
async def test_context_holds_over_suspensions_of_one_request():
    seen = []

    async def app(scope, receive, send):
        VARIABLE.set(scope["path"])
        await receive()
        seen.append(VARIABLE.get())
        await turn()
        seen.append(VARIABLE.get())
        await send(START)
        seen.append(VARIABLE.get())
        await send(BODY)
        await turn(2)
        seen.append(VARIABLE.get())

    async with serving(app) as bench:
        first, second = bench.connect(), bench.connect()
        first.feed(request("POST", "/1", length=1))
        second.feed(request("POST", "/1", length=1))
        await turn(2)
        second.feed(b"x")
        first.feed(b"x")
        await first.answer("POST")
        await second.answer("POST")
        await until(lambda: len(seen) == 8)
    assert set(seen) == {"/1"}
