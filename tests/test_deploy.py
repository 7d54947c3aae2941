"""deploy/: every option, port, path, signal and time is one that the server has, and they fit each other."""

import re
import shlex

import click
import pytest
import yaml
from deploying import (
    DEPLOY,
    ROOT,
    UNITS,
    directives,
    kubernetes,
    last,
    load_app,
    only,
    options_of,
    read_dockerfile,
    read_haproxy,
    read_nginx,
    read_supervisor,
    read_unit,
    seconds,
    starts,
    text_of,
)

from fastasgi.errors import ConfigError
from fastasgi.kinds import parse_binding
from fastasgi.options import FIELDS

FOLDER, PROGRAM, USER = "/srv/app", "/srv/app/.venv/bin/fastasgi", "app"
SOCKET = "/run/app/app.sock"
PORT, PORTS = 8000, [8001, 8002, 8003, 8004]
HEALTH, READY = "/health", "/ready"
STARTS = list(starts())
KEEP_ALIVE_S = FIELDS["timeout_keep_alive"].default
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "deployment").glob("*.md")}


def each_start():
    return pytest.mark.parametrize("start", STARTS, ids=[start.where for start in STARTS])


def unit(name):
    return read_unit(text_of(f"systemd/{name}"))


def of_start(where):
    (found,) = (start for start in STARTS if start.where == where)
    return found


def mapping(name):
    return yaml.safe_load(text_of(name))


@pytest.fixture(scope="module")
def app():
    """deploy/app/main.py"""
    return load_app()


# --- the command lines --------------------------------------------------------------------------------------------


@pytest.mark.pins("deploy.options")
@each_start()
def test_every_option_is_one_of_the_server(start):
    assert start.options["app"] == "main:app"
    assert start.words[0] in (PROGRAM, "fastasgi")
    assert all(name.startswith("FASTASGI_") for name in start.environment)


@pytest.mark.pins("deploy.options")
def test_options_that_are_none_are_found():
    """The reader of the command lines refuses what the server refuses."""
    with pytest.raises(click.ClickException, match="did you mean '--port'"):
        options_of(["main:app", "--prot", "1"])
    with pytest.raises(ConfigError, match="whole number"):
        options_of(["main:app"], {"FASTASGI_WORKERS": "many"})
    with pytest.raises(AssertionError, match="FASTASGI_PROT in the environment is no option"):
        options_of(["main:app"], {"FASTASGI_PROT": "1"})


def test_nothing_that_starts_the_server_is_left_out():
    paths = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    named = {
        path.relative_to(DEPLOY).as_posix()
        for path, text in texts.items()
        if "main:app" in text or re.search(r"--host\b", re.sub("^ *#.*", "", text, flags=re.M))
    }
    assert named == {start.where for start in STARTS}


@pytest.mark.pins("deploy.options")
@each_start()
def test_who_is_believed_and_where_it_listens_go_together(start):
    options = start.options
    trusted = options.get("forwarded_allow_ips", [])
    places = [parse_binding(text) for text in options.get("bind", [])]
    if options.get("host") == "0.0.0.0":
        assert bool(trusted) == (start.where != "docker/Dockerfile"), "behind which proxy the image stands is not known"
    elif not places:
        assert options["host"] == "127.0.0.1" and not trusted, "which is believed by default"
    else:
        assert trusted == (["*"] if options.get("proxy_protocol") else ["unix"])
        assert options.get("uds_permissions", 0o660) == 0o660


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.pins("deploy.seconds")
@each_start()
def test_nobody_kills_before_the_drain_is_over(start):
    if start.stop_s is not None:  # a drop-in keeps its unit's; docker stop is told on the command line
        assert start.drain_s < start.stop_s <= start.drain_s + 10


