"""Certificates and keys for the tests of TLS, made once."""

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Files:
    """Paths of PEM files, and the authority that signed the certificates."""

    folder: Path
    authority: trustme.CA

    def __getattr__(self, name):
        return str(self.folder / f"{name}.pem")


@functools.cache
def files():
    """cert, key, both, sealed (the key, encrypted), other (another key), ca, stranger (an authority), client, der."""
    folder = Path(tempfile.mkdtemp(prefix="fastasgi-tls-"))
    atexit.register(shutil.rmtree, folder)
    authority, stranger = trustme.CA(), trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    client = authority.issue_cert("me@example.com", common_name="me, myself", organization_name="Acme")
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
    contents = {
        "cert": server.cert_chain_pems[0].bytes(),
        "key": server.private_key_pem.bytes(),
        "both": server.private_key_and_cert_chain_pem.bytes(),
        "sealed": sealed,
        "other": authority.issue_cert("localhost").private_key_pem.bytes(),
        "ca": authority.cert_pem.bytes(),
        "stranger": stranger.cert_pem.bytes(),
        "client": client.private_key_and_cert_chain_pem.bytes(),
        "foreign": stranger.issue_cert("me@example.com").private_key_and_cert_chain_pem.bytes(),
        "der": b"0\x82\x01\x00 not PEM",
        "text": b"this is no certificate\n",
        "broken": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "broken_key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    }
    for name, content in contents.items():
        (folder / f"{name}.pem").write_bytes(content)
    return Files(folder, authority)
