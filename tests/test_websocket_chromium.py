"""A browser: Chromium without a screen, driven over its debugging port, which is a WebSocket itself.

Two tabs chat, scripts see our close codes, a megabyte goes both ways compressed, and a page is left in mid-message.
"""

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import sys

import pytest
import websockets
from net import IOS, listening
from ws import answer_to

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_S = 20.0
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.time_limit(60),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="the browser is started as on Linux"),
]


class Server:
    """A page at /, WebSockets by path: /chat, /echo, /close, /boom, /refused, /slow."""

    def __init__(self):
        self.room = set()
        self.events = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            headers = [(b"content-type", b"text/html"), (b"content-length", b"16")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"<title>x</title>"})
            return
        assert (await receive())["type"] == "websocket.connect"
        await getattr(self, scope["path"][1:])(scope, receive, send)

    async def each(self, receive, send):
        """Accept; the messages, until the client goes."""
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            yield event
        self.events.append((event["code"], event["reason"]))

    async def chat(self, scope, receive, send):
        self.room.add(send)
        try:
            async for event in self.each(receive, send):
                await asyncio.gather(*(one({"type": "websocket.send", **answer_to(event)}) for one in self.room))
        finally:
            self.room.discard(send)

    async def echo(self, scope, receive, send):
        self.extensions = dict(scope["headers"]).get(b"sec-websocket-extensions", b"")
        async for event in self.each(receive, send):
            await send({"type": "websocket.send", **answer_to(event)})

    async def close(self, scope, receive, send):
        async for event in self.each(receive, send):
            code, _, reason = event["text"].partition(" ")
            await send({"type": "websocket.close", "code": int(code), "reason": reason})

    async def boom(self, scope, receive, send):
        await send({"type": "websocket.accept"})
        raise ValueError("boom")

    async def refused(self, scope, receive, send):
        await send({"type": "websocket.close"})


