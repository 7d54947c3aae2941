"""What `RequestParser` must make of any bytes: llhttp's word, and on top of it our documented additional checks.

llhttp (the oracle, fed a byte at a time so that every event has a place) says what it sees. `check_head`
then says, in plain Python and by the rules of RFC 9112 and of the behaviours page, why a head that llhttp
let through must still be refused. Methods that llhttp does not know are shown to it as `POST`.
Limits are not modelled, and no header is dropped: parse with `underscore_headers` keep.
"""

import re
from dataclasses import dataclass, field

from oracle import llhttp
from wire import Message, Parsed

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
START_LINE = re.compile(rb"(?:\r\n)?(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]+) ")
# uri-host [ ":" port ], RFC 3986 section 3.2: reg-name with pct-encoded, or an IP literal in brackets
HOST = re.compile(rb"(\[[0-9A-Za-z:.~!$&'()*+,;=_-]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?")
ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")
KNOWN = frozenset(
    "DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND "
    "REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE "
    "MKCALENDAR LINK UNLINK SOURCE QUERY".split()
)
LONGEST_METHOD = 64
BY_LIMIT = {413, 414, 431}


@dataclass
class Told:
    """One message as llhttp told it, with the bytes it was made of."""

    texts: dict[str, bytes] = field(default_factory=dict)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    start: int = 0
    head_end: int = -1
    message: Message | None = None


@dataclass
class Verdict:
    """What must be: the messages before an error, and the statuses allowed for it (empty: no error)."""

    messages: list[Message]
    refused: set[int]
    why: str = ""


