"""Who is measured: each server's command in its best documented settings for production, and how to install it.

One worker process unless the scenario asks for more, access log off but where it is what is measured, keep-alive of
75 s, lifespan off where there is a switch, uvloop where it can be chosen.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fastasgi.suggest import did_you_mean

from .model import FLOOR, FLOOR_APPLICATION, OURS
from .scenarios import HOST, IdleScenario, Scenario, WebSocketScenario

MANY_CONNECTIONS = 1000
"""From here on servers that limit their connections are told to take more."""


class UnknownName(Exception):
    """No contender or scenario has this name; says which there are."""


@dataclass(frozen=True)
class Place:
    """Where a server runs, and what: the interpreter, the floor program, a port, the scenario."""

    python: Path
    floor: Path | None
    port: int
    scenario: Scenario
    app: str
    answer_file: Path
    """Where the floor's answer stands."""

    @property
    def address(self) -> list[str]:
        """As most servers take it."""
        return ["--host", HOST, "--port", str(self.port)]

    @property
    def workers(self) -> list[str]:
        """As all servers that have them take their number; nothing for one."""
        return ["--workers", str(self.scenario.workers)] if self.scenario.workers > 1 else []

    @property
    def log(self) -> str:
        """As most servers take it."""
        return "--access-log" if self.scenario.access_log else "--no-access-log"

    @property
    def has_many(self) -> bool:
        """Whether more connections come than some servers take without being told."""
        scenario = self.scenario
        if isinstance(scenario, IdleScenario):
            return scenario.connections >= MANY_CONNECTIONS
        return isinstance(scenario, WebSocketScenario) and scenario.sockets >= MANY_CONNECTIONS

    def module(self, name: str, *words: str) -> list[str]:
        """A server that is a module of the interpreter's environment."""
        return [str(self.python), "-m", name, *words]


@dataclass(frozen=True)
class Kind:
    """One contender: its name, its package, how to install it, its settings in words and as a command."""

    name: str
    package: str | None
    install: str
    """What pip is asked for."""
    settings: str
    command: Callable[[Place], list[str]]
    only: frozenset[str] = frozenset()
    """Scenarios in which it takes part; empty: all that it can."""
    has_http: bool = True
    has_deflate: bool = True
    has_workers: bool = True

    @property
    def is_floor(self) -> bool:
        """Whether it is no server, but what the kernel charges."""
        return self.name.startswith(FLOOR)

    def takes_part(self, scenario: Scenario) -> bool:
        """Tell whether this scenario is for this contender."""
        if self.only:
            return scenario.name in self.only
        if isinstance(scenario, WebSocketScenario):
            return self.has_deflate or not scenario.deflate
        if self.is_floor and scenario.floor_answer is None:
            return False
        return self.has_http and (self.has_workers or scenario.workers == 1)


def _floor(place: Place, piece_bytes: int | None = None) -> list[str]:
    command = [str(place.floor), "--port", str(place.port), "--answer", str(place.answer_file)]
    scenario = place.scenario
    if isinstance(scenario, WebSocketScenario):
        return [*command, "--broadcast"] if scenario.sockets else command
    pieces = scenario.floor_piece_bytes if piece_bytes is None else piece_bytes
    return [*command, "--piece", str(pieces)] if pieces else command


def _floor_application(place: Place) -> list[str]:
    return place.module("fastasgi.bench.application", place.scenario.name, "--port", str(place.port))


def _fastasgi(place: Place) -> list[str]:
    return place.module("fastasgi", place.app, *place.address, "--lifespan", "off", place.log, *place.workers)


def _uvicorn(place: Place) -> list[str]:
    faster = ["--http", "httptools", "--loop", "uvloop", "--lifespan", "off", "--timeout-keep-alive", "75"]
    return place.module("uvicorn", place.app, *place.address, *faster, place.log, *place.workers)


def _granian(place: Place) -> list[str]:
    faster = ["--interface", "asginl", "--loop", "uvloop", "--http", "1", "--runtime-threads", "1"]
    faster += ["--workers", str(place.scenario.workers)]
    faster += ["--backpressure", "100000", "--http1-header-read-timeout", "60000"] if place.has_many else []
    return place.module("granian", *place.address, *faster, place.log, place.app)


def _peregrine(place: Place) -> list[str]:
    rest = ["--protocol", "asgi", "--no-lifespan", "--keep-alive", "75000", *place.workers]
    rest += ["--access-log"] if place.scenario.access_log else []
    rest += ["--max-connections", "40000"] if place.has_many else []
    return place.module("peregrine", *place.address, *rest, place.app)


