"""Autobahn|Testsuite against an echo server of ours, over both bodies of a connection.

    python tests/autobahn/run.py                              all 517 cases, over both
    python tests/autobahn/run.py --io socket --cases '1.*,6.*'
    python tests/autobahn/run.py --url ws://127.0.0.1:9001    any other server

The cases are Autobahn's own files, run by `kosoku`. Each must be OK or INFORMATIONAL, in what was exchanged and in how
the connection was closed; NON-STRICT fails. A case that is missing fails too: `SECTIONS` says how many there are.
"""

import argparse
import asyncio
import fnmatch
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kosoku import FailureError, run_fuzzingclient
from kosoku.cases import CASES
from process import running

IOS = ("socket", "transport")
# How many cases each section has, with its title.
SECTIONS = {
    "1": (16, "framing"),
    "2": (11, "pings and pongs"),
    "3": (7, "reserved bits"),
    "4": (10, "opcodes"),
    "5": (20, "fragmentation"),
    "6": (145, "UTF-8"),
    "7": (37, "closing"),
    "9": (54, "limits and performance"),
    "10": (1, "auto-fragmentation"),
    "12": (90, "compression, sizes"),
    "13": (126, "compression, parameters"),
}
ACCEPTED = {"OK", "INFORMATIONAL"}
# Every message is compressed: kosoku hands one that came as it is to the cases as str, which those of section 12 hash.
# A case of section 12 or 13 that sees a ping of the server ends unfinished; some take longer than 20 s.
OPTIONS = ("--lifespan", "off", "--no-access-log", "--ws-deflate-min-size", "0", "--ws-ping-interval", "600")


def chosen_cases(patterns: list[str]) -> list[str]:
    """The cases that match, in their order."""
    return [case for case in CASES if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)]


def missing_cases() -> list[str]:
    """Sections in which the installed suite does not have the number of cases that it should."""
    found = Counter(case.partition(".")[0] for case in CASES)
    wanted = {section: count for section, (count, _) in SECTIONS.items()}
    names = found.keys() | wanted.keys()
    return [f"section {name}: {found[name]} cases, not {wanted.get(name, 0)}" for name in names
            if found[name] != wanted.get(name, 0)]  # fmt: skip


async def run_cases(url: str, cases: list[str], concurrency: int) -> list:
    """The result of each case."""
    try:
        return await run_fuzzingclient(url, cases, concurrency=concurrency)
    except FailureError as failure:
        return failure.results


def is_clean(result) -> bool:
    """Nothing but OK and INFORMATIONAL."""
    return result.behavior.value in ACCEPTED and result.behavior_close.value in ACCEPTED


def summary(results: list, cases: list[str]) -> list[str]:
    """A table of the sections."""
    lines = [f"{'section':<30} {'cases':>5} {'ran':>5}  behaviour; closing"]
    for section, (_, title) in SECTIONS.items():
        wanted = [case for case in cases if case.partition(".")[0] == section]
        ran = [result for result in results if result.case_id.partition(".")[0] == section]
        if wanted:
            verdicts = counted(one.behavior for one in ran), counted(one.behavior_close for one in ran)
            lines.append(f"{section + ' ' + title:<30} {len(wanted):>5} {len(ran):>5}  {'; '.join(verdicts)}")
    return lines


def counted(verdicts: Iterable) -> str:
    """How often each was given."""
    found = Counter(verdict.value for verdict in verdicts)
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.items()))


def complaint(result) -> str:
    """What a developer wants to know of a case that failed."""
    verdict = f"{result.behavior.value}, closing {result.behavior_close.value}"
    told = f"{result.result} / {result.result_close}"
    return f"{result.case_id}: {verdict}\n    {told}\n    expected {str(result.expected)[:300]}\n    " \
        f"received {str(result.received)[:300]}\n    close {result.remote_close_code} {result.remote_close_reason!r}"


def judge(name: str, results: list, cases: list[str], seconds: float) -> bool:
    """Print what came of a run; whether all of it is well."""
    failed = [result for result in results if not is_clean(result)]
    ran = sorted(result.case_id for result in results)
    print("\n".join(summary(results, cases)))
    for result in failed:
        print(complaint(result))
    well = not failed and ran == sorted(cases)
    if ran != sorted(cases):
        print(f"cases that gave no result: {sorted(set(cases) - set(ran))}")
    verdict = "all OK or INFORMATIONAL" if well else f"{len(failed)} failed"
    print(f"{name}: {len(results)} of {len(cases)} cases ran in {seconds:.0f} s, {verdict}", flush=True)
    return well


def run_against(name: str, url: str, cases: list[str], concurrency: int) -> bool:
    """One run of all chosen cases."""
    began = time.monotonic()
    results = asyncio.run(run_cases(url, cases, concurrency))
    return judge(name, results, cases, time.monotonic() - began)


def run_against_ours(io: str, cases: list[str], concurrency: int) -> bool:
    """The same against a server of ours; what it logs as an error fails the run."""
    with running("ws_apps:echo", *OPTIONS, io=io) as server:
        host, port = server.address
        well = run_against(f"fastasgi, io={io}", f"ws://{host}:{port}", cases, concurrency)
        logged = [line for line in server.log().splitlines() if line.startswith(("ERROR", "Traceback", "WARNING"))]
    if logged:
        print(f"the server logged {len(logged)} errors, the first: {logged[0]}")
    return well and not logged


def main() -> int:
    """The command line; exit code 1 unless every case is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", choices=(*IOS, "both"), default="both")
    parser.add_argument("--cases", default="*", help="ids or patterns, with commas between them")
    parser.add_argument("--url", help="the server to test; without it, one of ours is started")
    parser.add_argument("--concurrency", type=int, default=4)
    options = parser.parse_args()
    if missing := missing_cases():
        print("\n".join(missing))
        return 1
    cases = chosen_cases(options.cases.split(","))
    if not cases:
        parser.error(f"no case matches {options.cases}")
    if options.url:
        return 0 if run_against(options.url, options.url, cases, options.concurrency) else 1
    ios = IOS if options.io == "both" else (options.io,)
    verdicts = [run_against_ours(io, cases, options.concurrency) for io in ios]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
