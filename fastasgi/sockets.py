"""From host and port, a path, or an inherited descriptor to listening sockets, and one clear sentence when it
fails."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import sys
from typing import Any, Protocol

from .errors import StartupError
from .kinds import Binding, parse_binding
from .owners import owner_of_path, owner_of_port

EVERY_ADDRESS = ("", "::")

_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_PORT_TRIES = 8
_FIRST_PASSED_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


class Listening(Protocol):
    """The options that say where and how to listen."""

    bind: list[str]
    host: str
    port: int
    uds: Any
    uds_permissions: int | None
    fd: int | None
    backlog: int
    reuse_port: str


def places(config: Listening) -> list[Binding]:
    """Where a configuration listens."""
    if config.bind:
        return [parse_binding(text) for text in config.bind]
    if config.fd is not None:
        return [Binding("fd", fd=config.fd)]
    if config.uds is not None:
        return [Binding("unix", path=os.fspath(config.uds))]
    return [Binding("tcp", host=config.host, port=config.port)]


class UnixListener(socket.socket):
    """A listening Unix socket whose file goes when the socket is closed by the process that made it."""

    path: str
    _made: tuple[int, int, int] | None = None

    def own(self, path: str) -> None:
        """Remember which file is ours: by process, device and inode, so that a successor's is left alone."""
        found = os.stat(path)
        self.path = path
        self._made = (os.getpid(), found.st_dev, found.st_ino)

    def disown(self) -> None:
        """Leave the file to whoever has taken the socket over."""
        self._made = None

    def close(self) -> None:
        """Close, and remove the file if this process made it and it is still ours."""
        super().close()
        made, self._made = self._made, None
        if made is None or made[0] != os.getpid():
            return
        try:
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == made[1:]:
                os.unlink(self.path)
        except OSError:
            pass  # gone already, or no longer ours to remove


def bind(config: Listening, *, single: bool = False) -> list[socket.socket]:
    """The listening, non-blocking sockets that the configuration names. Raises `StartupError`.

    A host name gives one socket for each of its addresses, `""` and `"::"` one for IPv4 and one for IPv6 (so
    that IPv4 peers are seen as such). With `single` it is one socket: the first address, or one for both
    families.
    """
    wanted = places(config)
    if single and len(wanted) > 1:
        raise StartupError(f"one socket was asked for, but bind names {len(wanted)} places; name one")
    bound: list[socket.socket] = []
    try:
        for place in wanted:
            bound += _bind_place(place, config, single)
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    return bound


def _bind_place(place: Binding, config: Listening, single: bool) -> list[socket.socket]:
    if place.kind == "fd":
        return [_inherit(place.fd, config.backlog)]
    if place.kind == "systemd":
        return _inherit_all(_passed_fds(place.name), config.backlog)
    if place.kind == "unix":
        return [_bind_unix(place.path, config)]
    if single and place.host in EVERY_ADDRESS and socket.has_dualstack_ipv6():
        return [_bind_tcp(socket.AF_INET6, "::", place.port, config, dual=True)]
    return _bind_all(config, place, _addresses(place.host, place.port)[: 1 if single else None])


def check(config: Listening) -> None:
    """Whether the places could be listened on, were they free: the address is this machine's, the port one that we
    may bind, the folder of a socket file ours to write to. Inherited sockets are for those who pass them to check.
    Raises `StartupError`."""
    for place in places(config):
        if place.kind == "unix":
            _check_path(place.path, _given_by(config, "uds"))
        elif place.kind == "tcp":
            _check_addresses(place, config)


def _check_addresses(place: Binding, config: Listening) -> None:
    """Bind each address for a moment, without listening: a socket that listens would get clients."""
    addresses = _addresses(place.host, place.port)
    for family, host in addresses:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((host, place.port))
        except OSError as error:
            is_spare = family == socket.AF_INET6 and error.errno in _NO_IPV6 and len(addresses) > 1
            if error.errno != errno.EADDRINUSE and not is_spare:
                raise StartupError(_tcp_trouble(error, host, place.port, _given_by(config, "port"))) from error


