"""`python -m fastasgi.spawned`: a worker that was not forked. It reads what it needs from its standard input."""

from __future__ import annotations

import os
import pickle
import socket
import sys

from ._scoreboard import Scoreboard
from .child import Birth, Parcel, leave_process, signal_handlers, work
from .config import Config
from .reactor import take_own_signals


def main() -> int:
    """Unpack, and serve; the exit code."""
    parcel: Parcel = pickle.load(sys.stdin.buffer)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for as long as the process lives
    take_own_signals(signal_handlers())
    for fd in (parcel.board_fd, parcel.link_fd, parcel.dump_fd, *parcel.socket_fds):
        os.set_inheritable(fd, False)
    birth = Birth(
        slot=Scoreboard(parcel.slots, parcel.board_fd).slot(parcel.index),
        link=socket.socket(fileno=parcel.link_fd),
        dump_fd=parcel.dump_fd,
        sockets=[socket.socket(fileno=fd) for fd in parcel.socket_fds],
        supervisor=parcel.supervisor,
    )
    return work(Config(**parcel.options), birth)


if __name__ == "__main__":
    leave_process(main())
