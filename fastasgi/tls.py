"""TLS: the options of a server to an `ssl.SSLContext`, and a connection to the ASGI extension `tls`.

Every file that cannot be used is named in one sentence before the server listens: OpenSSL's own errors ("PEM lib") name
neither the file nor the cure. The loop encrypts, beneath `TransportChannel`; a faster way would begin where
`Acceptor` is given the context.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from .errors import StartupError

ALPN_PROTOCOLS = ["http/1.1"]

SHUTDOWN_TIMEOUT_S = 60.0
"""How long a closing connection may take to deliver what it holds, to a client that reads slowly."""

HANDSHAKE_FOREVER_S = 1e8
"""What loops are told when timeout_tls_handshake is none; without a number they have a bound of their own."""

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
# RFC 4514 section 3: the short names; other types stand as they are.
_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL = re.compile(r'(^[ #]|[,+"\\<>;=]| $)')

_suites: dict[str, int] = {}  # name of a cipher suite -> its number (RFC 8446 appendix B.4)


class Options(Protocol):
    """The options that TLS is made from."""

    ssl_keyfile: str | None
    ssl_certfile: str | None
    ssl_keyfile_password: str | None
    ssl_version: int
    ssl_cert_reqs: int
    ssl_ca_certs: str | None
    ssl_ciphers: str | None
    ssl_context_factory: Callable[[Any, Callable[[], ssl.SSLContext]], ssl.SSLContext] | None


def make_context(options: Options) -> ssl.SSLContext:
    """The context of a server whose options ask for TLS. Raises `StartupError`."""
    if options.ssl_context_factory is None:
        if options.ssl_cert_reqs != ssl.CERT_NONE and not options.ssl_ca_certs:
            raise StartupError(
                "ssl_cert_reqs asks clients for certificates, but nobody is trusted to have signed them; name the file "
                "of the authorities with ssl_ca_certs"
            )
        return _default_context(options)
    made = options.ssl_context_factory(options, lambda: _default_context(options))
    if not isinstance(made, ssl.SSLContext):
        raise StartupError(
            f"ssl_context_factory returned {type(made).__name__}; expected an ssl.SSLContext, such as the one that its "
            "second argument makes"
        )
    return made


def _default_context(options: Options) -> ssl.SSLContext:
    """The context by the options alone: what an ssl_context_factory may begin with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if isinstance(options.ssl_version, ssl.TLSVersion):
        context.minimum_version = context.maximum_version = options.ssl_version
    _load_pair(context, options)
    context.verify_mode = ssl.VerifyMode(options.ssl_cert_reqs)
    if options.ssl_ca_certs:
        _read_pem(options.ssl_ca_certs, "ssl_ca_certs", "CERTIFICATE")
        try:
            context.load_verify_locations(options.ssl_ca_certs)
        except ssl.SSLError as error:
            raise StartupError(
                f"ssl_ca_certs: {options.ssl_ca_certs!r} holds no certificate that can be read ({_reason(error)})"
            ) from None
    if options.ssl_ciphers:
        try:
            context.set_ciphers(options.ssl_ciphers)
        except ssl.SSLError:
            raise StartupError(
                f"ssl_ciphers: OpenSSL knows no cipher of {options.ssl_ciphers!r}; see 'openssl ciphers -v'"
            ) from None
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    return context


def _load_pair(context: ssl.SSLContext, options: Options) -> None:
    """Load certificate and key, or say which of them is wrong, and how."""
    certfile, keyfile = options.ssl_certfile, options.ssl_keyfile
    if not certfile:
        raise StartupError("ssl_certfile is missing: TLS needs a certificate beside its key")
    _read_pem(certfile, "ssl_certfile", "CERTIFICATE")
    holder, option = (keyfile, "ssl_keyfile") if keyfile else (certfile, "ssl_certfile")
    if not keyfile and "PRIVATE KEY-----" not in _read_text(certfile, "ssl_certfile"):
        raise StartupError(f"ssl_keyfile is missing, and {certfile!r} holds no private key beside its certificate")
    key = _read_pem(holder, option, "PRIVATE KEY")
    password = options.ssl_keyfile_password
    if "ENCRYPTED" in key and not password:
        # OpenSSL would ask for it on the terminal, and a service that has none would wait there.
        raise StartupError(f"{option}: the key in {holder!r} is encrypted; give its password as ssl_keyfile_password")
    try:
        context.load_cert_chain(certfile, keyfile or None, (lambda: password) if password else None)
    except ssl.SSLError as error:
        raise StartupError(_what_is_wrong(error, certfile, holder, "ENCRYPTED" in key)) from None


