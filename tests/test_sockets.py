"""sockets: what is asked for is listened on, files are cleaned up by who made them, each failure is one
sentence."""

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastasgi import sockets
from fastasgi.errors import StartupError
from fastasgi.sockets import bind, describe

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets on this platform")

Open = Callable[..., list[socket.socket]]

SELF = "this process" if sys.platform == "linux" else ""  # elsewhere nobody knows


@pytest.fixture
def listen() -> Iterator[Open]:
    """`listen(port=0, ...)` binds by these options; all is closed afterwards."""
    opened: list[socket.socket] = []

    def call(*, single: bool = False, **options: Any) -> list[socket.socket]:
        default = {
            "host": "127.0.0.1",
            "port": 0,
            "uds": None,
            "uds_permissions": 0o666,
            "fd": None,
            "backlog": 5,
            "bind": [],
            "reuse_port": "auto",
        }
        found = bind(SimpleNamespace(**{**default, **options}), single=single)
        opened.extend(found)
        return found

    yield call
    for sock in opened:
        sock.close()


def checked(**options: Any) -> None:
    """`sockets.check` with these options."""
    default = {"host": "127.0.0.1", "port": 0, "uds": None, "fd": None, "bind": [], "reuse_port": "auto"}
    sockets.check(SimpleNamespace(**{**default, **options}))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def failure(listen: Open, **options: Any) -> StartupError:
    with pytest.raises(StartupError) as raised:
        listen(**options)
    assert raised.value.exit_code == 3
    assert "\n" not in str(raised.value)
    return raised.value


def is_listening(sock: socket.socket) -> bool:
    family = sock.family
    with socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect(sock.getsockname())
        except ConnectionRefusedError:
            return False
    return True


# ------------------------------------------------------------------------------------------------- TCP
def test_port_zero_picks_one(listen: Open) -> None:
    (sock,) = listen(port=0)
    host, port = sock.getsockname()
    assert (host, port > 0) == ("127.0.0.1", True)
    assert describe(sock) == f"http://127.0.0.1:{port}"
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    assert is_listening(sock)


def test_port_can_be_bound_again_at_once(listen: Open) -> None:
    (first,) = listen()
    port = first.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)):
        connection, _ = first.accept()
        first.close()
        connection.close()  # the server's side closes first, and keeps the port in TIME_WAIT
    (second,) = listen(port=port)
    assert second.getsockname()[1] == port


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_literal(listen: Open, host: str) -> None:
    (sock,) = listen(host=host)
    assert sock.family == socket.AF_INET6
    assert describe(sock) == f"http://[::1]:{sock.getsockname()[1]}"


@needs_ipv6
@pytest.mark.parametrize("host", ["", "::"])
def test_every_address_is_one_socket_for_each_family_on_one_port(listen: Open, host: str) -> None:
    found = listen(host=host)
    assert {sock.getsockname()[0] for sock in found} == {"0.0.0.0", "::"}
    assert len({sock.getsockname()[1] for sock in found}) == 1


@needs_ipv6
def test_every_address_as_one_socket_serves_both_families(listen: Open) -> None:
    (sock,) = listen(host="", single=True)
    port = sock.getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()


def addresses(*hosts: tuple[int, str]) -> Callable[..., Any]:
    return lambda *args, **kwargs: [(family, socket.SOCK_STREAM, 6, "", (host, 0)) for family, host in hosts]


