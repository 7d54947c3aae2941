"""Many clients at once, who send in any pieces, read when they like and leave in any way: each gets its own answers, in
its order, whatever the others do meanwhile; never a crash or a leak.

    python tests/fuzz/fuzz_connections.py --seconds 60 [--seed N]

A round is a crowd of clients on real sockets, in some rounds of a server that drains, or whose limits and timeouts are
tight: then answers may be missing, or say so, but none may be wrong. What a client does next may also
happen in the middle of an application's call, so that connections end, and bytes come, while others are being served.
When all have left and the deadlines have passed, no connection and no request may be left.
"""

import asyncio
import contextlib
import functools
import random
import socket
import ssl
import sys
import time
from pathlib import Path

try:
    import uvloop
except ImportError:
    uvloop = None

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from answers import Response, WireError, read_answers, read_one  # noqa: E402
from drive import request, start, turn  # noqa: E402
from net import IOS, Client, Net, anonymous, listening  # noqa: E402
from ws import BINARY, CLOSE, TEXT, answer_to, binary, closing, read_frame, text  # noqa: E402
from ws import request as handshake  # noqa: E402

from fuzz.command import command  # noqa: E402
from fuzz.fuzz_http1 import CORPUS  # noqa: E402
from fuzz.mutation import mutate  # noqa: E402

PATIENCE_S = 20.0
SIZES = (0, 1, 13, 200, 4000, 9000, 70_000, 300_000)
WEIGHTS = (3, 3, 6, 5, 4, 2, 1, 0.3)
KINDS = ("plain", "echo", "late", "stream", "skip", "hold", "free", "head")
LAST_KINDS = ("raise", "break", "close")
REFUSALS = {"deny": 401, "refuse": 403, "fail": 500}
REFUSED = {408, 413, 431, 500, 503}  # what a tight server, or one that drains, may answer
TIGHT = [
    {"limit_concurrency": 2},
    {"limit_connections": 5},
    {"timeout_keep_alive": 0},
    {"limit_request_body": 3000, "limit_unread_body": 100},
    {"ws_max_size": 5000, "ws_max_queue": 2, "ws_max_queue_bytes": 3000, "ws_per_message_deflate": False},
    {
        "timeout_first_byte": 1, "timeout_keep_alive": 1, "timeout_request_head": 2, "timeout_request_body": 2,
        "timeout_response_stall": 2, "timeout_request": 3, "ws_ping_interval": 1, "ws_ping_timeout": 1,
        "timeout_ws_close": 1,
    },
]  # fmt: skip
LEAVING = ("stays", "stays", "fin", "reset", "close")


