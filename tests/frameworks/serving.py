"""A framework's application in a server of its own process, started and stopped as a user does it.

`Site` runs `python -m fastasgi frameworks.NAME_app:app --port 0`, learns the port from what the server
prints, and keeps every line of both streams. Nothing here sleeps: threads read the streams, tests wait for
lines. `Visit` is one test's view of it: only the lines since the test began.
"""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from process import no_alarm

TESTS = Path(__file__).parent.parent
PATIENCE_S = 15.0

FRAMEWORKS = {"starlette", "fastapi", "django", "quart", "litestar", "falcon", "blacksheep", "channels"}
WITHOUT_LIFESPAN = {"django", "channels"}

# What a client that leaves makes of some frameworks: by chance, and nobody's fault.
LEFT = "INFO:     client left: "
RUNNING = re.compile(r"INFO: +fastasgi running on (http://\S+:\d+|unix:\S+) \(Press CTRL\+C to quit\)")
ERROR = re.compile(
    r"^(ERROR|CRITICAL|WARNING)|^django (ERROR|WARNING)|ERROR in app|^(\[FALCON\] )?Unhandled exception", re.M
)
TRACEBACK = "Traceback (most recent call last):"


class Lines:
    """The lines of one stream, as they come."""

    def __init__(self, stream) -> None:
        self.all: list[str] = []
        self._ended = False
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream) -> None:
        for line in stream:
            with self._more:
                self.all.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()
        stream.close()

    def wait(self, pattern: str, start: int = 0, times: int = 1, patience_s: float = PATIENCE_S) -> re.Match:
        """The match of the first line from `start` on that has `pattern` (of the last of so many `times`)."""
        found: list[re.Match] = []
        until = time.monotonic() + patience_s
        with self._more:
            while True:
                found = [match for line in self.all[start:] if (match := re.search(pattern, line))]
                if len(found) >= times:
                    return found[times - 1]
                assert not self._ended, f"no line {pattern!r}, it ended; lines:\n" + "\n".join(self.all[start:])
                left = until - time.monotonic()
                assert left > 0, f"no line {pattern!r} in {patience_s} s; lines:\n" + "\n".join(self.all[start:])
                self._more.wait(left)

    def close(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(PATIENCE_S)


class Site:
    """One running server."""

    def __init__(self, framework: str, *argv: str, io: str = "auto", loop: str = "auto") -> None:
        self.framework = framework
        self.app = f"frameworks.{framework}_app:app"
        listen = () if {"--uds", "--port"} & set(argv) else ("--port", "0")
        self.child = None
        try:
            with no_alarm():
                self.child = subprocess.Popen(
                    [sys.executable, "-m", "fastasgi", self.app, *listen, "--loop", loop, *argv],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=TESTS,
                    env={**os.environ, "PYTHONPATH": str(TESTS.parent), "FASTASGI_IO": io},
                )
            self.out, self.err = Lines(self.child.stdout), Lines(self.child.stderr)
            self.url = self.err.wait(RUNNING.pattern)[1]
        except BaseException:
            if self.child is not None:
                self.child.kill()
                self.child.wait()
            raise
        self.started_with = len(self.err.all)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def mark(self, query: str = "") -> None:
        """Have the application write a line: what it did before has been written then.

        More than once, each on a connection of its own, so that tasks that were told of something have had
        turns of the loop.
        """
        for _ in range(3):
            start = len(self.err.all)
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
            with contextlib.closing(connection):
                connection.request("GET", f"/mark{query}")
                assert connection.getresponse().status == 204
            self.err.wait("^event: mark$", start)

    def stop(self, number: int = signal.SIGINT) -> list[str]:
        """Stop it as a user does; what it said from then on."""
        start = len(self.err.all)
        self.child.send_signal(number)
        try:
            code = self.child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("still running; it wrote:\n" + "\n".join(self.err.all[start:])) from None
        self.out.close()
        self.err.close()
        assert code == 0, "\n".join(self.err.all[start:])
        return self.err.all[start:]

    def kill(self) -> None:
        """End it in any case."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self.out.close()
        self.err.close()


class Visit:
    """One test's view of a site."""

    def __init__(self, site: Site) -> None:
        self.site, self.url = site, site.url
        self._out, self.start = len(site.out.all), len(site.err.all)

    @property
    def framework(self) -> str:
        """Channels is Django, but for WebSockets."""
        return "django" if self.site.framework == "channels" else self.site.framework

    def wait_event(self, text: str, times: int = 1) -> None:
        """Wait until the application told this, so often."""
        self.site.err.wait(f"^event: {re.escape(text)}$", self.start, times)

    def wait_stopped(self, text: str, times: int = 1) -> None:
        """Wait until so many streams were ended by the departure of their client; no more may have."""
        until = time.monotonic() + PATIENCE_S
        while (count := self.events().count(text)) < times:
            assert time.monotonic() < until, f"{text!r} came {count} times, not {times}"
            self.site.mark("?collect=1")
        assert count == times

    def wait_access(self, request: str, status: int) -> None:
        """Wait for an access line."""
        pattern = rf'^INFO:     127\.0\.0\.1:\d+ - "{re.escape(request)} HTTP/1\.[01]" {status} \w'
        self.site.out.wait(pattern, self._out)

    def said(self) -> str:
        """What the server and its application logged, without events."""
        self.site.mark()
        lines = self.site.err.all[self.start :]
        return "\n".join(line for line in lines if not line.startswith(("event: ", LEFT)))

    def events(self) -> list[str]:
        """What the application told."""
        self.site.mark()
        lines = self.site.err.all[self.start :]
        return [line[7:] for line in lines if line.startswith("event: ") and line != "event: mark"]

    def assert_one_error(self, last: str) -> str:
        """Exactly one error was logged, with one traceback that ends in `last`; nothing else was."""
        said = self.said()
        assert len(ERROR.findall(said)) == 1, said
        assert ERROR.match(said) or self.framework == "quart", said
        assert said.count(TRACEBACK) == 1, said
        assert said.splitlines()[-1] == last, said
        self.forgive()
        return said

    def forgive(self) -> None:
        """What was logged up to here was expected."""
        self.start = len(self.site.err.all)


def without(*frameworks):
    """These frameworks have no such thing. (No mark: pytest would see the test before it knows the mark.)"""

    def mark(test):
        test.lacking = (*frameworks, "channels") if "django" in frameworks else frameworks
        return test

    return mark


def only(*frameworks):
    """The opposite of `without`."""
    return without(*(FRAMEWORKS - set(frameworks)))