def _check_path(path: str, option: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise StartupError(_no_socket(path, option))
    except OSError as error:
        if error.errno != errno.ENOENT or not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise StartupError(_unix_trouble(error, path)) from error
    if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
        raise StartupError(_unix_trouble(PermissionError(errno.EACCES, "not permitted"), path))


def _no_socket(path: str, option: str) -> str:
    return f"{path!r} exists and is not a socket; remove it or choose another path with {option}"


def describe(sock: socket.socket, scheme: str = "http") -> str:
    """Where a socket listens, in a form to click on: `http://127.0.0.1:8000`, `unix:/run/app.sock`."""
    name = sock.getsockname()
    if sock.family == getattr(socket, "AF_UNIX", None):
        return f"unix:{os.fsdecode(name)}"
    return f"{scheme}://{_shown(name[0], name[1])}"


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of a host, each once, in the resolver's order."""
    if host in EVERY_ADDRESS:
        ipv6 = [(socket.AF_INET6, "::")] if socket.has_ipv6 else []
        return [(socket.AF_INET, "0.0.0.0"), *ipv6]
    literal = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = socket.getaddrinfo(literal, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise StartupError(
            f"cannot find the address of host {host!r} ({reason}); use one such as 127.0.0.1 or 0.0.0.0"
        ) from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind_all(
    config: Listening, place: Binding, addresses: list[tuple[socket.AddressFamily, str]]
) -> list[socket.socket]:
    """Bind every address to one port; port 0 is picked by the first and tried anew when another has it
    taken."""
    for attempt in range(_PORT_TRIES):
        bound: list[socket.socket] = []
        try:
            for family, host in addresses:
                port = place.port or (bound[0].getsockname()[1] if bound else 0)
                _bind_next(bound, family, host, port, config, last=(family, host) == addresses[-1])
            return bound
        except StartupError as error:
            for sock in bound:
                sock.close()
            picked_port_taken = place.port == 0 and bound and _errno_of(error) == errno.EADDRINUSE
            if not picked_port_taken or attempt == _PORT_TRIES - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _bind_next(
    bound: list[socket.socket],
    family: socket.AddressFamily,
    host: str,
    port: int,
    config: Listening,
    *,
    last: bool,
) -> None:
    """Add one more socket. A machine without IPv6 still resolves `localhost` to `::1`: skipped if another is
    left."""
    try:
        bound.append(_bind_tcp(family, host, port, config))
    except StartupError as error:
        if family != socket.AF_INET6 or _errno_of(error) not in _NO_IPV6 or (last and not bound):
            raise


def _errno_of(error: StartupError) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _bind_tcp(family: int, host: str, port: int, config: Listening, *, dual: bool = False) -> socket.socket:
    share_port = config.reuse_port == "on"
    if share_port and not hasattr(socket, "SO_REUSEPORT"):
        raise StartupError("reuse_port=on, but this platform has no such sockets; leave it at auto")
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there it lets two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        if share_port:  # with other processes of this user: the kernel spreads connections over them
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(config.backlog)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise StartupError(_tcp_trouble(error, host, port, _given_by(config, "port"))) from error
    sock.setblocking(False)
    return sock


def _given_by(config: Listening, option: str) -> str:
    """The option that has named a place, as the command line calls it: `option`, or bind, which replaces it."""
    return "--bind" if config.bind else f"--{option}"


def _tcp_trouble(error: OSError, host: str, port: int, option: str) -> str:
    where = _shown(host, port)
    if error.errno == errno.EADDRINUSE:
        owner = owner_of_port(port) or "another program"
        return f"{where} is in use by {owner}; stop it, or choose another port with {option}"
    if error.errno == errno.EACCES:
        return (
            f"not permitted to listen on {where}; choose one of 1024 or above, or grant CAP_NET_BIND_SERVICE"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: {host} is not an address of this machine; 0.0.0.0 is all of them"
    return f"cannot listen on {where}: {error.strerror or error}"


def _bind_unix(path: str, config: Listening) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise StartupError(
            f"cannot listen on {path!r}: this platform has no Unix sockets; use --host and --port"
        )
    _remove_stale(path, _given_by(config, "uds"))
    sock = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.own(path)
        # The umask only narrows what the file is made with, so nobody gets in between bind and chmod.
        if config.uds_permissions is not None:
            os.chmod(path, config.uds_permissions)
        sock.listen(config.backlog)
    except OSError as error:
        sock.close()
        raise StartupError(_unix_trouble(error, path)) from error
    sock.setblocking(False)
    return sock


def _remove_stale(path: str, option: str) -> None:
    """Remove the socket file that a killed server left: only if it is a socket, and nobody listens on it. `option` is
    the one that names another."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise StartupError(_no_socket(path, option))
    except OSError:
        return  # not there, or out of reach: bind says which
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno not in (errno.EAGAIN, errno.EINPROGRESS):  # those two: a full backlog, so in use
                raise StartupError(_unix_trouble(error, path)) from error
    owner = owner_of_path(path) or "another server"
    raise StartupError(f"{path!r} is in use by {owner}; stop that one or choose another path with {option}")


def _unix_trouble(error: OSError, path: str) -> str:
    directory = os.path.dirname(os.path.abspath(path))
    if error.errno == errno.ENOENT:
        return f"cannot listen on {path!r}: the directory {directory!r} does not exist; make it first"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"not permitted to make or use the socket {path!r}; check who owns {directory!r}"
    if error.errno is None:  # "AF_UNIX path too long" has no number
        return f"cannot listen on {path!r}: {error}; choose a shorter path"
    return f"cannot listen on {path!r}: {error.strerror}"


def _inherit(fd: int, backlog: int) -> socket.socket:
    """The listening socket behind an inherited descriptor, its family as the kernel says."""
    cure = "pass a listening stream socket, for instance by systemd or a supervisor"
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        reason = "is not open" if error.errno == errno.EBADF else "is not a socket"
        raise StartupError(f"file descriptor {fd} {reason}; {cure}") from error
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise StartupError(f"file descriptor {fd} is not a stream socket; {cure}")
    if not _is_listening(sock):
        try:
            sock.listen(backlog)
        except OSError as error:
            sock.detach()
            raise StartupError(f"file descriptor {fd} cannot listen ({error.strerror}); {cure}") from error
    # Programs that the application starts must not hold the port.
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _is_listening(sock: socket.socket) -> bool:
    """Listens already, with the backlog of whoever made it (systemd's `Backlog=`)."""
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (AttributeError, OSError):  # a platform that does not tell
        return False


def _inherit_all(fds: list[int], backlog: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    try:
        for fd in fds:
            found.append(_inherit(fd, backlog))
    except BaseException:
        for sock in found:
            sock.close()
        raise
    return found


def _passed_fds(name: str) -> list[int]:
    """The descriptors that systemd passes to this process: sd_listen_fds_with_names(3)."""
    cure = "start this process by a .socket unit, or name an address"
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise StartupError(f"systemd has passed no sockets to this process (LISTEN_PID); {cure}")
    count = os.environ.get("LISTEN_FDS", "")
    if not re.fullmatch(r"[1-9]\d{0,5}", count):
        raise StartupError(f"expected a number of sockets in LISTEN_FDS, got {count!r}; {cure}")
    fds = list(range(_FIRST_PASSED_FD, _FIRST_PASSED_FD + int(count)))
    if not name:
        return fds
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    named = [fd for fd, its_name in zip(fds, names, strict=False) if its_name == name]
    if not named:
        raise StartupError(
            f"systemd has passed no socket named {name!r}, but {', '.join(map(repr, names))}; "
            "see FileDescriptorName= of the .socket unit"
        )
    return named