class Tab:
    """One page."""

    def __init__(self, browser, target, session):
        self.browser, self.target, self.session = browser, target, session

    async def run(self, script):
        """What a script comes to; a promise is waited for."""
        found = await self.browser.call(
            "Runtime.evaluate", self.session, expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def leave(self):
        await self.browser.call("Target.closeTarget", targetId=self.target)


class Browser:
    """A running Chromium."""

    def __init__(self, connection):
        self.connection = connection
        self.numbers = itertools.count(1)

    async def call(self, method, session=None, **parameters):
        """A command of the DevTools protocol and its result; events in between are passed over."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        await self.connection.send(json.dumps(message))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = json.loads(await self.connection.recv())
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return answer["result"]

    async def tab(self, url, title="x"):
        """A new tab that shows this page, whose title is this."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = Tab(self, target, session)
        await self.call("Page.navigate", session, url=url)
        async with asyncio.timeout(PATIENCE_S):
            while await tab.run("document.title + document.readyState") != f"{title}complete":
                await asyncio.sleep(0.02)
        return tab


@contextlib.asynccontextmanager
async def browsing(folder):
    """Start the browser, and end all of it."""
    log = folder / "log.txt"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [BROWSER, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := re.search(r"DevTools listening on (ws://\S+)", log.read_text(errors="replace"))):
                assert child.poll() is None, log.read_text(errors="replace")
                await asyncio.sleep(0.05)
        async with websockets.connect(found[1], proxy=None, max_size=None) as connection:
            browser = Browser(connection)
            yield browser
            await browser.call("Browser.close")
        await asyncio.to_thread(child.wait, PATIENCE_S)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


# Collects messages in `got` and the close event in `closed`; `ready`, `next()` and `end` are promises.
CLIENT = """
(path => {
    const s = new WebSocket("ws://" + location.host + path);
    s.binaryType = "arraybuffer";
    const got = [], waiting = [];
    s.onmessage = event => waiting.length ? waiting.shift()(event.data) : got.push(event.data);
    window.next = () => got.length ? Promise.resolve(got.shift()) : new Promise(done => waiting.push(done));
    window.ready = new Promise((done, fail) => { s.onopen = done; s.addEventListener("error", fail); });
    window.ready.catch(() => 0);
    window.end = new Promise(done => { s.onclose = e => done([e.code, e.reason, e.wasClean]); });
    window.s = s;
})"""


@pytest.mark.pins("websocket.messages", "websocket.close-by-app", "websocket.close-by-client", "websocket.close-codes")
@pytest.mark.parametrize("io", IOS)
async def test_browser(io, tmp_path):
    """One browser for all, because it takes a second to start."""
    server = Server()
    async with listening(server, io) as net, browsing(tmp_path) as browser:
        url = f"http://127.0.0.1:{net.listening_socket.getsockname()[1]}/"
        one, two = await browser.tab(url), await browser.tab(url)
        await two_tabs_chat(one, two)
        await scripts_see_our_codes(one)
        await we_see_the_codes_of_scripts(one, net, server)
        await a_megabyte_goes_both_ways(one, server)
        await a_page_is_left_in_mid_message(browser, url, net, server)
        await one.leave()
        await two.leave()


async def two_tabs_chat(one, two):
    for tab in (one, two):
        await tab.run(f'{CLIENT}("/chat")')
        await tab.run("ready.then(() => 0)")
    for tab, text in ((one, "hello, é 日本 🎉"), (two, "hello yourself")):
        await tab.run(f"s.send({json.dumps(text)})")
        assert [await each.run("next()") for each in (one, two)] == [text, text]
    for tab in (one, two):
        await tab.run("s.close()")
        assert await tab.run("end") == [1005, "", True]


async def scripts_see_our_codes(tab):
    for code, reason in ((1000, ""), (1001, "leaving"), (4321, "as asked, é")):
        await tab.run(f'{CLIENT}("/close")')
        await tab.run(f"ready.then(() => s.send({json.dumps(f'{code} {reason}')}))")
        assert await tab.run("end") == [code, reason, True]
    await tab.run(f'{CLIENT}("/boom")')
    assert await tab.run("end") == [1011, "", True]
    await tab.run(f'{CLIENT}("/refused")')
    assert await tab.run("end") == [1006, "", False]


async def we_see_the_codes_of_scripts(tab, net, server):
    for script, seen in (("s.close()", (1005, "")), ('s.close(3210, "é")', (3210, "é")), ("s.close(1000)", (1000, ""))):
        del server.events[:]
        await tab.run(f'{CLIENT}("/echo")')
        await tab.run(f"ready.then(() => {script})")
        assert (await tab.run("end"))[2] is True
        await net.until(lambda: server.events)
        assert server.events == [seen]


async def a_megabyte_goes_both_ways(tab, server):
    await tab.run(f'{CLIENT}("/echo")')
    await tab.run("ready.then(() => 0)")
    assert b"permessage-deflate" in server.extensions
    assert await tab.run("s.extensions") != ""
    same = """(async () => {
        const sent = new Uint8Array(1 << 20).map((_, i) => (i * i) >> 3);
        s.send(sent);
        const back = new Uint8Array(await next());
        return back.length === sent.length && back.every((byte, i) => byte === sent[i]);
    })()"""
    assert await tab.run(same) is True
    text = '(async () => { const t = "é日".repeat(50000); s.send(t); return (await next()) === t; })()'
    assert await tab.run(text) is True
    await tab.run("s.close()")
    assert (await tab.run("end"))[2] is True


async def a_page_is_left_in_mid_message(browser, url, net, server):
    del server.events[:]
    tab = await browser.tab(url)
    await tab.run(f'{CLIENT}("/echo")')
    # more than the buffers between us hold, and nothing compresses it
    await tab.run("""ready.then(() => {
        const noise = new Uint8Array(1 << 23);
        for (let i = 0; i < noise.length; i += 65536) crypto.getRandomValues(noise.subarray(i, i + 65536));
        for (let i = 0; i < 8; i++) s.send(noise);
    })""")
    await tab.leave()
    await net.until(lambda: server.events)
    assert server.events[0][0] in (1001, 1005, 1006), server.events
    await net.until(lambda: net.runtime.requests_active == 0)
