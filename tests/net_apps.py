"""Applications that the tests run in a process of their own. Events are lines on standard output."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor


def event(text):
    os.write(1, f"event: {text}\n".encode())


async def answer(send, data, status=200):
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(data))]}
    )
    await send({"type": "http.response.body", "body": data})


async def lifespan(receive, send, *, fail=False):
    await receive()
    if fail:
        await send({"type": "lifespan.startup.failed", "message": "no database today"})
        return
    event("startup")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    event("shutdown")
    await send({"type": "lifespan.shutdown.complete"})


LOOP_FILES = (
    os.sep + "asyncio" + os.sep,
    os.sep + "selectors.py",
    os.sep + "weakref.py",
    os.sep + "_weakrefset.py",
)


class Counting:
    """Counts the calls of this thread between `/count` and `/counted`; those that asyncio makes for itself apart."""

    def __init__(self):
        self.names = {}

    def profile(self, frame, what, argument):
        if what == "call":
            name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        elif what == "c_call":
            name = getattr(argument, "__qualname__", repr(argument))
        else:
            return
        if any(part in frame.f_code.co_filename for part in LOOP_FILES):
            name = f"loop:{name}"
        self.names[name] = self.names.get(name, 0) + 1

    def begin(self):
        self.names = {}
        sys.setprofile(self.profile)

    def end(self):
        sys.setprofile(None)
        return "\n".join(f"{count} {name}" for name, count in self.names.items()).encode()


counting = Counting()
progress = {"sent": 0, "received": 0}
gates = []


async def stream(receive, send, *, patient):
    """An event stream; `patient` ignores http.disconnect and cancellation both."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
        event("disconnect")
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        event("cancelled")
        if not patient:
            raise
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                event("cancelled again")


async def upload(receive, send):
    """Reads only what it is told to, by `/go`."""
    gates.append(asyncio.Event())
    await gates[-1].wait()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        progress["received"] += len(message["body"])
        if not message["more_body"]:
            break
    await answer(send, b"%d" % progress["received"])


async def download(send):
    """A gigabyte."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (1 << 30))]}
    )
    data = b"x" * 65536
    for index in range(1 << 14):
        await send({"type": "http.response.body", "body": data, "more_body": index < (1 << 14) - 1})
        progress["sent"] += len(data)


async def websocket(receive, send):
    """Takes what comes, and says how it ended."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    event(f"websocket {message['code']}")


async def slow(receive, send):
    """Reads its body to the end, then answers: the client says when."""
    event("slow begins")
    while (await receive()).get("more_body", False):
        pass
    await answer(send, b"slow")
    event("slow ends")


async def background(receive, send):
    """Answers, then works on until its client says so by another connection's `/go`."""
    gates.append(asyncio.Event())
    await answer(send, b"ok")
    try:
        await gates[-1].wait()
        event("background ends")
    except asyncio.CancelledError:
        event("background cancelled")
        raise


async def in_thread(receive, send):
    """Work in a thread that nothing can end."""
    await answer(send, b"ok")
    await asyncio.to_thread(threading.Event().wait)


POOL = ThreadPoolExecutor(2, "pool of the application")


async def in_pool(receive, send):
    """Work in an executor of the application, which leaves it to the interpreter to end its threads."""
    await answer(send, await asyncio.get_running_loop().run_in_executor(POOL, bytes, b"ok"))


async def plain(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def main(scope, receive, send):
    """Does what the path says."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "websocket":
        return await websocket(receive, send)
    path = scope["path"]
    if path == "/stream":
        await stream(receive, send, patient=False)
    elif path == "/patient":
        await stream(receive, send, patient=True)
    elif path == "/upload":
        await upload(receive, send)
    elif path == "/download":
        await download(send)
    elif path == "/slow":
        await slow(receive, send)
    elif path == "/background":
        await background(receive, send)
    elif path == "/thread":
        await in_thread(receive, send)
    elif path == "/pool":
        await in_pool(receive, send)
    elif path == "/pid":
        await answer(send, b"%d" % os.getpid())
    elif path == "/block":
        event("blocks")
        time.sleep(60)
    elif path == "/hang":
        event(f"blocks {os.getpid()}")
        time.sleep(600)
    elif path == "/go":
        gates.pop().set()
        await answer(send, b"gone")
    elif path == "/progress":
        await answer(send, b"%d %d" % (progress["sent"], progress["received"]))
    elif path == "/count":
        await answer(send, b"counting")
        counting.begin()
    elif path == "/counted":
        await answer(send, counting.end())
    elif path == "/loop":
        await answer(send, type(asyncio.get_running_loop()).__module__.encode())
    else:
        await plain(scope, receive, send)
    return None


async def failing(scope, receive, send):
    """Its startup fails."""
    await lifespan(receive, send, fail=True)


async def numbered(scope, receive, send):
    """Says which request it was, and who answered."""
    if scope["type"] == "lifespan":
        return await quiet_lifespan(receive, send)
    await answer(send, b"%s %d" % (scope["path"][1:].encode(), os.getpid()))
    return None


async def quiet_lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def exits(scope, receive, send):
    """Ends the process as the path says, while another request waits for that."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["path"] == "/other":
        gates.append(asyncio.Event())
        event("waits")
        await gates[0].wait()
        return await answer(send, b"done")
    if scope["path"] == "/late":
        await asyncio.sleep(0)
    if scope["path"] == "/answered":
        await answer(send, b"bye")
    gates[0].set()
    sys.exit(7)


async def stuck_at_shutdown(scope, receive, send):
    """Never gets to its end."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    event("stuck")
    await asyncio.Event().wait()


async def deadly(scope, receive, send):
    """Ends its process in the ways of its paths."""
    if scope["type"] == "http" and scope["path"] == "/segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if scope["type"] == "http" and scope["path"] == "/exit":
        sys.exit(7)
    await numbered(scope, receive, send)


async def dies_at_startup(scope, receive, send):
    os.kill(os.getpid(), signal.SIGKILL)


async def stuck_at_startup(scope, receive, send):
    time.sleep(600)


async def dies_soon(scope, receive, send):
    """Soon after its start."""
    if scope["type"] == "lifespan":
        asyncio.get_running_loop().call_later(0.2, os._exit, 9)
    await numbered(scope, receive, send)


IMPORTED_BY = os.getpid()


async def imported(scope, receive, send):
    """Says who has imported it."""
    if scope["type"] == "lifespan":
        return await quiet_lifespan(receive, send)
    await answer(send, b"%d" % IMPORTED_BY)
    return None


made_at_startup = []


async def frozen(scope, receive, send):
    """How many objects the collector does not look at, and whether what the start has made is one of them."""
    if scope["type"] == "lifespan":
        made_at_startup.append(["of the start"])
        await lifespan(receive, send)
    else:
        is_seen = any(each is made_at_startup[0] for each in gc.get_objects())
        await answer(send, f"{gc.get_freeze_count()} {'seen' if is_seen else 'frozen'}".encode())
