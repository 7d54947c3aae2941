"""One door to the scripts of this folder: `python -m bench NAME OPTIONS`, with a name of SCRIPTS.

What users measure with is `python -m fastasgi.bench`.
"""

import importlib
import sys
from pathlib import Path

SCRIPTS = ("idle", "startup", "syscalls", "engine", "bound", "callgrind", "budgets", "listening", "workers")


def main() -> None:
    """Run the named script with the arguments that follow its name."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    name, *arguments = sys.argv[1:] or [""]
    if name not in SCRIPTS:
        known = ", ".join(SCRIPTS)
        sys.exit(f"bench: expected one of {known}, got {name!r}; to compare servers: python -m fastasgi.bench")
    sys.argv = [f"bench {name}", *arguments]
    sys.exit(importlib.import_module(name).main())


if __name__ == "__main__":
    main()