def _h2corn(place: Place) -> list[str]:
    rest = ["--loop", "asyncio", "--lifespan", "off", "--timeout-keep-alive", "75", place.log, *place.workers]
    return place.module("h2corn", "--bind", f"{HOST}:{place.port}", *rest, place.app)


def _gunicorn(place: Place) -> list[str]:
    rest = ["--bind", f"{HOST}:{place.port}", "--workers", str(place.scenario.workers), "--worker-class", "asgi"]
    rest += ["--keep-alive", "75", "--http-parser", "fast", "--asgi-loop", "uvloop", "--asgi-lifespan", "off"]
    rest += ["--worker-tmp-dir", "/dev/shm"]
    rest += ["--worker-connections", "100000"] if place.has_many else []
    return place.module("gunicorn", *rest, *_log_to_stdout(place), place.app)


def _hypercorn(place: Place) -> list[str]:
    rest = ["--bind", f"{HOST}:{place.port}", "--worker-class", "uvloop", "--keep-alive", "75", *place.workers]
    return place.module("hypercorn", *rest, *_log_to_stdout(place), place.app)


def _log_to_stdout(place: Place) -> list[str]:
    return ["--access-logfile", "-"] if place.scenario.access_log else []


def _daphne(place: Place) -> list[str]:
    log = ["--access-log", "-"] if place.scenario.access_log else ["--verbosity", "0"]
    return place.module("daphne", "-b", HOST, "-p", str(place.port), *log, place.app)


def _picows(place: Place) -> list[str]:
    return place.module("picows_app", str(place.port), place.app.partition(":")[2])


def _socketify(place: Place) -> list[str]:
    return place.module("socketify", place.app, *place.address, "--workers", "1", "--interface", "asgi")


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            FLOOR,
            None,
            "",
            "C: epoll, recv, send of a fixed answer (WebSocket: of the message); no server, what the kernel charges",
            _floor,
            has_deflate=False,
            has_workers=False,
        ),
        Kind(
            "floor-gathered",
            None,
            "",
            "the floor, with all pieces of a stream in one send: what gathering them can save",
            lambda place: _floor(place, 0),
            only=frozenset({"stream", "sse"}),
        ),
        Kind(
            FLOOR_APPLICATION,
            None,
            "",
            "the floor, and the application in a task for each request: what no server can save",
            _floor_application,
            only=frozenset({"plain", "json", "headers", "echo", "fastapi", "starlette", "django", "download"}),
        ),
        Kind(OURS, "fastasgi", "fastasgi", "as installed: uvloop, own socket I/O; lifespan off", _fastasgi),
        Kind(
            "uvicorn",
            "uvicorn",
            "uvicorn[standard]",
            "its [standard] extra: httptools, uvloop, websockets; lifespan off",
            _uvicorn,
        ),
        Kind(
            "granian",
            "granian",
            "granian[uvloop]",
            "asginl (ASGI without lifespan), uvloop, HTTP/1 only, one runtime thread; it has no compression",
            _granian,
            has_deflate=False,
        ),
        Kind(
            "peregrine",
            "peregrine-server",
            "peregrine-server[uvloop]",
            "as documented: it takes uvloop by itself; lifespan off",
            _peregrine,
        ),
        Kind("h2corn", "h2corn", "h2corn", "asyncio, its faster loop; lifespan off", _h2corn),
        Kind(
            "gunicorn",
            "gunicorn",
            "gunicorn gunicorn_h1c uvloop",
            "worker class asgi, its C parser, uvloop, heartbeat in /dev/shm; lifespan off",
            _gunicorn,
        ),
        Kind("hypercorn", "hypercorn", "hypercorn uvloop", "worker class uvloop", _hypercorn),
        Kind("daphne", "daphne", "daphne", "as shipped: Twisted over asyncio, silent", _daphne, has_workers=False),
        Kind(
            "picows",
            "picows",
            "picows",
            "a listener of its own, not ASGI: a library of frames; uvloop",
            _picows,
            has_http=False,
            has_deflate=False,
        ),
        Kind("socketify", "socketify", "socketify", "its ASGI interface", _socketify, has_http=False),
    )
}
PEERS = tuple(name for name, kind in KINDS.items() if name != OURS and not kind.is_floor)


def choose(names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """Return the names, each once, in their order; raise UnknownName for one that is not known."""
    known = list(known)
    chosen = dict.fromkeys(name.strip() for name in names if name.strip())
    for name in chosen:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UnknownName(f"expected {what} of {', '.join(known)}, got {name!r}{hint}")
    return list(chosen)
