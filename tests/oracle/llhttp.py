"""llhttp through cffi: a second opinion on `fastasgi/_request.pyx`, from the very same C sources, strict.

    from oracle import llhttp
    events = llhttp.parse([b"GET / HTTP/1.1\\r\\n", b"Host: a\\r\\n\\r\\n"])

The binding (API mode, one Python call for each callback) is compiled on first use into `build/`, again when the
sources change. It shares nothing with our own driver: no pausing, no limits, no checks of ours; an upgrade is declined
by reading on. What llhttp itself lets through (several spaces in the request line, `Transfer-Encoding` on HTTP/1.0, a
missing `Host`, RTSP methods, HTTP/0.9) comes through here too.
"""

import hashlib
import importlib.util
import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cffi

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "csrc/llhttp/src" / name for name in ("api.c", "http.c", "llhttp.c")]
INCLUDE = ROOT / "csrc/llhttp/include"

SPANS = ("method", "url", "version", "header_field", "header_value", "chunk_extension_name",
         "chunk_extension_value", "body")
MARKS = ("message_begin", "headers_complete", "message_complete", "method_complete", "url_complete",
         "version_complete", "header_field_complete", "header_value_complete", "chunk_extension_name_complete",
         "chunk_extension_value_complete", "chunk_header", "chunk_complete")

DECLARATIONS = """
typedef struct {
    void *data; uint64_t content_length; uint8_t http_major; uint8_t http_minor; uint8_t upgrade; uint16_t flags; ...;
} llhttp_t;
typedef struct { ...; } llhttp_settings_t;
static const int F_CHUNKED, F_CONTENT_LENGTH, F_TRANSFER_ENCODING;
static const int HPE_OK, HPE_PAUSED_UPGRADE, HPE_PAUSED;
void oracle_init(llhttp_t *parser, llhttp_settings_t *settings);
int llhttp_execute(llhttp_t *parser, const char *data, size_t n);
int llhttp_finish(llhttp_t *parser);
int llhttp_should_keep_alive(const llhttp_t *parser);
void llhttp_resume_after_upgrade(llhttp_t *parser);
const char *llhttp_get_error_reason(const llhttp_t *parser);
const char *llhttp_get_error_pos(const llhttp_t *parser);
const char *llhttp_errno_name(int error);
extern "Python" int oracle_span(llhttp_t *, int, const char *, size_t);
extern "Python" int oracle_mark(llhttp_t *, int);
"""


def _shim() -> str:
    """C that gives every callback of llhttp its number and hands it to one of two Python functions."""
    lines = [
        '#include "llhttp.h"',
        "static int oracle_span(llhttp_t *, int, const char *, size_t);",
        "static int oracle_mark(llhttp_t *, int);",
    ]
    for number, name in enumerate(SPANS):
        lines.append(f"static int span_{name}(llhttp_t *p, const char *at, size_t n) "
                     f"{{ return oracle_span(p, {number}, at, n); }}")
    for number, name in enumerate(MARKS):
        lines.append(f"static int mark_{name}(llhttp_t *p) {{ return oracle_mark(p, {number}); }}")
    lines.append("static void oracle_init(llhttp_t *parser, llhttp_settings_t *settings) {")
    lines.append("    llhttp_settings_init(settings);")
    lines += [f"    settings->on_{name} = span_{name};" for name in SPANS]
    lines += [f"    settings->on_{name} = mark_{name};" for name in MARKS]
    lines.append("    llhttp_init(parser, HTTP_REQUEST, settings);")
    lines.append("}")
    return "\n".join(lines)


def _fetch_sources() -> None:
    """The sources are there after any build; a test run against an installed package fetches them by itself."""
    spec = importlib.util.spec_from_file_location("vendor", ROOT / "csrc/vendor.py")
    vendor = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules.setdefault("vendor", vendor)  # its dataclass looks itself up
    spec.loader.exec_module(vendor)  # type: ignore[union-attr]
    vendor.ensure()


def _build(target: Path) -> None:
    """Compile the binding aside and move it into place, so that parallel test runs never see half of it."""
    builder = cffi.FFI()
    builder.cdef(DECLARATIONS)
    builder.set_source("_oracle_llhttp", _shim(), sources=[str(source) for source in SOURCES],
                       include_dirs=[str(INCLUDE)])
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        os.replace(builder.compile(tmpdir=scratch), target)


