"""ending: threads are waited for as the interpreter does, but not for ever."""

import threading

from fastasgi.ending import threads_left


def test_threads():
    done = threading.Event()
    endless = threading.Thread(target=done.wait, name="endless")
    daemon = threading.Thread(target=done.wait, name="daemon", daemon=True)
    of_executor = threading.Thread(target=done.wait, name="asyncio_0", daemon=True)
    for thread in (endless, daemon, of_executor):
        thread.start()
    assert threads_left(0.01) == ["endless", "asyncio_0"]
    threading.Timer(0.01, done.set).start()
    assert threads_left(10) == []
    daemon.join()
