"""One door to the scripts of this folder: `python -m bench [NAME] OPTIONS`, with a name of SCRIPTS.

Without a name it compares; `make bench ARGS="..."` builds first and then comes here.
"""

import importlib
import sys
from pathlib import Path

SCRIPTS = ("compare", "ws_compare", "idle", "startup", "syscalls", "engine", "callgrind")


def main() -> None:
    """Run the named script with the arguments that follow its name."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and arguments[0] in SCRIPTS else "compare"
    sys.argv[0] = f"bench {name}"
    sys.exit(importlib.import_module(name).main(arguments))


if __name__ == "__main__":
    main()
