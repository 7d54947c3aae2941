"""A client of `mutual_tls.py`: shows its own certificate, and verifies the server's.

    python examples/mutual_tls_client.py https://localhost:8443/accounts --ca ca.pem --cert ada.pem --key ada.key
"""

import argparse
import ssl
import sys

import httpx


def fetch(url: str, ca: str, cert: str | None, key: str | None) -> httpx.Response:
    """Ask once. `cert` and `key` are PEM files, or None for a client that has nothing to show."""
    context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert, key)
    with httpx.Client(verify=context) as client:
        return client.get(url)


def main() -> int:
    """Read the command line, ask, print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--ca", required=True, help="the authority that signed the server's certificate")
    parser.add_argument("--cert", help="our certificate")
    parser.add_argument("--key", help="its private key")
    options = parser.parse_args()
    try:
        answer = fetch(options.url, options.ca, options.cert, options.key)
    except httpx.TransportError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    print(answer.status_code, answer.text)
    return 0 if answer.is_success else 1


if __name__ == "__main__":
    sys.exit(main())