def content(path: str, size: int) -> bytes:
    """What the application answers there: of this size, and different for each path."""
    return (path.encode() * (size // len(path) + 1))[:size]


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of the server, and of its clients."""
    return anonymous(ssl.PROTOCOL_TLS_SERVER), anonymous(ssl.PROTOCOL_TLS_CLIENT)


class Sealed:
    """A client's socket over TLS, with the errors of one in clear text."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = contexts()[1].wrap_socket(
            sock, server_hostname="localhost", do_handshake_on_connect=False
        )
        self.waiting = b""

    def send(self, data: bytes) -> int:
        """What could not be sent before is sent again, as OpenSSL wants it."""
        self.waiting = self.waiting or data
        sent = self.clearly(self.sock.send, self.waiting)
        self.waiting = b""
        return sent

    def recv(self, most: int) -> bytes:
        return self.clearly(self.sock.recv, most)

    def clearly(self, call, argument):
        """The same, with the errors of one in clear text."""
        try:
            return call(argument)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionResetError(*error.args) from None

    def __getattr__(self, name):
        return getattr(self.sock, name)


class Talker:
    """A client: what it will send, in which pieces, and what it has read."""

    def __init__(self, client: Client, rng: random.Random) -> None:
        self.client, self.rng = client, rng
        self.data = b""
        self.seen = b""
        self.leaves = rng.choice(LEAVING)
        if isinstance(client.sock, Sealed) and self.leaves == "fin":
            self.leaves = "close"  # the end of one side is the end of both
        self.reads = rng.choice((0.7, 0.4, 0.1))
        self.piece_bytes = rng.choice((7, 150, 3000, 1 << 20))
        self.sent = 0
        self.has_ended = self.has_shut = self.has_left = False
        self.may_miss = False  # the server drains

    def plan(self) -> None:
        """Decide what to send, and when to leave."""
        self.leaves_at = (
            self.rng.randrange(len(self.data) + 1) if self.leaves in ("reset", "close") else len(self.data)
        )

    def act(self) -> None:
        """Read, send the next piece, or leave. It calls nothing that waits."""
        if self.has_left:
            return
        if self.rng.random() < self.reads:
            self.read(self.rng.choice((100, 65536)))
        elif self.sent < self.leaves_at:
            piece = self.data[
                self.sent : min(self.leaves_at, self.sent + self.rng.randrange(1, self.piece_bytes + 1))
            ]
            try:
                self.sent += self.client.sock.send(piece)
            except BlockingIOError:
                self.read(65536)
                if self.may_miss and self.rng.random() < 0.05:
                    self.leaves_at = self.sent  # it may never be accepted
            except ConnectionError:
                self.leaves_at = self.sent  # nobody hears more; what was answered is still to be read
        elif self.leaves == "fin" and not self.has_shut:
            self.has_shut = True
            with contextlib.suppress(OSError):
                self.client.shut()
        elif self.leaves in ("reset", "close"):
            self.has_left = True
            self.client.reset() if self.leaves == "reset" else self.client.close()

    def read(self, most: int) -> None:
        """What has come, without waiting."""
        try:
            data = self.client.sock.recv(most)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self.seen += data
        self.has_ended |= not data

    def failure(self) -> str:
        """What is wrong with what it has read, or missing; an empty text if all is there."""
        raise NotImplementedError

    def finish(self) -> bool:
        """Do what is left to do; whether that is all."""
        self.act()
        if self.has_left or (self.may_miss and self.has_ended):
            return True
        if self.sent < self.leaves_at or (self.leaves == "fin" and not self.has_shut):
            return False
        self.read(1 << 20)
        return self.has_ended if self.leaves == "fin" or self.ends else self.may_miss or self.failure() == ""


class Asking(Talker):
    """A client that asks over HTTP, a few times in a row."""

    def __init__(self, client: Client, rng: random.Random, name: str) -> None:
        super().__init__(client, rng)
        self.methods: list[str] = []
        self.is_cut_off = False  # a reset in the end takes away what it has not read by then, too
        self.wanted: list[tuple[int, bytes]] = []
        self.ends = rng.random() < 0.3
        count = rng.randrange(1, 6)
        for number in range(count):
            self.ask(
                rng.choice(LAST_KINDS if self.ends and number == count - 1 else KINDS), f"{name}.{number}"
            )
        self.plan()

    def ask(self, kind: str, name: str) -> None:
        """One more request, and what its answer will be."""
        size = self.rng.choices(SIZES, WEIGHTS)[0]
        path = f"/{kind}/{size}/{name}"
        method = {"echo": "POST", "skip": "POST", "head": "HEAD"}.get(kind, "GET")
        fields = ("Connection: close",) if kind == "close" else ()
        sent = content(f"{path}/sent", size if kind == "echo" else size % 1000) if method == "POST" else None
        if sent is not None and self.rng.random() < 0.5:
            chunk = self.rng.randrange(1, len(sent) + 2)
            pieces = [sent[at : at + chunk] for at in range(0, len(sent), chunk)]
            self.data += request(method, path, headers=(*fields, "Transfer-Encoding: chunked"))
            self.data += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            self.data += request(method, path, headers=fields, body=sent)
        self.methods.append(method)
        if kind == "break":
            self.is_cut_off = True
        elif kind == "raise":
            self.wanted.append((500, b""))
        else:
            self.wanted.append(
                (200, b"" if method == "HEAD" else sent if kind == "echo" else content(path, size))
            )

    def failure(self) -> str:
        """See `Talker`."""
        try:
            found = read_answers(self.seen, tuple(self.methods))
        except WireError:
            # The last answer may be one to half a head, whatever its method would have been.
            found = read_answers(self.seen, tuple(self.methods[: self.seen.count(b"HTTP/1.1 ") - 1]))
        for answer, (status, body) in zip(found, self.wanted):
            if self.may_miss and answer.status in REFUSED:
                return ""
            if answer.status != status or (status == 200 and answer.body != body):
                return f"wrong answer {shown(answer)}, expected {status} with {body[:60]!r}"
        if self.may_miss and len(found) == len(self.methods) and found[-1].status in REFUSED:
            return ""  # in place of one that would have been cut off
        if len(found) > len(self.wanted):
            return f"an answer too many: {shown(found[-1])}"
        is_short = self.has_left or self.may_miss or (self.is_cut_off and self.has_ended)
        return (
            ""
            if is_short or len(found) == len(self.wanted)
            else f"{len(found)} answers of {len(self.wanted)}"
        )


class Session(Talker):
    """A client that talks over a WebSocket, and hears its own words."""

    def __init__(self, client: Client, rng: random.Random, name: str) -> None:
        super().__init__(client, rng)
        self.kind = rng.choice(("talk", "talk", *REFUSALS))
        self.data = handshake(target=f"/{self.kind}/{name}")
        self.wanted: list[bytes] = []
        self.ends = rng.random() < 0.5
        for number in range(rng.randrange(6)):
            said = content(f"{name}.{number} ", rng.choices(SIZES, WEIGHTS)[0])
            self.wanted.append(said)
            self.data += text(said) if rng.random() < 0.5 else binary(said)
        if self.ends:
            self.data += closing(1000)
        self.plan()

    def failure(self) -> str:
        """See `Talker`."""
        found = read_one(self.seen, 0, "GET", False)
        if found is None:
            return "" if self.has_left or self.may_miss else "no answer to its handshake"
        answer, at = found
        allowed = {
            REFUSALS.get(self.kind, 101),
            *({400} if self.leaves == "fin" else ()),
            *(REFUSED if self.may_miss else ()),
        }
        if answer.status != 101 or answer.status not in allowed:
            return "" if answer.status in allowed else f"its handshake was answered {shown(answer)}"
        heard, is_closed = [], False
        rest = self.seen[at:]
        while (found := read_frame(rest)) is not None:
            frame, size = found
            rest = rest[size:]
            is_closed |= frame.opcode == CLOSE
            heard += [frame.payload] * (frame.opcode in (TEXT, BINARY))
        if heard != self.wanted[: len(heard)]:
            return f"heard {[one[:30] for one in heard]}, said {[one[:30] for one in self.wanted]}"
        # What it says last of all is that it hears no more: what the application says then is dropped.
        is_short = (
            self.has_left
            or self.may_miss
            or (self.has_ended and (is_closed if self.ends else self.leaves == "fin"))
        )
        whole = len(heard) == len(self.wanted) and not self.ends and not is_closed
        return "" if is_short or whole else f"heard {len(heard)} of {len(self.wanted)}, closed {is_closed}"


class Odd(Talker):
    """A client that sends anything."""

    def __init__(self, client: Client, rng: random.Random, name: str) -> None:
        super().__init__(client, rng)
        self.ends = False
        for _ in range(rng.randrange(1, 4)):
            self.data += mutate(rng, rng.choice(CORPUS), CORPUS)
        self.plan()

    def failure(self) -> str:
        """Whatever it is answered is right."""
        return ""


def shown(answer: Response) -> str:
    """The start of an answer, for a report."""
    return f"{answer.status} with {answer.body[:60]!r} ({len(answer.body)} bytes)"


class Crowd:
    """The clients of one round, and the application that they talk to."""

    def __init__(self, rng: random.Random, *, is_tight: bool, is_sealed: bool) -> None:
        self.rng, self.is_tight, self.is_sealed = rng, is_tight, is_sealed
        self.talkers: list[Talker] = []
        self.held: list[tuple[asyncio.Event, dict, object]] = []
        self.is_over = False

    async def join(self, net: Net) -> None:
        """Connect the clients."""
        self.net = net
        for number in range(self.rng.randrange(1, self.rng.choice((3, 10, 45)))):
            kind = self.rng.choices((Asking, Session, Odd), (7, 2, 1))[0]
            client = await net.dial(receive_buffer=self.rng.choice((None, None, None, 4096)))
            if self.is_sealed:
                client.sock = Sealed(client.sock)
            self.talkers.append(kind(client, self.rng, str(number)))
            self.talkers[-1].may_miss = self.is_tight

    def act(self, most: int = 3) -> None:
        """Some clients do something, and some time passes."""
        for _ in range(self.rng.randrange(most)):
            self.rng.choice(self.talkers).act()
        if self.rng.random() < 0.1:
            self.net.clock.advance(0.002)

    async def __call__(self, scope: dict, receive, send) -> None:
        """Answer as the path says: /KIND/SIZE/NAME."""
        kind = scope["path"].split("/")[1] if "/" in scope["path"] else ""
        if scope["type"] == "websocket":
            return await self.talk(kind, receive, send)
        answer = (
            content(scope["path"], int(scope["path"].split("/")[2]))
            if kind in (*KINDS, *LAST_KINDS)
            else b"odd"
        )
        self.act()
        for _ in range(self.rng.randrange(4) if kind == "late" else 0):
            await asyncio.sleep(0)
        if kind == "raise":
            raise RuntimeError("an application's bug")
        if kind == "echo":
            answer = await self.body_of(receive)
            if answer is None:
                return None
        await send(start(200, [(b"content-length", b"%d" % len(answer))] if len(answer) % 2 else []))
        self.act()
        if kind in ("stream", "hold", "break"):
            half = len(answer) // 2
            await send({"type": "http.response.body", "body": answer[:half], "more_body": True})
            self.act()
            answer = answer[half:]
        if kind == "break":
            raise RuntimeError("an application's bug")
        ended = {"type": "http.response.body", "body": answer}
        if kind == "hold":
            return await self.hold(send, ended)
        await send(ended)
        self.act()
        if kind == "free":
            await self.release()
        return None

    async def talk(self, kind: str, receive, send) -> None:
        """Say what is heard, if it is not refused."""
        for _ in range(self.rng.randrange(3)):
            await asyncio.sleep(0)
        self.act()
        await receive()
        if kind == "fail":
            raise RuntimeError("an application's bug")
        if kind == "refuse":
            return await send({"type": "websocket.close"})
        if kind == "deny":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            self.act()
            return await send({"type": "websocket.http.response.body", "body": b"no"})
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            self.act()
            await send({"type": "websocket.send", **answer_to(event)})
        return None

    async def body_of(self, receive) -> bytes | None:
        """What the client sends; None when it goes before."""
        data = b""
        while (event := await receive())["type"] == "http.request":
            data += event["body"]
            self.act()
            if not event["more_body"]:
                return data
        return None

    async def hold(self, send, ended: dict) -> None:
        """Wait for somebody else to end this answer."""
        released = asyncio.Event()
        self.held.append((released, ended, send))
        if self.is_over:
            await self.release()
        await released.wait()

    async def release(self) -> None:
        """End the answers that wait for it."""
        held, self.held = self.held, []
        for released, ended, send in held:
            with contextlib.suppress(OSError):  # its client has gone
                await send(ended)
            released.set()

    async def drain(self) -> None:
        """The steps of a server that ends, as far as it gets."""
        for talker in self.talkers:
            talker.may_miss = True
        runtime = self.net.runtime
        for step in (
            runtime.announce_drain,
            runtime.drain,
            runtime.disconnect,
            runtime.cancel,
            runtime.abort,
        ):
            step()
            self.act(2 * len(self.talkers))
            await turn(self.rng.randrange(4))
            if self.rng.random() < 0.2:
                return

    async def play(self) -> None:
        """All that happens in a round."""
        drains = self.rng.random() < 0.2
        while any(talker.sent < talker.leaves_at and not talker.has_left for talker in self.talkers):
            self.act(3 * len(self.talkers))
            await turn(self.rng.randrange(4))
            if self.rng.random() < 0.05:
                await self.release()
            if self.is_tight and self.rng.random() < 0.1:
                await self.net.pass_time(self.rng.random(), step_s=0.3)
            if drains and self.rng.random() < 0.1:
                await self.drain()
        end = time.monotonic() + PATIENCE_S
        left = self.talkers
        while left and time.monotonic() < end:
            left = [talker for talker in left if not talker.finish()]
            await self.release()
            await turn()


async def failure_of(seed: int) -> str:
    """What went wrong in the round of this seed, or an empty text."""
    rng = random.Random(seed)
    complaints: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    tight = rng.choice(TIGHT) if rng.random() < 0.3 else {}
    io = rng.choice(["socket", "tls", *IOS])
    crowd = Crowd(rng, is_tight=bool(tight), is_sealed=io == "tls")
    how = {"io": "transport", "tls": contexts()[0]} if io == "tls" else {"io": io}
    try:
        async with listening(crowd, **how, **tight) as net:
            await crowd.join(net)
            await crowd.play()
            failures = [f"{number}, {talker.leaves}: {why}" for number, talker in enumerate(crowd.talkers)
                        if (why := talker.failure())]  # fmt: skip
            crowd.is_over = True
            await crowd.release()
    except AssertionError as error:
        return f"io {io}, {tight}: {error!r}"
    return f"io {io}, {tight}: {failures} {complaints}" if failures or complaints else ""


def run(seconds: float, seed: int) -> int:
    """Play rounds for so long; return how many. Raises AssertionError with a report on the first failure."""
    rng = random.Random(seed)
    end, played = time.monotonic() + seconds, 0
    while time.monotonic() < end or not played:
        is_uvloop = random.Random(seed).random() < 0.5 and uvloop is not None
        with asyncio.Runner(
            loop_factory=uvloop.new_event_loop if is_uvloop else asyncio.new_event_loop
        ) as runner:
            failure = runner.run(failure_of(seed))
        assert not failure, f"run with --seed {seed} --seconds 0: {failure}"
        seed, played = rng.randrange(1 << 32), played + 1
    return played


if __name__ == "__main__":
    command(run, __doc__)