def test_host_name_with_several_addresses(listen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    two = addresses(
        (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1")
    )
    monkeypatch.setattr(socket, "getaddrinfo", two)
    found = listen(host="both.example")
    assert [sock.getsockname()[0] for sock in found] == ["127.0.0.1", "127.0.0.2"]
    assert len({sock.getsockname()[1] for sock in found}) == 1
    assert len(listen(host="both.example", single=True)) == 1


def test_picked_port_that_is_taken_elsewhere_is_picked_anew(
    listen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = addresses((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"))
    monkeypatch.setattr(socket, "getaddrinfo", two)
    real, calls = sockets._bind_tcp, []

    def bind_tcp(family: int, host: str, port: int, config: Any, **more: Any) -> socket.socket:
        calls.append((host, port))
        if len(calls) == 2:
            raise StartupError("taken") from OSError(errno.EADDRINUSE, "taken")
        return real(family, host, port, config, **more)

    monkeypatch.setattr(sockets, "_bind_tcp", bind_tcp)
    assert len(listen(host="both.example")) == 2
    assert [host for host, _ in calls] == ["127.0.0.1", "127.0.0.2"] * 2


def test_address_family_that_is_missing_is_skipped_while_another_is_left(
    listen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sockets._bind_tcp

    def bind_tcp(family: int, host: str, port: int, config: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise StartupError("no IPv6 here") from OSError(errno.EADDRNOTAVAIL, "no IPv6 here")
        return real(family, host, port, config, **more)

    monkeypatch.setattr(sockets, "_bind_tcp", bind_tcp)
    monkeypatch.setattr(
        socket, "getaddrinfo", addresses((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))
    )
    assert [sock.getsockname()[0] for sock in listen(host="localhost")] == ["127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", addresses((socket.AF_INET6, "::1")))
    assert str(failure(listen, host="localhost")) == "no IPv6 here"


def test_port_in_use(listen: Open) -> None:
    (sock,) = listen()
    port = sock.getsockname()[1]
    assert str(failure(listen, port=port)) == (
        f"127.0.0.1:{port} is in use by {SELF or 'another program'}; "
        "stop it, or choose another port with --port"
    )


def test_bind_is_what_names_another_place(listen: Open) -> None:
    (sock,) = listen(bind=["127.0.0.1:0"])
    place = f"127.0.0.1:{sock.getsockname()[1]}"
    assert str(failure(listen, bind=[place])).endswith("stop it, or choose another port with --bind")


@needs_unix
def test_bind_is_what_names_another_path(listen: Open, path: str) -> None:
    listen(bind=[f"unix:{path}"])
    assert str(failure(listen, bind=[f"unix:{path}"])).endswith("or choose another path with --bind")


def test_failure_closes_what_was_bound(listen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first address is one that nothing else uses: a port that is free on 127.0.0.2 may be taken on 127.0.0.1.
    (taken,) = listen(host="127.0.0.2")
    port = taken.getsockname()[1]
    two = addresses((socket.AF_INET, "127.0.0.3"), (socket.AF_INET, "127.0.0.2"))
    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert f"127.0.0.2:{port} is in use" in str(failure(listen, host="both.example", port=port))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, "not permitted to listen on 127.0.0.1:80; choose one of 1024 or above"),
        (errno.EADDRNOTAVAIL, "127.0.0.1 is not an address of this machine; 0.0.0.0 is all of them"),
        (errno.ENOBUFS, "cannot listen on 127.0.0.1:80: "),
    ],
)
def test_refusals_of_the_kernel(
    listen: Open, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    def refuse(self: Any, address: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "bind", refuse, raising=False)
        assert text in str(failure(listen, port=80))


def test_host_that_nobody_knows(listen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert str(failure(listen, host="nowhere.example")) == (
        "cannot find the address of host 'nowhere.example' (Name or service not known); "
        "use one such as 127.0.0.1 or 0.0.0.0"
    )


def test_host_that_is_no_name(listen: Open) -> None:
    assert "(not a host name)" in str(failure(listen, host="a" * 300))


def test_port_is_shared_only_where_that_is_asked_for(listen: Open) -> None:
    (first,) = listen(reuse_port="on")
    port = first.getsockname()[1]
    (second,) = listen(port=port, reuse_port="on")
    assert second.getsockname() == first.getsockname()
    for setting in ("auto", "off"):
        assert "is in use" in str(failure(listen, port=port, reuse_port=setting))


def test_port_cannot_be_shared_on_this_platform(listen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    assert "leave it at auto" in str(failure(listen, reuse_port="on"))


# ---------------------------------------------------------------------------------------------- places
@needs_unix
@needs_ipv6
def test_several_places(listen: Open, path: str) -> None:
    """In their order; each port 0 is picked for itself."""
    fd = inherited()
    found = listen(bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}", f"fd://{fd}", ":0"])
    families = [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_INET, socket.AF_INET, socket.AF_INET6]
    assert [sock.family for sock in found] == families
    assert all(is_listening(sock) for sock in found)
    assert found[4].getsockname()[1] == found[5].getsockname()[1] != found[0].getsockname()[1]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666


@needs_unix
def test_one_place_that_fails_closes_those_before(listen: Open, path: str) -> None:
    (taken,) = listen()
    assert "is in use" in str(failure(listen, bind=[f"unix:{path}", f"127.0.0.1:{taken.getsockname()[1]}"]))
    assert not os.path.exists(path)


def test_one_socket_of_several_places(listen: Open) -> None:
    assert "bind names 2 places" in str(failure(listen, single=True, bind=["127.0.0.1:0", "127.0.0.1:0"]))
    assert len(listen(single=True, bind=["localhost:0"])) == 1


# --------------------------------------------------------------------------------------------- systemd
@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """As if systemd had passed descriptors from `first` on."""

    def call(first: int, fds: str, names: str | None = None, pid: int | None = None) -> None:
        monkeypatch.setattr(sockets, "_FIRST_PASSED_FD", first)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid() if pid is None else pid))
        monkeypatch.setenv("LISTEN_FDS", fds)
        if names is not None:
            monkeypatch.setenv("LISTEN_FDNAMES", names)

    return call


def neighbours(count: int) -> list[int]:
    """Descriptors of bound sockets, one behind the other."""
    first = 200
    for fd in range(first, first + count):
        sock = inherited()
        os.dup2(sock, fd)
        os.close(sock)
    return list(range(first, first + count))


def test_sockets_of_systemd(listen: Open, passed: Callable[..., None]) -> None:
    fds = neighbours(3)
    passed(fds[0], "3", "web:admin:web")
    assert [sock.fileno() for sock in listen(bind=["systemd:admin"])] == [fds[1]]
    assert [sock.fileno() for sock in listen(bind=["systemd:web"])] == [fds[0], fds[2]]


def test_all_sockets_of_systemd(listen: Open, passed: Callable[..., None]) -> None:
    fds = neighbours(2)
    passed(fds[0], "2")
    found = listen(bind=["systemd"])
    assert [sock.fileno() for sock in found] == fds
    assert all(is_listening(sock) and not sock.get_inheritable() for sock in found)


def test_sockets_of_systemd_for_somebody_else(listen: Open, passed: Callable[..., None]) -> None:
    passed(3, "1", pid=1)
    assert "has passed no sockets to this process" in str(failure(listen, bind=["systemd"]))


@pytest.mark.parametrize("count", ["", "0", "-1", "x", "1e3"])
def test_number_of_sockets_that_is_none(listen: Open, passed: Callable[..., None], count: str) -> None:
    passed(3, count)
    assert f"expected a number of sockets in LISTEN_FDS, got {count!r}" in str(failure(listen, bind=["systemd"]))


def test_name_that_systemd_has_not_given(listen: Open, passed: Callable[..., None]) -> None:
    passed(3, "1", "web")
    assert str(failure(listen, bind=["systemd:api"])) == (
        "systemd has passed no socket named 'api', but 'web'; see FileDescriptorName= of the .socket unit"
    )


def test_socket_of_systemd_that_is_not_open(listen: Open, passed: Callable[..., None]) -> None:
    """What is in order before is closed with it."""
    fds = neighbours(1)
    passed(fds[0], "2")
    assert f"file descriptor {fds[0] + 1} is not open" in str(failure(listen, bind=["systemd"]))


# ------------------------------------------------------------------------------------------------ Unix
@pytest.fixture
def path(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path for a socket, short enough wherever the tests run."""
    monkeypatch.chdir(tmp_path)
    return "app.sock"


@needs_unix
def test_unix_socket(listen: Open, path: str) -> None:
    (sock,) = listen(uds=path)
    assert describe(sock) == f"unix:{path}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    assert is_listening(sock)
    assert not sock.getblocking()
    sock.close()
    assert not os.path.exists(path)


@needs_unix
@pytest.mark.parametrize("permissions", [0o600, 0o660])
def test_unix_socket_permissions(listen: Open, path: str, permissions: int) -> None:
    listen(uds=path, uds_permissions=permissions)
    assert stat.S_IMODE(os.stat(path).st_mode) == permissions


@needs_unix
def test_unix_socket_permissions_of_the_umask(listen: Open, path: str) -> None:
    before = os.umask(0o027)
    try:
        listen(uds=path, uds_permissions=None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750


@needs_unix
def test_stale_socket_file_is_replaced(listen: Open, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen()
    assert os.path.exists(path)
    (sock,) = listen(uds=path)
    assert is_listening(sock)


@needs_unix
def test_socket_file_in_use_is_left_alone(listen: Open, path: str) -> None:
    (first,) = listen(uds=path)
    assert str(failure(listen, uds=path)) == (
        f"'app.sock' is in use by {SELF or 'another server'}; stop that one or choose another path with --uds"
    )
    assert is_listening(first)


@needs_unix
def test_other_files_are_left_alone(listen: Open, path: str) -> None:
    with open(path, "w") as file:
        file.write("precious")
    assert "exists and is not a socket" in str(failure(listen, uds=path))
    with open(path) as file:
        assert file.read() == "precious"


@needs_unix
def test_file_of_a_successor_is_left_alone(listen: Open, path: str) -> None:
    (first,) = listen(uds=path)
    os.rename(path, "kept.sock")  # the inode stays taken, so the successor's is another
    (second,) = listen(uds=path)
    first.close()
    assert is_listening(second)


@needs_unix
def test_file_is_left_alone_by_other_processes(
    listen: Open, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sock,) = listen(uds=path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        sock.close()
    assert os.path.exists(path)


@needs_unix
def test_directory_that_is_missing(listen: Open, path: str) -> None:
    text = str(failure(listen, uds=f"nowhere/{path}"))
    assert text.startswith("cannot listen on 'nowhere/app.sock': the directory ")
    assert text.endswith("nowhere' does not exist; make it first")


@needs_unix
def test_path_that_is_too_long(listen: Open) -> None:
    assert "choose a shorter path" in str(failure(listen, uds="x" * 300))


@needs_unix
def test_path_out_of_reach(listen: Open, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, address: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "bind", refuse, raising=False)
        assert str(failure(listen, uds=path)).startswith("not permitted to make or use the socket 'app.sock'")


# ------------------------------------------------------------------------------------------- inherited
def inherited(
    family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, address: Any = ("127.0.0.1", 0)
) -> int:
    sock = socket.socket(family, kind)
    sock.bind(address)
    return sock.detach()


def test_inherited_tcp_socket(listen: Open) -> None:
    (sock,) = listen(fd=inherited())
    assert sock.family == socket.AF_INET
    assert is_listening(sock)
    assert not sock.getblocking()
    assert not sock.get_inheritable()


@needs_unix
def test_inherited_unix_socket_keeps_its_file(listen: Open, path: str) -> None:
    (sock,) = listen(fd=inherited(socket.AF_UNIX, address=path))
    assert describe(sock) == "unix:app.sock"
    assert is_listening(sock)
    sock.close()
    assert os.path.exists(path)


def test_inherited_socket_that_listens_keeps_its_backlog(
    listen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it has chosen: `Backlog=` of a .socket unit."""
    fd = inherited()
    with socket.socket(fileno=os.dup(fd)) as theirs:
        theirs.listen(7)
    asked: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "listen", lambda self, backlog: asked.append(backlog), raising=False)
        (sock,) = listen(fd=fd)
    assert asked == [] and is_listening(sock)


def test_descriptor_that_is_closed(listen: Open) -> None:
    fd = inherited()
    os.close(fd)
    assert str(failure(listen, fd=fd)).startswith(f"file descriptor {fd} is not open; pass a listening")


def test_descriptor_that_is_no_socket(listen: Open, tmp_path: Any) -> None:
    with open(tmp_path / "file", "w") as file:
        assert "is not a socket" in str(failure(listen, fd=file.fileno()))


def test_descriptor_of_another_kind_of_socket(listen: Open) -> None:
    fd = inherited(kind=socket.SOCK_DGRAM)
    assert "is not a stream socket" in str(failure(listen, fd=fd))
    os.close(fd)


def test_descriptor_of_a_connection(listen: Open) -> None:
    (server,) = listen()
    with socket.create_connection(server.getsockname()) as client:
        assert "cannot listen" in str(failure(listen, fd=client.fileno()))


# --- check --------------------------------------------------------------------------------------------------------


def test_check_binds_nothing_for_long(listen: Open) -> None:
    (sock,) = listen()
    port = sock.getsockname()[1]
    checked(port=port)  # in use, by a server that runs perhaps
    sock.close()
    checked(port=port)
    (again,) = listen(port=port)
    assert is_listening(again)


@needs_unix
def test_check_leaves_socket_files_as_they_are(listen: Open, path: str) -> None:
    checked(uds=path)
    assert not os.path.exists(path)
    (sock,) = listen(uds=path)
    checked(uds=path)
    assert is_listening(sock) and os.path.exists(path)


def test_check_leaves_inherited_sockets_to_others() -> None:
    checked(fd=99)
    checked(bind=["fd://99", "systemd"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"host": "203.0.113.1", "port": 1}, "cannot listen on 203.0.113.1:1: 203.0.113.1 is not an address of"),
        ({"bind": ["127.0.0.1:0", "203.0.113.1:1"]}, "cannot listen on 203.0.113.1:1"),
        ({"host": "no host"}, "cannot find the address of host 'no host'"),
    ],
)
def test_check_finds_what_is_wrong(options: dict[str, Any], text: str) -> None:
    assert text in str(failure(checked, **options))


@needs_unix
def test_check_finds_what_is_wrong_with_a_path(path: str) -> None:
    assert "the directory " in str(failure(checked, uds="nowhere/x.sock"))
    with open(path, "w") as file:
        file.write("precious")
    assert str(failure(checked, bind=[f"unix:{path}"])) == (
        "'app.sock' exists and is not a socket; remove it or choose another path with --bind"
    )
