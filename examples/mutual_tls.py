"""Mutual TLS: only clients with a certificate that our own authority has signed get in, and they are who it says.

The server asks for the certificate (`--ssl-cert-reqs CERT_REQUIRED --ssl-ca-certs ca.pem`) and verifies it; a client
without one never reaches the application. The application reads the name in the ASGI extension `tls`.
"""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

STAFF = {"CN=ada"}
"""Who may see the accounts. Names are as RFC 4514 writes them, such as `CN=ada,O=Acme`."""


def name_of_client(request: Request) -> str:
    """The name in the client's certificate."""
    name = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_name")
    if name is None:
        raise HTTPException(401, "this server was started without --ssl-cert-reqs CERT_REQUIRED")
    return str(name)


Client = Annotated[str, Depends(name_of_client)]
app = FastAPI(title="Mutual TLS")


@app.get("/whoami")
async def whoami(client: Client) -> dict[str, str]:
    """For everybody with a certificate."""
    return {"name": client}


@app.get("/accounts")
async def accounts(client: Client) -> list[str]:
    """For staff."""
    if client not in STAFF:
        raise HTTPException(403, f"{client} may not see the accounts")
    return ["1001", "1002"]