@pytest.mark.pins("deploy.seconds")
def test_the_seconds_of_the_pages():
    drain_s = f"{of_start('docker/Dockerfile').drain_s:g}"
    assert f"{drain_s} s in all" in PAGES["index.md"]
    table = re.findall(r"^\| (\d+) \| (?:`(\w+)` )?\|", PAGES["index.md"], re.M)
    assert sum(int(number) for number, _ in table) == int(drain_s)
    assert {name: int(number) for number, name in table if name} == {
        name: FIELDS[name].default for name in (
            "drain_delay", "timeout_graceful_shutdown", "timeout_disconnect_grace", "timeout_lifespan_shutdown")
    }
    for page in PAGES.values():
        for number in re.findall(r"up\s+to\s+(\d+)\s+s\b", page):
            assert number == drain_s
    assert f"all of the above, {of_start('kubernetes/app.yaml').drain_s:g} s" in PAGES["kubernetes.md"]
    assert f"docker stop --time {of_start('compose/compose.yaml').stop_s:g}" in PAGES["docker.md"]
    assert f"docker stop --time {of_start('compose/compose.yaml').stop_s:g}" in text_of("docker/Dockerfile")


@pytest.mark.pins("deploy.seconds")
def test_proxies_let_go_of_idle_connections_first():
    """A connection that the server closes just when the proxy sends a request on it is a 502."""
    found = [
        seconds(words[0])
        for name in ("nginx/upstream.conf", "nginx/upstream-unix.conf", "compose/upstream.conf")
        for words in directives(read_nginx(text_of(name)), "keepalive_timeout")
    ]
    found.append(seconds(mapping("traefik/app.yaml")["http"]["serversTransports"]["app"]["forwardingTimeouts"]["idleConnTimeout"]))
    flags = dict(flag.split("=", 1) for flag in mapping("traefik/compose.yaml")["services"]["traefik"]["command"])
    found.append(seconds(flags["--serversTransport.forwardingTimeouts.idleConnTimeout"]))
    defaults = read_haproxy(text_of("haproxy/haproxy.cfg"))["defaults"]
    found.append(seconds(next(words[2] for words in defaults if words[:2] == ["timeout", "http-keep-alive"])))
    assert len(found) == 6
    assert max(found) < KEEP_ALIVE_S


@pytest.mark.pins("deploy.seconds")
def test_a_watchdog_waits_longer_than_the_supervisor_pings():
    """Twice within its time, from a timer that goes off every half second."""
    for path in UNITS:
        found = only(read_unit(path.read_text()), "Service", "WatchdogSec")
        assert found is None or float(found) >= 2


# --- signals ------------------------------------------------------------------------------------------------------


@pytest.mark.pins("deploy.signals")
@each_start()
def test_reload_needs_workers(start):
    """A process that is alone has nobody to hand over to."""
    assert not start.reloads or start.options["workers"] > 1


@pytest.mark.pins("deploy.signals")
def test_the_signal_to_stop():
    for path in UNITS:
        service = read_unit(path.read_text()).get("Service", [])
        assert "KillSignal" not in dict(service), "TERM is systemd's default"
        if path.suffix == ".service":
            assert ("KillMode", "mixed") in service
            assert dict(service).get("ExecReload", "/bin/kill -HUP $MAINPID") == "/bin/kill -HUP $MAINPID"
    assert read_supervisor(text_of("supervisor/app.conf"))["stopsignal"] == "TERM"
    assert last(read_dockerfile(text_of("docker/Dockerfile")), "STOPSIGNAL") == "SIGTERM"
    assert "stop_signal" not in mapping("compose/compose.yaml")["services"]["app"]


# --- ports and paths ----------------------------------------------------------------------------------------------


