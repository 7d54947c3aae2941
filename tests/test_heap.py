"""What the collector of a serving process does not look at again."""

import subprocess
import sys

import pytest
from process import ROOT, running

FROZEN = "import gc; from fastasgi.heap import freeze_heap; {0}; freeze_heap(); print(gc.get_freeze_count())"


def in_a_process(before):
    """How many objects are frozen in a new process that does this before."""
    code = FROZEN.format(before)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_what_is_there_is_frozen():
    assert in_a_process("kept = [[] for _ in range(5000)]") > 5000


def test_garbage_goes_first():
    """Frozen it would never go."""
    code = "import weakref; Thing = type('Thing', (), {}); it = Thing(); it.own = it; seen = weakref.ref(it); del it"
    check = code + "; freeze_heap(); assert seen() is None"
    assert in_a_process(check) > 0


def test_a_collector_that_is_off_stays_alone():
    """The application has its reasons."""
    assert in_a_process("gc.disable()") == 0


def test_embedding_leaves_the_heap_alone():
    """It is the program's, not the server's."""
    code = (
        "import asyncio, gc, fastasgi\n"
        "async def app(scope, receive, send): pass\n"
        "async def main():\n"
        "    async with fastasgi.serve(app, port=0, lifespan='off', log_config=None):\n"
        "        print(gc.get_freeze_count())\n"
        "asyncio.run(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "0\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_freezes_what_its_application_made_at_its_start(workers):
    """When its lifespan has started, before it accepts."""
    with running("frozen", "--workers", str(workers)) as server:
        told = server.connect().get("/").body.decode()
    frozen, made_at_start = told.split()
    assert int(frozen) > 10_000
    assert made_at_start == "frozen"


RUN_TWICE = """
import gc, os, signal, threading, weakref
import fastasgi

class Thing:
    pass

def serve():
    it = Thing()
    it.own = it

    async def app(scope, receive, send):
        it

    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    fastasgi.run(app, port=0, log_config=None, lifespan="off")
    return weakref.ref(it)

seen = [serve(), serve()]
gc.collect()
print(gc.get_freeze_count(), [each() is None for each in seen])
"""


def test_a_program_that_goes_on_behind_run_has_its_heap_back():
    run = subprocess.run([sys.executable, "-c", RUN_TWICE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "0 [True, True]\n"
