"""`python -m fastasgi.bench`: measure this server, alone or against others."""

import sys

if not sys.platform.startswith("linux"):
    sys.exit("bench: expected Linux, whose /proc tells what servers cost; this is " + sys.platform)

from .command import main  # what it imports needs epoll

if __name__ == "__main__":
    main()
