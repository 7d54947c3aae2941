"""Whether the server of this container answers, for HEALTHCHECK: exit code 0 or 1. No curl has to be installed."""

import http.client
import sys

PORT = 8000
PATH = "/health"
TIMEOUT_S = 3


def main() -> int:
    """Ask once, on this machine, past any proxy of the environment."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT_S)
    try:
        connection.request("GET", PATH, headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from port {PORT}: {error}")
        return 1
    finally:
        connection.close()
    print(f"{PATH}: {status}")
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
