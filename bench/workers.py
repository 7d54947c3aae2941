"""What workers cost: memory with and without `--preload on`, and the time from SIGHUP until all are replaced.

    python bench/workers.py --workers 8

Serves a FastAPI application (an import of some size). Memory is PSS: each page counts for the share of it that
a process has, so the sum over all processes is what they really take (Linux).
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0

APP = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root():
    return {"hello": "world"}
"""


class Server:
    """A supervisor with its workers."""

    def __init__(self, folder, workers, preload):
        self.log = folder / f"log-{preload}"
        command = [sys.executable, "-m", "fastasgi", "app:app", "--app-dir", str(folder), "--port", "0"]
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                [*command, "--workers", str(workers), "--preload", preload],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def wait_for(self, text):
        """Until it has written this; what was found."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not (found := re.search(text, self.log.read_text())):
            if time.monotonic() > deadline_s or self.child.poll() is not None:
                raise SystemExit(f"{text!r} was not written:\n{self.log.read_text()}")
            time.sleep(0.01)
        return found

    def processes(self):
        """The supervisor and its workers."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        return [self.child.pid, *map(int, children)]

    def end(self):
        """Stop it."""
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(PATIENCE_S)


def pss_mib(pid):
    """Proportional share of memory."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+) kB", rollup, re.M)[1]) / 1024


def main():
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "app.py").write_text(APP)
        for preload in ("off", "on"):
            server = Server(folder, options.workers, preload)
            ready = server.wait_for(r"ready in ([\d.]+) s")
            shares = [pss_mib(pid) for pid in server.processes()]
            server.child.send_signal(signal.SIGHUP)
            replaced = server.wait_for(r"All workers are replaced, in ([\d.]+) s")
            server.end()
            print(
                f"preload {preload}: {options.workers} workers ready in {ready[1]} s; all processes "
                f"{sum(shares):.0f} MiB (PSS), supervisor {shares[0]:.1f}, "
                f"a worker {sum(shares[1:]) / options.workers:.1f}; "
                f"SIGHUP to all replaced {replaced[1]} s"
            )


if __name__ == "__main__":
    main()