@pytest.mark.pins("deploy.ports")
def test_the_port_of_containers():
    image = read_dockerfile(text_of("docker/Dockerfile"))
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"][0]
    labels = mapping("traefik/compose.yaml")["services"]["app"]["labels"]
    ((upstream,),) = directives(read_nginx(text_of("compose/upstream.conf")), "server")
    found = {
        "EXPOSE": int(last(image, "EXPOSE")),
        "healthcheck": int(re.search(r"^PORT = (\d+)$", text_of("docker/healthcheck.py"), re.M)[1]),
        "pod": pod["ports"][0]["containerPort"],
        "label": int(labels["traefik.http.services.app.loadBalancer.server.port"]),
        "upstream": int(upstream.removeprefix("app:")),
        **{
            start.where: start.options["port"]
            for start in STARTS
            if "port" in start.options and "systemd" not in start.where
        },
    }
    assert set(found.values()) == {PORT} and len(found) == 10, found
    assert kubernetes("Service")["spec"]["ports"][0]["targetPort"] == pod["ports"][0]["name"]
    assert f"--publish {PORT}:{PORT}" in PAGES["docker.md"]
    for name in ("compose/compose.yaml", "traefik/compose.yaml"):
        published = {key: each.get("ports") for key, each in mapping(name)["services"].items()}
        assert {key for key, ports in published.items() if ports} <= {"nginx", "traefik"}, "only the proxy is open"


@pytest.mark.pins("deploy.ports")
def test_the_ports_of_four_servers():
    nginx = [words[0] for words in directives(read_nginx(text_of("nginx/upstream.conf")), "server")]
    servers = mapping("traefik/app.yaml")["http"]["services"]["app"]["loadBalancer"]["servers"]
    assert nginx == [f"127.0.0.1:{port}" for port in PORTS]
    assert [each["url"] for each in servers] == [f"http://127.0.0.1:{port}" for port in PORTS]
    assert f"systemctl enable --now {' '.join(f'app@{port}' for port in PORTS)}\n" in PAGES["systemd.md"]
    words = only(unit("instances/app@.service"), "Service", "ExecStart").split()
    assert words[words.index("--port") + 1] == "%i"


@pytest.mark.pins("deploy.paths")
def test_the_socket():
    servers = [words[0] for words in directives(read_nginx(text_of("nginx/upstream-unix.conf")), "server")]
    assert servers == [f"unix:{SOCKET}"]
    haproxy = read_haproxy(text_of("haproxy/haproxy.cfg"))["backend app"]
    assert [words[2] for words in haproxy if words[0] == "server"] == [f"unix@{SOCKET}"]
    assert only(unit("socket/app.socket"), "Socket", "ListenStream") == SOCKET
    for start in STARTS:
        for place in map(parse_binding, start.options.get("bind", [])):
            if place.kind == "unix":
                assert place.path == SOCKET, start.where
            else:
                assert place.name == only(unit("socket/app.socket"), "Socket", "FileDescriptorName")


@pytest.mark.pins("deploy.paths")
def test_what_the_server_makes_lies_where_it_may():
    """In RuntimeDirectory=, which systemd removes at the end: its own socket must lie elsewhere."""
    for name in ("exec", "notify", "socket"):
        start = of_start(f"systemd/{name}/app.service")
        folder = f"/run/{only(unit(f'{name}/app.service'), 'Service', 'RuntimeDirectory')}/"
        made = [start.options["control_socket"], *(
            place.path for place in map(parse_binding, start.options["bind"]) if place.kind == "unix")]
        assert all(path.startswith(folder) for path in made)
        assert SOCKET.startswith(folder) == (name != "socket")


