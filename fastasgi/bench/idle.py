"""What an idle keep-alive connection costs: memory of each, and CPU of all of them together.

Opens connections from several loopback addresses, asks once on each, and waits. Growth is taken from a first batch on,
so that what a server allocates once is not charged to connections.
"""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

from .machine import Cpu, Memory, cpu_of, memory_of
from .scenarios import HOST, IdleScenario
from .servers import RunningServer
from .verify import TIMEOUT_S, WrongAnswer, check, read_answer

ADDRESSES = 8
"""127.0.0.1 to 127.0.0.8: each has ports for some 28,000 connections to one server."""
FIRST_BATCH = 200
SETTLE_S = 0.5
SPARE_FILES = 500


@dataclass(frozen=True)
class Idled:
    """What so many connections cost a server."""

    connections: int
    before: Memory
    """With a first batch of connections."""
    after: Memory
    cpu: Cpu
    """While they said nothing."""
    seconds: float


def raise_file_limit(files: int) -> int:
    """Raise the limit of open files for us and for what we start, as far as it goes; return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < files:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        except (ValueError, OSError):
            files = hard  # not ours to raise: the caller decides whether that is enough
        else:
            return files
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(files, hard)), hard))
    return max(soft, min(files, hard))


def open_connection(server: RunningServer, scenario: IdleScenario, number: int) -> socket.socket:
    """Open one connection and take one right answer on it; raises WrongAnswer."""
    connection = socket.socket()
    try:
        connection.settimeout(TIMEOUT_S)
        # Without this option every bind takes a port for all peers at once.
        connection.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        connection.bind((f"127.0.0.{1 + number % ADDRESSES}", 0))
        connection.connect((HOST, server.port))
        connection.sendall(scenario.request)
        check(scenario, read_answer(HTTPResponse(connection)), scenario.body)
    except (OSError, HTTPException) as error:
        connection.close()
        came = f"{type(error).__name__}: {error}"
        raise WrongAnswer(f"expected an answer on connection {number + 1}, got {came}") from error
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def connections(server: RunningServer, scenario: IdleScenario, numbers: range) -> Iterator[list[socket.socket]]:
    """One connection for each number; raise WrongAnswer where the server does not take it."""
    opened: list[socket.socket] = []
    try:
        for number in numbers:
            opened.append(open_connection(server, scenario, number))
        yield opened
    finally:
        for connection in opened:
            connection.close()


def is_open(connection: socket.socket) -> bool:
    """Tell whether the server has kept this connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def idle(server: RunningServer, scenario: IdleScenario, seconds: float) -> Idled:
    """Open the connections, let them idle for some seconds, and return what they cost.

    Raises WrongAnswer where the server does not take all of them, or has closed any.
    """
    count = scenario.connections
    with connections(server, scenario, range(FIRST_BATCH)) as first:
        time.sleep(SETTLE_S)
        before = memory_of(server.pids)
        with connections(server, scenario, range(FIRST_BATCH, FIRST_BATCH + count)) as opened:
            time.sleep(SETTLE_S)
            pids = server.pids
            after, cpu = memory_of(pids), cpu_of(pids)
            time.sleep(seconds)
            used = cpu_of(pids) - cpu
            if closed := sum(not is_open(connection) for connection in (*first, *opened)):
                raise WrongAnswer(f"expected {len(first) + count} idle connections to be kept, it closed {closed}")
    return Idled(connections=count, before=before, after=after, cpu=used, seconds=seconds)