def _load() -> Any:
    """Import the binding, compiled from exactly these sources for exactly this interpreter."""
    _fetch_sources()
    parts = [source.read_bytes() for source in SOURCES]
    parts += [DECLARATIONS.encode(), _shim().encode(), cffi.__version__.encode()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    target = ROOT / "build/oracle" / digest / ("_oracle_llhttp" + sysconfig.get_config_var("EXT_SUFFIX"))
    if not target.exists():
        _build(target)
    spec = importlib.util.spec_from_file_location("_oracle_llhttp", target)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


_binding = _load()
ffi, lib = _binding.ffi, _binding.lib


@ffi.def_extern()
def oracle_span(parser: Any, number: int, at: Any, n: int) -> int:
    """A piece of text; the pieces of one text are put together in `Trace.mark`."""
    ffi.from_handle(parser.data).span(SPANS[number], ffi.buffer(at, n)[:])
    return 0


@ffi.def_extern()
def oracle_mark(parser: Any, number: int) -> int:
    """The end of something."""
    ffi.from_handle(parser.data).mark(MARKS[number])
    return 0


class Trace:
    """One connection: feed it, and `emit` gets every callback as a tuple.

    `(name, bytes)` for each whole method, url, version, header_field, header_value, chunk_extension_name and
    chunk_extension_value, and for each piece of a body; `(name,)` for message_begin, headers_complete, chunk_header,
    chunk_complete, message_complete; `("error", name, position, reason)` last, where position counts from the first
    byte ever fed.
    """

    def __init__(self, emit: Callable[[tuple], object]) -> None:
        self.emit = emit
        self.failed = False
        self.fed = 0  # bytes before the chunk being fed
        self._pieces: dict[str, list[bytes]] = {}
        self._handle = ffi.new_handle(self)
        self._settings = ffi.new("llhttp_settings_t *")
        self.parser = ffi.new("llhttp_t *")
        lib.oracle_init(self.parser, self._settings)
        self.parser.data = self._handle

    def span(self, name: str, text: bytes) -> None:
        """Part of a text, or a piece of a body."""
        if name == "body":
            self.emit(("body", text))
        else:
            self._pieces.setdefault(name, []).append(text)

    def mark(self, name: str) -> None:
        """An event, or the end of a text, which may be empty and then had no span."""
        text = name.removesuffix("_complete")
        if name.endswith("_complete") and text in SPANS:
            self.emit((text, b"".join(self._pieces.pop(text, ()))))
        else:
            self.emit((name,))

    def feed(self, data: bytes) -> None:
        """Hand over the next bytes; after an error they are ignored."""
        buffer = ffi.from_buffer(data)
        done = 0
        while not self.failed and (done < len(data)):
            error = lib.llhttp_execute(self.parser, buffer + done, len(data) - done)
            if error == lib.HPE_OK:
                break
            stopped = lib.llhttp_get_error_pos(self.parser)
            done = stopped - buffer if stopped != ffi.NULL else len(data)
            if error == lib.HPE_PAUSED_UPGRADE:  # decline it: what follows is HTTP/1 still
                lib.llhttp_resume_after_upgrade(self.parser)
            else:
                self._fail(error, self.fed + done)
        self.fed += len(data)

    def eof(self) -> None:
        """The peer sends no more."""
        if not self.failed:
            error = lib.llhttp_finish(self.parser)
            if error != lib.HPE_OK:
                self._fail(error, self.fed)

    def _fail(self, error: int, position: int) -> None:
        self.failed = True
        name = ffi.string(lib.llhttp_errno_name(error)).decode()
        reason = lib.llhttp_get_error_reason(self.parser)
        self.emit(("error", name, position, ffi.string(reason).decode() if reason != ffi.NULL else ""))


def trace(chunks: Iterable[bytes], *, eof: bool = False) -> list[tuple]:
    """All callbacks for these bytes, in order (see `Trace`)."""
    events: list[tuple] = []
    parser = Trace(events.append)
    for chunk in chunks:
        parser.feed(chunk)
    if eof:
        parser.eof()
    return events


class _Messages:
    """Folds callbacks into the events of whole requests."""

    def __init__(self) -> None:
        self.events: list[tuple] = []
        self.trace = Trace(self.on)
        self._forget()

    def _forget(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.headers: list[tuple[bytes, bytes]] = []
        self.field = b""
        self.in_body = False

    def on(self, event: tuple) -> None:
        """Sort one callback."""
        name = event[0]
        if name in ("method", "url", "version"):
            self.texts[name] = event[1]
        elif name == "header_field":
            self.field = event[1]
        elif name == "header_value":
            self._on_header(event[1])
        elif name == "headers_complete":
            self._on_head()
        elif name == "message_begin":
            self._forget()
        elif name == "message_complete":
            self.events.append(("complete",))
        elif name in ("body", "error"):
            self.events.append(event)

    def _on_header(self, value: bytes) -> None:
        # RFC 9112 section 5: whitespace around the value is no part of it; llhttp leaves what stands behind.
        pair = (self.field, value.rstrip(b" \t"))
        if self.in_body:
            self.events.append(("trailer", *pair))
        else:
            self.headers.append(pair)

    def _on_head(self) -> None:
        parser = self.trace.parser
        if parser.flags & lib.F_CHUNKED:
            body_kind = "chunked"
        else:
            body_kind = "length" if parser.content_length else "none"
        self.in_body = True
        self.events.append((
            "head",
            self.texts.get("method", b"").decode("ascii"),
            self.texts.get("url", b""),
            self.texts.get("version", b"").decode("ascii"),
            self.headers,
            bool(lib.llhttp_should_keep_alive(parser)),
            body_kind,
            bool(parser.upgrade),
        ))


def parse(chunks: Iterable[bytes], *, eof: bool = False) -> list[tuple]:
    """What llhttp makes of these bytes, as events of the same form as `fastasgi._probe.parse` gives, in order:

    `("head", method: str, target: bytes, version: str, headers: list[(bytes, bytes)], keep_alive: bool,
    body_kind: "none" | "length" | "chunked", upgrade: bool)`, names as sent, `Content-Length: 0` is "none";
    `("body", bytes)`, pieces as llhttp gave them; `("trailer", name: bytes, value: bytes)`; `("complete",)`; and as
    the last `("error", name: str, position: int, reason: str)` with llhttp's name (`HPE_...`) and the offset of the
    byte from the first byte fed.
    """
    messages = _Messages()
    for chunk in chunks:
        messages.trace.feed(chunk)
    if eof:
        messages.trace.eof()
    return messages.events


def merged(events: Iterable[tuple]) -> list[tuple]:
    """The same events with neighbouring pieces of a body put together."""
    result: list[tuple] = []
    for event in events:
        if event[0] == "body" and result and result[-1][0] == "body":
            result[-1] = ("body", result[-1][1] + event[1])
        else:
            result.append(event)
    return result