class Reader:
    """Feeds llhttp a byte at a time and stops at the first message that must be refused."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0  # place of the byte that llhttp now looks at
        self.events: list[tuple[str, bytes]] = []
        self.told = Told()
        self.done: list[Message] = []
        self.error: tuple[set[int], str] | None = None
        self.shown = self.methods_shown(data, 0)
        self.is_method_next = True
        self.trace = llhttp.Trace(self.on)
        self.name = b""

    def methods_shown(self, data: bytes, start: int) -> bytes | None:
        """The method at this place where llhttp must be shown another one in its stead."""
        match = START_LINE.match(data, start)
        if match and match["method"].decode() not in KNOWN:
            return match["method"]
        return None

    def run(self) -> Verdict:
        """Read everything, or up to the first error."""
        while self.at < len(self.data) and self.error is None:
            if self.is_method_next and self.done and not self.done[-1].keep_alive:
                break  # nothing behind it is looked at
            if self.is_method_next and self.is_only_method():
                break  # whether llhttp knows it or not: more bytes are needed
            if self.is_method_next and self.shown is not None:
                self.skip_method()
                continue
            self.is_method_next = False
            self.trace.feed(self.data[self.at : self.at + 1])
            self.at += 1
            if self.is_method_next:  # a fresh llhttp: the old one believes `Connection: close` in a trailer
                self.trace = llhttp.Trace(self.on)
        messages = self.done + ([self.told.message] if self.told.message else [])
        if self.error is None and (not self.done or self.done[-1].keep_alive):
            self.check_beginning()
        refused, why = self.error or (set(), "")
        return Verdict(messages, refused, why)

    def is_only_method(self) -> bool:
        """Nothing but a part of a method that may become any is left."""
        rest = self.data[self.at :].removeprefix(b"\r\n") if self.at == self.told.start else b" "
        return len(rest) <= LONGEST_METHOD and TOKEN.fullmatch(rest) is not None

    def skip_method(self) -> None:
        """Show llhttp `POST ` for a method that it does not know."""
        match = START_LINE.match(self.data, self.at)
        self.is_method_next = False
        self.trace.feed(b"POST ")
        self.at = match.end()

    def fail(self, statuses: set[int], why: str) -> None:
        if self.error is None:
            self.error = (statuses, why)

    def on(self, event: tuple) -> None:
        """One callback of llhttp."""
        if self.error is not None:
            return
        kind = event[0]
        if kind in ("method", "url", "version"):
            self.told.texts[kind] = event[1]
        elif kind == "header_field":
            self.name = event[1].lower()
        elif kind == "header_value" and self.told.message is None:
            self.told.headers.append((self.name, event[1].rstrip(b" \t")))
        elif kind == "headers_complete":
            self.on_head()
        elif kind == "body":
            self.told.message.body += event[1]
        elif kind == "message_complete":
            self.on_complete()
        elif kind == "error":
            self.fail({400, 501, 505}, f"llhttp: {event[1]} {event[3]}")

    def on_head(self) -> None:
        told, parser = self.told, self.trace.parser
        told.head_end = self.at + 1
        told.message = Message(
            (self.shown or told.texts.get("method", b"")).decode(),
            told.texts.get("url", b""), told.texts.get("version", b"").decode(), told.headers,
            keeps_alive(told.texts.get("version"), told.headers), "",
            bool(parser.upgrade) and b"upgrade" in connection_tokens(told.headers),
        )  # fmt: skip
        problem = check_head(told.message, self.data[told.start : told.head_end])
        if problem:
            told.message = None
            self.fail(*problem)

    def on_complete(self) -> None:
        self.told.message.complete = True
        self.done.append(self.told.message)
        self.told = Told(start=self.at + 1)
        self.shown = self.methods_shown(self.data, self.at + 1)
        self.is_method_next = True

    def check_beginning(self) -> None:
        """What llhttp has not complained of yet in a head without end, and we do."""
        rest = self.data[self.told.start :]
        if self.told.message is not None or self.told.start >= len(self.data):
            return
        if re.match(rb"\n|\r[^\n]|\r\n[\r\n]", rest):
            self.fail({0, 400} if rest == b"\r\n\r" else {400}, "two empty lines before a request, or CR or LF alone")
        line = re.match(rb"[^\r\n]*", rest.removeprefix(b"\r\n"))[0]
        end = rest.removeprefix(b"\r\n")[len(line) :]
        if end and line.count(b" ") == 1:
            statuses = {400, 501} if line.startswith(b"CONNECT ") else {400}
            self.fail(statuses if end != b"\r" else {0, *statuses}, "HTTP/0.9")
        elif b" " in line:
            self.hint_early(line)

    def hint_early(self, line: bytes) -> None:
        """A request line is refused by us as soon as it is seen; whether before or at the end of the head does
        not matter: 0 stands for "not yet"."""
        shown = Message(line.partition(b" ")[0].decode("latin-1"), line.split(b" ")[1] if b" " in line else b"",
                        "1.1", [(b"host", b"")], True, "", False)  # fmt: skip
        version = line.split(b" ")[2][5:].decode("latin-1") if line.count(b" ") > 1 else ""
        if re.fullmatch(r"[0-9]\.[0-9]", version):
            shown.version = version
        problem = check_head(shown, line + b"\r\n")
        if problem or self.told.headers:
            self.fail({0, 400, 501, 505}, problem[1] if problem else "a field may have been refused already")


def keeps_alive(version: bytes | None, headers: list[tuple[bytes, bytes]]) -> bool:
    """RFC 9112 section 9.3. (llhttp 9.4.3 keeps a 1.0 connection that says both keep-alive and close.)"""
    tokens = connection_tokens(headers)
    return b"close" not in tokens and (version == b"1.1" or b"keep-alive" in tokens)


def connection_tokens(headers: list[tuple[bytes, bytes]]) -> set[bytes]:
    """What `Connection` lists. (llhttp 9.4.3 counts `Proxy-Connection` too, of which RFC 9112 appendix C.2.2 warns.)"""
    return {one.strip(b" \t").lower() for name, value in headers if name == b"connection"
            for one in value.split(b",")}  # fmt: skip


def check_head(message: Message, raw: bytes) -> tuple[set[int], str] | None:
    """Why a head that llhttp let through is refused, and with which statuses; None when it is not."""
    checks = (check_line, check_version, check_method, check_target, check_host, check_coding)
    problems = [problem for check in checks if (problem := check(message, raw))]
    if not problems:
        return None
    statuses = set().union(*(statuses for statuses, _ in problems))
    if any(0 not in one for one, _ in problems):
        statuses.discard(0)  # what must be refused is refused, whatever else may be
    return statuses, "; ".join(why for _, why in problems)


def check_line(message: Message, raw: bytes) -> tuple[set[int], str] | None:
    """RFC 9112 section 3: method SP request-target SP HTTP-version, after one empty line at most."""
    line = raw.removeprefix(b"\r\n").partition(b"\r\n")[0]
    if raw[:1] == b"\n" or re.match(rb"\r\n[\r\n]|\r[^\n]", raw):
        return {400}, "empty lines before the request line"
    if not re.fullmatch(rb"[^ ]+ [^ ]+( [A-Z]+/[0-9.]+)?", line):
        return {400}, "the request line is not three words"
    if line.count(b" ") == 2 and not line.partition(b" ")[2].partition(b" ")[2].startswith(b"HTTP/"):
        return {400}, "the version is of another protocol"
    return None


def check_version(message: Message, raw: bytes) -> tuple[set[int], str] | None:
    """Only 1.0 and 1.1 are served; a line without a version is HTTP/0.9."""
    if message.version in ("1.0", "1.1"):
        return None
    line = re.match(rb"[^\r\n]*", raw.removeprefix(b"\r\n"))[0]
    told = re.search(rb" HTTP/[0-9][.][0-9]$", line)
    return ({505}, f"version {message.version}") if told else ({400}, "HTTP/0.9")


def check_method(message: Message, raw: bytes) -> tuple[set[int], str] | None:
    """RFC 9110 section 9.3.6: an origin server need not implement CONNECT; nor methods of any length (9112 3)."""
    if len(message.method) > LONGEST_METHOD:
        return {501}, "method too long"
    return ({501}, "CONNECT") if message.method == "CONNECT" else None


def check_target(message: Message, raw: bytes) -> tuple[set[int], str] | None:
    """RFC 9112 section 3.2: the four forms, and who may use them."""
    target = message.target
    if target == b"*":
        return None if message.method == "OPTIONS" else ({400}, "asterisk-form")
    if b"#" in target:
        return {400}, "fragment"
    if target.startswith(b"/"):
        return None
    match = ABSOLUTE.fullmatch(target)
    if not match:
        return {400}, "no form of a target"
    if match[1].lower() not in (b"http", b"https"):
        return {0, 400}, "a scheme that is not ours"
    if not HOST.fullmatch(match[2]) or match[2].startswith(b":") or not match[2]:
        return {400}, "authority of the target"
    if b"," in match[2]:
        return {0, 400}, "authority of the target with a comma"
    return None


def check_host(message: Message, raw: bytes) -> tuple[set[int], str] | None:
    """RFC 9112 section 3.2: one Host with a valid value, or none in 1.0."""
    hosts = [value for name, value in message.headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and message.version != "1.0"):
        return {400}, f"{len(hosts)} Host fields"
    if hosts and not HOST.fullmatch(hosts[0]):
        return {400}, f"Host {hosts[0]!r}"
    if hosts and (b"," in hosts[0] or hosts[0].startswith(b":")):
        # a reg-name may hold commas (a list made of two Hosts, too); no http URI has an empty host (9110 4.2.1)
        return {0, 400}, f"Host {hosts[0]!r} that may be refused"
    return None


def check_coding(message: Message, raw: bytes) -> tuple[set[int], str] | None:
    """RFC 9112 section 6: chunked once and last, nothing else known, nothing at all in 1.0."""
    values = [value for name, value in message.headers if name == b"transfer-encoding"]
    if not values:
        return None
    if re.search(rb"(?i)\r\ntransfer-encoding:[^\r]*\t *\r\n", raw):
        return {0, 400, 501}, "llhttp takes no tab behind chunked"
    if message.version == "1.0":
        return {400, 501}, "Transfer-Encoding in HTTP/1.0"
    # RFC 9110 section 5.6.1.2: empty list elements are ignored; refusing them is as safe
    codings = [one.strip(b" \t").lower() for value in values for one in value.split(b",")]
    if [one for one in codings if one] == [b"chunked"]:
        return ({0, 400, 501}, "empty elements") if len(codings) > 1 else None
    if codings[-1] != b"chunked":
        return {400}, f"chunked is not last in {codings}"
    return ({400}, "chunked twice") if codings.count(b"chunked") > 1 and set(codings) == {b"chunked"} else (
        {400, 501}, f"unknown codings in {codings}")  # fmt: skip


def verdict(data: bytes) -> Verdict:
    """What must be made of these bytes."""
    return Reader(data).run()


KEEP = {"underscore_headers": "keep"}


def agrees(data: bytes, parsed: Parsed) -> None:
    """`parsed` (with the limits `KEEP`) is what the model says. Raises AssertionError with both."""
    expected = verdict(data)
    context = f"{data[:400]!r}\nours: {parsed}\nmust be: {expected}"
    if 0 in expected.refused or (parsed.error is not None and parsed.error[0] in BY_LIMIT):
        return  # either is right, and what was told before depends on which
    if parsed.error is None:
        assert not expected.refused, f"not refused: {expected.why}\n{context}"
    else:
        assert parsed.error[0] in expected.refused, f"refused, {expected.why}\n{context}"
    assert len(parsed.messages) == len(expected.messages), context
    for ours, theirs in zip(parsed.messages, expected.messages, strict=True):
        assert same(ours, theirs), context


def same(ours: Message, theirs: Message) -> bool:
    """One message is the same for both; the head's body kind is llhttp's own affair."""
    headers = theirs.headers
    if not theirs.target.startswith((b"/", b"*")):
        match = ABSOLUTE.fullmatch(theirs.target)
        headers = [(name, match[2] if name == b"host" else value) for name, value in headers]
        if not any(name == b"host" for name, _ in headers):  # HTTP/1.0: that ours adds one is as well
            headers += [pair for pair in map(tuple, ours.headers) if pair == (b"host", match[2])]
    return (
        (ours.method, ours.version, ours.body, ours.complete) == (
            theirs.method, theirs.version, theirs.body, theirs.complete)
        and list(map(tuple, ours.headers)) == headers
        and ours.keep_alive == theirs.keep_alive
        and (ours.target == theirs.target.removesuffix(b"?") or ours.target == theirs.target
             or not theirs.target.startswith(b"/"))
    )  # fmt: skip
