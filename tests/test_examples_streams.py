"""The examples that go on: the chat with WebSocket clients and two tabs of a browser, the feed of events."""

import asyncio
import json
import signal

import pytest
from example_sites import ROOT, client_of, served
from process import PATIENCE_S, running
from test_websocket_chromium import BROWSER, browsing
from waiting import until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import fastasgi

# --- chat -----------------------------------------------------------------------------------------------------------


def enter(server, name):
    """Somebody comes."""
    return connect(f"{server.url.replace('http', 'ws')}/ws?name={name}", proxy=None, open_timeout=PATIENCE_S)


def heard(socket):
    """The next message."""
    return json.loads(socket.recv(PATIENCE_S))


def test_chat():
    with served("examples.chat:app") as (server, client):
        assert "<title>Chat</title>" in client.get("/").text
        with enter(server, "ada") as ada:
            assert heard(ada) == {"text": "ada came"}
            with enter(server, "bob") as bob:
                assert heard(ada) == heard(bob) == {"text": "bob came"}
                assert client.get("/names").json() == ["ada", "bob"]
                ada.send("hello, é 日本 🎉")
                assert heard(ada) == heard(bob) == {"from": "ada", "text": "hello, é 日本 🎉"}
                bob.send("x" * 3000)
                assert heard(ada) == heard(bob) == {"from": "bob", "text": "x" * 2000}
            assert heard(ada) == {"text": "bob left"}
            with enter(server, "ada") as twin, pytest.raises(ConnectionClosed) as refused:
                twin.recv(PATIENCE_S)
            assert (refused.value.rcvd.code, refused.value.rcvd.reason) == (1008, "the name ada is taken")
            assert client.get("/names").json() == ["ada"]
        until(lambda: client.get("/names").json() == [], "ada has left")


def test_chat_is_told_of_the_end():
    with served("examples.chat:app") as (server, _), enter(server, "ada") as ada:
        assert heard(ada) == {"text": "ada came"}
        server.should_exit = True
        with pytest.raises(ConnectionClosed) as closed:
            ada.recv(PATIENCE_S)
        assert closed.value.rcvd.code == 1012


async def test_chat_leaves_slow_clients_behind(monkeypatch):
    """What waits for one is bounded; nobody else waits for it."""
    from examples import chat

    sent, closed = [], []
    gate = asyncio.Event()

    class Socket:
        async def send_json(self, message):
            await gate.wait()
            sent.append(message)

        async def close(self, code, reason):
            closed.append(code)

    room = chat.Room()
    slow = chat.Client(Socket(), "slow")
    async with room.joined(slow):
        await asyncio.sleep(0)
        for number in range(chat.MAX_WAITING + 10):
            room.tell({"text": str(number)})
        gate.set()
        async with asyncio.timeout(PATIENCE_S):
            while not closed:
                await asyncio.sleep(0)
    assert closed == [1013]
    assert len(sent) <= chat.MAX_WAITING + 1


STATE = '$("state").textContent'
LINES = 'Array.from(document.querySelectorAll("#log li"), line => line.textContent)'


async def shows(tab, script, value):
    """Wait until the page is so."""
    async with asyncio.timeout(PATIENCE_S):
        while (found := await tab.run(script)) != value:
            await asyncio.sleep(0.02)
    return found


@pytest.mark.slow
@pytest.mark.time_limit(60)
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
async def test_chat_in_two_tabs(tmp_path):
    """Two people talk, the server goes and comes back, and so do they."""
    server = fastasgi.serve_in_thread("examples.chat:app", port=0, app_dir=ROOT)
    try:
        async with browsing(tmp_path) as browser:
            await asyncio.to_thread(server.start)
            ada, bob = [await browser.tab(f"{server.url}/?name={name}", "Chat") for name in ("ada", "bob")]
            await two_tabs_talk(ada, bob)
            port = int(server.url.rpartition(":")[2])
            await asyncio.to_thread(server.stop)
            await shows(ada, STATE, "gone (1012), trying again")
            server = fastasgi.serve_in_thread("examples.chat:app", port=port, app_dir=ROOT)
            await asyncio.to_thread(server.start)
            await shows(ada, STATE, "you are ada")
            await shows(bob, STATE, "you are bob")
            await ada.leave()
            await bob.leave()
    finally:
        await asyncio.to_thread(server.stop)


async def two_tabs_talk(ada, bob):
    await shows(ada, STATE, "you are ada")
    await shows(bob, LINES, ["bob came"])
    for tab, name, text in ((ada, "ada", "hello <b>you</b>, é 日本 🎉"), (bob, "bob", "hello yourself")):
        await tab.run(f'$("text").value = {json.dumps(text)}; $("form").requestSubmit()')
        await shows(ada, f"{LINES}.at(-1)", f"{name}: {text}")
    await shows(bob, LINES, ["bob came", "ada: hello <b>you</b>, é 日本 🎉", "bob: hello yourself"])


# --- events ---------------------------------------------------------------------------------------------------------


def events_of(lines):
    """The events of a stream as they come, without those that are only a comment."""
    event = {}
    for line in lines:
        if line == "":
            if {"data", "event"} & set(event):
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def follow(client, last_id=None):
    """Ask for the feed."""
    headers = {} if last_id is None else {"last-event-id": str(last_id)}
    return client.stream("GET", "/events", headers=headers)


def test_events_are_followed_and_caught_up_with():
    with served("examples.events:app", timeout_graceful_shutdown=None) as (server, client):
        with follow(client) as answer, client_of(server.url) as other:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-cache"
            events = events_of(answer.iter_lines())
            for number, text in ((1, "tea"), (2, "coffee"), (3, "two\nlines")):
                assert other.post("/events", json={"text": text}).json() == {"id": number}
            assert next(events) == {"data": "tea", "id": "1"}
            assert next(events) == {"data": "coffee", "id": "2"}
        with follow(client, 2) as answer:
            events = events_of(answer.iter_lines())
            assert next(events)["id"] == "3"
            server.should_exit = True  # without an end of its own the stream would hold the server for ever
            assert list(events) == [{"event": "bye", "data": "come again"}]


OPTIONS = ("--workers", "2", "--preload", "on", "--timeout-graceful-shutdown", "none")


def test_events_end_with_each_worker():
    """A restart of all workers, as a deployment makes it: the stream ends with a good-bye, and the next one follows."""
    with running("examples.events:app", *OPTIONS) as server:
        url = f"http://127.0.0.1:{server.address[1]}"
        with client_of(url) as client:
            with follow(client) as answer:
                server.signal(signal.SIGHUP)
                assert list(events_of(answer.iter_lines()))[-1]["event"] == "bye"
            with follow(client) as answer:
                lines = answer.iter_lines()
                assert next(lines) == ": hello"
                server.signal(signal.SIGTERM)
                assert list(events_of(lines))[-1]["event"] == "bye"
        assert server.wait() == 0


def test_events_readiness_fails_before_the_server_does():
    with served("examples.events:app", drain_delay=PATIENCE_S) as (server, client):
        assert client.get("/ready").json() == {"ready": True}
        server.should_exit = True
        until(lambda: client.get("/ready").status_code == 503, "it says that it will stop")
        assert client.post("/events", json={"text": "tea"}).status_code == 201
        server.force_exit = True
