"""How a process ends whose application may have started threads that never do."""

from __future__ import annotations

import sys
import threading
import time

THREADS_GRACE_S = 5.0
"""How long threads of the application may go on when everything else has ended."""


def end_executors() -> None:
    """Tell the threads of executors that the interpreter ends: those that only wait for work then end at once.

    The interpreter does so itself before it waits for threads, and most applications leave it to that. Nothing can be
    given to any executor afterwards. It also waits for them, without a bound; so that is done in a thread.
    """
    executors = sys.modules.get("concurrent.futures.thread")
    if executors is not None:
        threading.Thread(target=executors._python_exit, name="fastasgi-executors", daemon=True).start()


def threads_left(grace_s: float = THREADS_GRACE_S) -> list[str]:
    """Wait for the threads that the interpreter would wait for at exit, without its lack of a bound; the names of
    those that are left then."""
    deadline_s = time.monotonic() + grace_s
    left = [thread for thread in threading.enumerate() if _is_waited_for(thread)]
    for thread in left:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    return [thread.name for thread in left if thread.is_alive()]


def _is_waited_for(thread: threading.Thread) -> bool:
    # The threads of executors are daemons in name on some versions, and joined at exit on all of them.
    in_executor = thread.name.startswith(("asyncio_", "ThreadPoolExecutor"))
    return thread is not threading.current_thread() and (not thread.daemon or in_executor)
