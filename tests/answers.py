"""A client's reading of HTTP/1.1 answers, strict where a sloppy server could hide (RFC 9112).

It shares no code with the server and none with h11; `test_response.py` compares it with h11 once.
"""

from dataclasses import dataclass, field

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class WireError(AssertionError):
    """The bytes are no answer that a strict client would take."""


@dataclass
class Response:
    """One final answer, with the interim ones (1xx) that came before it."""

    version: str
    status: int
    reason: str
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    framing: str = "none"  # none, length, chunked, close
    interim: list["Response"] = field(default_factory=list)

    def all(self, name: str) -> list[bytes]:
        """The values of every field of this name."""
        wanted = name.lower().encode()
        return [value for key, value in self.fields if key.lower() == wanted]

    def one(self, name: str) -> bytes | None:
        """The value of a field that may be there once at most."""
        found = self.all(name)
        if len(found) > 1:
            raise WireError(f"{name} is there {len(found)} times: {found}")
        return found[0] if found else None

    @property
    def announces_close(self) -> bool:
        """`Connection` lists `close`."""
        return any(
            token.strip().lower() == b"close"
            for value in self.all("connection")
            for token in value.split(b",")
        )

    @property
    def announces_keep_alive(self) -> bool:
        """`Connection` lists `keep-alive`."""
        return any(
            token.strip().lower() == b"keep-alive"
            for value in self.all("connection")
            for token in value.split(b",")
        )


def read_answers(data: bytes, methods: tuple[str, ...] = (), *, ended: bool = False) -> list[Response]:
    """Every complete final answer in `data`; `methods` are those of the requests, GET where not told.

    Bytes after the last complete answer must be the beginning of another one. Raises WireError.
    """
    found: list[Response] = []
    position = 0
    while position < len(data):
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        one = read_one(data, position, method, ended)
        if one is None:
            break
        answer, position = one
        found.append(answer)
    return found


def read_one(data: bytes, position: int, method: str, ended: bool) -> tuple[Response, int] | None:
    """The final answer at `position` and where it ends, or None when bytes are missing."""
    interim: list[Response] = []
    while True:
        end = data.find(b"\r\n\r\n", position)
        if end < 0:
            if data[position : position + 5] != b"HTTP/"[: len(data) - position]:
                raise WireError(f"no status line: {data[position : position + 80]!r}")
            return None
        answer = read_head(data[position:end])
        position = end + 4
        if 100 <= answer.status < 200 and answer.status != 101:
            if answer.all("content-length") or answer.all("transfer-encoding"):
                raise WireError(f"an interim answer with a length: {answer.fields}")
            interim.append(answer)
            continue
        answer.interim = interim
        return read_body(data, position, answer, method, ended)


def read_head(head: bytes) -> Response:
    """Status line and fields, without the empty line."""
    line, *lines = head.split(b"\r\n")
    version, _, rest = line.partition(b" ")
    status, _, reason = rest.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit():
        raise WireError(f"bad status line {line!r}")
    fields = []
    for one in lines:
        name, colon, value = one.partition(b":")
        if not colon or not name or not TOKEN.issuperset(name):
            raise WireError(f"bad field line {one!r}")
        if any((byte < 32 and byte != 9) or byte == 127 for byte in value):
            raise WireError(f"bad field value {one!r}")
        fields.append((name, value.strip(b" \t")))
    return Response(version.decode()[5:], int(status), reason.decode("latin-1"), fields)


def read_body(data: bytes, position: int, answer: Response, method: str, ended: bool):
    """RFC 9112 section 6.3, for a client."""
    length, coding = answer.one("content-length"), answer.one("transfer-encoding")
    if length is not None and coding is not None:
        raise WireError(f"Content-Length beside Transfer-Encoding: {answer.fields}")
    if answer.status in (204, 101) and (length is not None or coding is not None):
        raise WireError(f"{answer.status} with a length: {answer.fields}")
    if method == "HEAD" or answer.status in (101, 204, 304):
        return answer, position
    if coding is not None:
        if coding.lower() != b"chunked":
            raise WireError(f"transfer coding {coding!r}")
        answer.framing = "chunked"
        return read_chunked(data, position, answer)
    if length is not None:
        if not length.isdigit():
            raise WireError(f"Content-Length {length!r}")
        answer.framing = "length"
        answer.body = data[position : position + int(length)]
        return (answer, position + int(length)) if len(answer.body) == int(length) else None
    answer.framing = "close"
    answer.body = data[position:]
    return (answer, len(data)) if ended else None


def read_chunked(data: bytes, position: int, answer: Response) -> tuple[Response, int] | None:
    """RFC 9112 section 7.1, without extensions and trailers: we send none."""
    while True:
        end = data.find(b"\r\n", position)
        if end < 0:
            return None
        line = data[position:end]
        if not line or not all(byte in b"0123456789abcdefABCDEF" for byte in line):
            raise WireError(f"bad chunk size {line!r}")
        size = int(line, 16)
        position = end + 2
        chunk = data[position : position + size]
        after = data[position + size : position + size + 2]
        if after != b"\r\n"[: len(after)]:
            raise WireError(f"a chunk that does not end: {after!r}")
        if len(after) < 2:
            return None
        position += size + 2
        if size == 0:
            return answer, position
        answer.body += chunk