@pytest.mark.pins("deploy.paths")
def test_folders_and_users():
    image = read_dockerfile(text_of("docker/Dockerfile"))
    for start in STARTS:
        assert start.directory in (None, FOLDER), start.where
    assert dict([last(image, "ENV").split("=", 1)])["PATH"].split(":")[0] == PROGRAM.rpartition("/")[0]
    user, group = last(image, "USER").split(":")
    made = next(rest for name, rest in image if name == "RUN" and "useradd" in rest)
    assert f"--uid {user} " in made and f"--gid {group} " in made and int(user) > 0
    context = kubernetes("Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (int(user), int(group), True)
    users = [only(read_unit(path.read_text()), "Service", "User") for path in UNITS if path.suffix == ".service"]
    assert {*users, read_supervisor(text_of("supervisor/app.conf"))["user"]} == {USER}


@pytest.mark.pins("deploy.paths")
def test_files_that_are_mounted_or_copied_exist():
    compose = mapping("compose/compose.yaml")
    targets = {}
    for volume in compose["services"]["nginx"]["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        targets[target] = source
        if source not in ("./certificates",):  # made by the reader
            assert (DEPLOY / "compose" / source).is_file(), source
    config = read_nginx(text_of("nginx/app.conf"))
    assert {words[0] for words in directives(config, "include")} <= set(targets)
    for (path,) in (*directives(config, "ssl_certificate"), *directives(config, "ssl_certificate_key")):
        assert path.rpartition("/")[0] in targets
        assert f"certificates/{path.rpartition('/')[2]}" in PAGES["docker.md"]
    for name in ("compose/compose.yaml", "traefik/compose.yaml"):
        build = mapping(name)["services"]["app"]["build"]
        context = (DEPLOY / name).parent / build["context"]
        assert (context / build["dockerfile"]).is_file()
    for name, rest in read_dockerfile(text_of("docker/Dockerfile")):
        if name == "COPY" and not rest.startswith("--from"):
            assert (DEPLOY / rest.split()[0]).is_file()
    password = mapping("compose/compose.yaml")["secrets"]["database-password"]["file"]
    assert f"> {password.removeprefix('./')}\n" in PAGES["docker.md"]


# --- health -------------------------------------------------------------------------------------------------------


@pytest.mark.pins("deploy.health")
def test_what_is_asked_is_what_the_application_answers(app):
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"][0]
    labels = mapping("traefik/compose.yaml")["services"]["app"]["labels"]
    haproxy = read_haproxy(text_of("haproxy/haproxy.cfg"))["backend app"]
    asked = {
        "image": re.search(r'^PATH = "(.*)"$', text_of("docker/healthcheck.py"), re.M)[1],
        "startup": pod["startupProbe"]["httpGet"]["path"],
        "liveness": pod["livenessProbe"]["httpGet"]["path"],
        "file": mapping("traefik/app.yaml")["http"]["services"]["app"]["loadBalancer"]["healthCheck"]["path"],
        "label": labels["traefik.http.services.app.loadBalancer.healthCheck.path"],
        "haproxy": next(words[3] for words in haproxy if words[:2] == ["option", "httpchk"]),
    }
    assert set(asked.values()) == {HEALTH}, asked
    assert pod["readinessProbe"]["httpGet"]["path"] == READY
    routes = {route.path for route in app.routes}
    nginx = {words[-1] for words in directives(read_nginx(text_of("nginx/app.conf")), "location")}
    assert {HEALTH, READY, *nginx} - {"/.well-known/acme-challenge/"} <= routes


@pytest.mark.pins("deploy.health")
def test_health_checks_leave_no_lines():
    for where in ("docker/Dockerfile", "compose/compose.yaml", "traefik/compose.yaml", "kubernetes/app.yaml"):
        excluded = of_start(where).options["access_log_exclude"]
        assert excluded == ([HEALTH, READY] if "kubernetes" in where else [HEALTH])


@pytest.mark.pins("deploy.health")
def test_probes_are_right_for_a_drain():
    spec = kubernetes("Deployment")["spec"]["template"]["spec"]
    pod = spec["containers"][0]
    readiness = pod["readinessProbe"]
    assert of_start("kubernetes/app.yaml").options["drain_delay"] >= 2 * readiness["periodSeconds"]
    assert pod["startupProbe"]["periodSeconds"] * pod["startupProbe"]["failureThreshold"] == 60
    assert "for 60 s: the container is restarted" in PAGES["kubernetes.md"]
    assert all(pod[name]["httpGet"]["port"] == "http" for name in ("startupProbe", "livenessProbe", "readinessProbe"))


def test_commands_of_the_pages_name_files_that_are_there():
    for page in PAGES.values():
        for block in re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S):
            for word in shlex.split(block.replace("\\\n", ""), comments=True):
                if word.startswith("deploy/"):
                    assert (ROOT / word).exists(), word
