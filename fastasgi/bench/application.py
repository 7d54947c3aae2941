"""The floor with an application, as a program: `python -m fastasgi.bench.application SCENARIO --port 8000`.

The contender `floor-application` of the benchmark: see `_application.pyx`. Linux only.
"""

import argparse
import asyncio
import gc
import signal

import uvloop

from ._application import ApplicationFloor
from .alone import always, check, content_of, done, find_app, make_scope
from .scenarios import HTTP, HttpScenario

SCENARIOS = {scenario.name: scenario for scenario in HTTP}


async def serve(scenario: HttpScenario, port: int) -> None:
    """Answer the scenario's requests with its fixed answer, after the application has run; until SIGTERM or SIGINT.

    What the application raises is raised here.
    """
    assert scenario.floor_answer is not None
    loop = asyncio.get_running_loop()
    app = find_app(scenario.app)
    await check(app, scenario)
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    receive = always(done(loop, content_of(scenario.request)))
    floor = ApplicationFloor(app, make_scope(scenario.request), receive, scenario.floor_answer, port, ended)
    gc.collect()
    gc.freeze()  # as the server does with what its start has made
    try:
        await ended
    finally:
        floor.stop()


def main(arguments: list[str] | None = None) -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m fastasgi.bench.application", description=__doc__)
    answered = [name for name, scenario in SCENARIOS.items() if scenario.floor_answer is not None]
    parser.add_argument("scenario", choices=answered)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(arguments)
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(serve(SCENARIOS[options.scenario], options.port))
    finally:
        loop.close()


if __name__ == "__main__":
    main()
