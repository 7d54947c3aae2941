"""middleware.proxy_headers: uvicorn's name and signature, with the server's rules."""

import inspect

import pytest
from drive import request, serving

from fastasgi.middleware.proxy_headers import ProxyHeadersMiddleware

PROXY = ("127.0.0.1", 50000)
FIELDS = [
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"a.example"),
]


async def scope_behind(middleware, **scope):
    """The scope that the application sees."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    given = {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "client": PROXY,
        "server": None,
        "headers": FIELDS,
        **scope,
    }
    await middleware(app)(given, None, None)
    assert seen[0] is given  # changed in place, as other servers do
    return given


async def test_the_loopback_is_trusted_by_default():
    scope = await scope_behind(ProxyHeadersMiddleware)
    assert (scope["client"], scope["scheme"], scope["headers"]) == (("192.0.2.1", 0), "https", FIELDS)
    scope = await scope_behind(ProxyHeadersMiddleware, client=("203.0.113.5", 1))
    assert (scope["client"], scope["scheme"]) == (("203.0.113.5", 1), "http")


@pytest.mark.parametrize("trusted", ["*", ["*"], "10.0.0.1, 203.0.113.5", ["203.0.113.0/24"]])
async def test_trusted_hosts_as_text_or_list(trusted):
    scope = await scope_behind(lambda app: ProxyHeadersMiddleware(app, trusted), client=("203.0.113.5", 1))
    assert scope["client"] == ("192.0.2.1", 0)


async def test_websockets_and_the_lifespan():
    scope = await scope_behind(ProxyHeadersMiddleware, type="websocket", scheme="ws")
    assert (scope["client"], scope["scheme"]) == (("192.0.2.1", 0), "wss")
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    await ProxyHeadersMiddleware(app)({"type": "lifespan"}, None, None)
    assert seen == [{"type": "lifespan"}]


async def test_more_fields():
    scope = await scope_behind(lambda app: ProxyHeadersMiddleware(app, fields=["for", "host"]), headers=[
        [b"host", b"inner"], *FIELDS])  # fmt: skip
    assert scope["scheme"] == "http"
    assert (b"host", b"a.example") in scope["headers"]
    assert scope["server"] == ("a.example", 80)


def test_the_signature_is_that_of_uvicorn():
    parameters = list(inspect.signature(ProxyHeadersMiddleware).parameters.values())
    assert [parameter.name for parameter in parameters[:2]] == ["app", "trusted_hosts"]
    assert parameters[1].default == "127.0.0.1"
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters[2:])


def test_misspelt_addresses_are_refused():
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8 has host bits set"):
        ProxyHeadersMiddleware(None, "10.0.0.1/8")


async def test_within_an_application_of_ours():
    """The server has looked already; the middleware goes on from what it has found, as another hop."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["client"])
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    line = "X-Forwarded-For: 198.51.100.1, 192.0.2.1"
    for trusted, client in [("127.0.0.1", "192.0.2.1"), ("127.0.0.1,192.0.2.1", "198.51.100.1")]:
        async with serving(ProxyHeadersMiddleware(app, trusted)) as bench:
            await bench.connect(client=PROXY).answer(data=request(headers=(line,)))
        assert seen.pop() == (client, 0)