def _what_is_wrong(error: ssl.SSLError, certfile: str, keyfile: str, is_encrypted: bool) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {keyfile!r} does not belong to the certificate in {certfile!r}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certfile)
    except ssl.SSLError:
        return f"ssl_certfile: the certificate in {certfile!r} cannot be read ({_reason(error)})"
    if is_encrypted:
        return f"ssl_keyfile_password does not open the key in {keyfile!r}"
    return f"the key in {keyfile!r} cannot be read, or is not for the certificate in {certfile!r} ({_reason(error)})"


def _reason(error: ssl.SSLError) -> str:
    return (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()


def _read_text(path: str, option: str) -> str:
    """The text of a file. Raises `StartupError`."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("latin-1")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartupError(f"{option}: cannot read {path!r}: {reason}") from None


def _read_pem(path: str, option: str, kind: str) -> str:
    """The text of a PEM file that holds this kind of thing. Raises `StartupError`."""
    text = _read_text(path, option)
    if not re.search(rf"-----BEGIN [A-Z ]*{kind}-----", text):
        what = "a certificate" if kind == "CERTIFICATE" else "a private key"
        is_der = text.startswith("0\x82")
        found = "is DER; convert it with openssl" if is_der else f"holds no '-----BEGIN ... {kind}-----'"
        raise StartupError(f"{option}: expected {what} in PEM form, but {path!r} {found}")
    return text


def certificate_of(options: Options) -> str | None:
    """The server's certificate as PEM, for the `tls` extension; None where a factory took it from elsewhere."""
    if not options.ssl_certfile:
        return None
    found = _CERTIFICATE.search(_read_text(options.ssl_certfile, "ssl_certfile"))
    return found[0] + "\n" if found else None


# --- a connection -----------------------------------------------------------------------------------------------------


def extension_of(connection: Any, server_cert: str | None) -> dict[str, Any]:
    """The ASGI extension `tls` (version 0.2) of one connection, given its `ssl.SSLObject`."""
    cipher = connection.cipher()
    chain = _chain_of(connection)
    return {
        "server_cert": server_cert,
        "client_cert_chain": chain,
        "client_cert_name": _distinguished_name(connection.getpeercert()) if chain else None,
        "client_cert_error": None,  # a handshake with a certificate that cannot be verified fails
        "tls_version": _VERSIONS.get(connection.version()),
        "cipher_suite": None if cipher is None else _suite(connection.context, cipher[0]),
    }


def _chain_of(connection: Any) -> tuple[str, ...]:
    """The client's certificate as PEM, with those that it sent along where Python tells them (3.13)."""
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return ()
    chain = connection.get_unverified_chain() if hasattr(connection, "get_unverified_chain") else None
    return tuple(ssl.DER_cert_to_PEM_cert(each) for each in chain or [leaf])


def _distinguished_name(certificate: Any) -> str | None:
    """The subject as RFC 4514 writes it: the last part first."""
    if not certificate:
        return None
    parts = [
        "+".join(f"{_NAMES.get(name, name)}={_SPECIAL.sub(_escaped, value)}" for name, value in part)
        for part in reversed(certificate.get("subject", ()))
    ]
    return ",".join(parts)


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _suite(context: ssl.SSLContext, name: str) -> int | None:
    if name not in _suites:
        _suites.update({each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()})
    return _suites.get(name)


def timeouts_of(context: ssl.SSLContext | None, handshake_s: float | None) -> tuple[float | None, float | None]:
    """How long a loop lets a handshake take, and an end; None without TLS, where there is neither."""
    if context is None:
        return None, None
    return HANDSHAKE_FOREVER_S if handshake_s is None else handshake_s, SHUTDOWN_TIMEOUT_S


def why_failed(error: OSError) -> str:
    """What a client did wrong when its handshake failed, as the end of a sentence that begins with "client"."""
    reason = getattr(error, "reason", None)
    if reason == "HTTP_REQUEST":
        return "sent plain HTTP to the TLS port"
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "showed no certificate, which ssl_cert_reqs asks for"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"showed a certificate that cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"failed in the TLS handshake: {_reason(error)}"
    if "handshake is taking longer" in str(error):
        return "did not finish its TLS handshake within timeout_tls_handshake"
    return f"left before its first byte: {error}"
