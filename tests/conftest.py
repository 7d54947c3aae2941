"""Shared by all tests: marks, the runner of async tests, time limits, and the search for what is left over.

- `async def` tests run in a fresh event loop each, on asyncio, or on the loop named by the fixture
  `event_loop_kind` (asyncio and uvloop) where a test asks for it.
- A test fails when it leaves a task, a file descriptor, a channel, an exchange, or a call of the loop's
  exception handler behind. Runtimes are found by the fixture `watch_runtime(runtime)`.
- A test fails after `TIME_LIMIT_S`, or what `@pytest.mark.time_limit(seconds)` says.
- A test fails when it tells the executors of this process of its end: those behind it would have none.
- A test that starts a process gets the mark `process` (see `starts.py`): `-m "not process"` leaves it out.
"""

import asyncio
import concurrent.futures.thread
import contextlib
import faulthandler
import gc
import inspect
import os
import signal
import sys
import threading

import pytest
from starts import starts_processes
from waiting import open_fds

TIME_LIMIT_S = 30.0
# A test stuck in C never runs the Python signal handler: this much later the process dumps and dies.
HARD_LIMIT_EXTRA_S = 15.0
# How often a leftover may still go away by itself: one turn of the loop each.
GRACE_TURNS = 10

try:
    import uvloop
except ImportError:  # not on this platform
    uvloop = None

LOOP_KINDS = ["asyncio", "uvloop"] if uvloop is not None else ["asyncio"]
if uvloop is not None:
    # libuv opens a pipe for signals with the first loop and keeps it: not the leak of any test
    uvloop.new_event_loop().close()


def pytest_configure(config):
    """Register our marks, so that `--strict-markers` knows them."""
    config.addinivalue_line("markers", "pins(*ids): which lines of behaviours.toml this test pins")
    config.addinivalue_line("markers", "time_limit(seconds): this test may take longer (or less)")
    config.addinivalue_line("markers", "leaves(*what): may leave behind 'tasks', 'fds', 'channels' or 'errors'")
    # pytest replaces descriptor 2 during a test; the dump of a dying process must still be seen.
    config.stash[_STDERR] = os.fdopen(os.dup(sys.__stderr__.fileno()), "w")


_STDERR = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests that start processes, before `-m` is looked at."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        if starts_processes((item.function, *(each.func for several in fixtures for each in several))):
            item.add_marker("process")


def pytest_collection_finish(session):
    """Hide thousands of tests and their modules from the collector: each full collection would take a second."""
    gc.collect()
    gc.freeze()


# ------------------------------------------------------------------------------------- time limits
class TimeLimitExceeded(BaseException):
    """A test took too long. Not an `Exception`, so that no handler on the way swallows it."""


def _on_alarm(signum, frame):
    raise TimeLimitExceeded("the test took longer than its time limit")


def _limit_s(item):
    mark = item.get_closest_marker("time_limit")
    return float(mark.args[0]) if mark else TIME_LIMIT_S


@contextlib.contextmanager
def time_limit(seconds, stderr):
    """Raise in the main thread after `seconds`; dump all stacks and die somewhat later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + HARD_LIMIT_EXTRA_S, exit=True, file=stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Run each test under its time limit."""
    seconds = _limit_s(item) + 1.0  # an async test ends by its own timeout before
    with time_limit(seconds, item.config.stash[_STDERR]):
        outcome = yield
    # the BaseException of the alarm would end the whole session: make a failure of it
    if outcome.excinfo and issubclass(outcome.excinfo[0], TimeLimitExceeded):
        outcome.force_exception(AssertionError(f"took longer than {seconds} s"))


# ------------------------------------------------------------------------------------- event loops
def loop_factory(kind):
    """The factory of loops for a kind of `LOOP_KINDS`."""
    return uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop


@pytest.fixture(params=LOOP_KINDS)
def event_loop_kind(request):
    """Run the test once on each event loop that is installed."""
    return request.param


def _allowed(item):
    mark = item.get_closest_marker("leaves")
    return set(mark.args) if mark else set()


async def _run_watched(function, arguments, allowed, limit_s):
    """Run one async test; return what it left in its loop, as lines for the failure."""
    loop = asyncio.get_running_loop()
    errors = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    before = asyncio.all_tasks()
    async with asyncio.timeout(limit_s):  # uvloop swallows what the alarm raises
        await function(**arguments)
    for _ in range(GRACE_TURNS):
        left = asyncio.all_tasks() - before
        if not left:
            break
        await asyncio.sleep(0)
    lines = []
    if "tasks" not in allowed:
        lines += [f"task left over: {task!r}" for task in left]
    if "errors" not in allowed:
        lines += [f"exception handler called: {context!r}" for context in errors]
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run `async def` tests; other tests go the ordinary way."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    kind = pyfuncitem.funcargs.get("event_loop_kind", "asyncio")
    with asyncio.Runner(loop_factory=loop_factory(kind)) as runner:
        lines = runner.run(_run_watched(function, arguments, _allowed(pyfuncitem), _limit_s(pyfuncitem)))
    assert not lines, "\n".join(lines)
    return True


# -------------------------------------------------------------------------------------- left over
@pytest.fixture
def watch_runtime():
    """A function to call with each Runtime that a test makes: no channel or exchange of it may stay."""
    runtimes = []

    def watch(runtime):
        runtimes.append(runtime)
        return runtime

    yield watch
    for runtime in runtimes:
        assert runtime.connections == 0, f"{runtime.connections} channels left over"
        assert runtime.requests_active == 0, f"{runtime.requests_active} exchanges left over"


@pytest.fixture(autouse=True)
def nothing_left_over(request):
    """Fail a test that leaves a file descriptor open."""
    before = open_fds()
    yield
    if before is None or "fds" in _allowed(request.node):
        return
    left = _new_fds(before)
    if left:
        gc.collect()
        left = _new_fds(before)
    assert not left, f"file descriptors left over: {left}"


@pytest.fixture(autouse=True)
def executors_go_on():
    """Fail the test that ends the executors of this process, and not those behind it that need one."""
    yield
    was_ended, concurrent.futures.thread._shutdown = concurrent.futures.thread._shutdown, False
    assert not was_ended, "the executors of this process were told of its end"


@pytest.fixture
def only_new():
    """For tests that have the collector run often: it sees nothing of what was there before, which takes it long."""
    gc.collect()
    gc.freeze()


def _new_fds(before):
    after = open_fds()
    # the entry of the directory that listdir itself had open is gone by now and has no link
    return {fd: what for fd, what in after.items() if before.get(fd) != what}
