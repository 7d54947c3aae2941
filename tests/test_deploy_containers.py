"""deploy/docker, deploy/compose and deploy/kubernetes: read by hadolint, by the specification of Compose, and against
the schemas of Kubernetes, where these are installed; and what they do not know, such as who waits for whom. The health
check of the image asks real servers."""

import copy
import importlib.util
import socket
import subprocess

import pytest
import yaml
from deploying import DEPLOY, kubernetes, last, load_app, read_dockerfile, text_of
from proxying import program

import fastasgi

COMPOSE = ["compose/compose.yaml", "traefik/compose.yaml"]
IMAGE = read_dockerfile(text_of("docker/Dockerfile"))


# --- the image ----------------------------------------------------------------------------------------------------


@pytest.mark.pins("deploy.containers")
def test_hadolint_finds_nothing(tmp_path):
    hadolint = [program("hadolint"), "--no-color", "--failure-threshold", "style"]
    done = subprocess.run([*hadolint, str(DEPLOY / "docker" / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(text_of("docker/Dockerfile").replace('ENTRYPOINT ["fastasgi", "main:app"]', "ENTRYPOINT fastasgi"))
    done = subprocess.run([*hadolint, str(wrong)], capture_output=True, text=True)
    assert done.returncode == 1 and "DL3025" in done.stdout, "the check can fail"


@pytest.mark.pins("deploy.containers")
def test_the_image():
    names = [name for name, _ in IMAGE]
    assert names.count("FROM") == 2 and names[0] == "FROM"
    final = IMAGE[len(names) - 1 - names[::-1].index("FROM") :]
    for name in ("ENTRYPOINT", "CMD"):
        assert isinstance(last(final, name), list), "a shell as process 1 would swallow the signal"
    assert not any("pip" in str(rest) for _, rest in final), "what builds stays in the first stage"
    assert [rest for name, rest in final if name == "COPY" and rest.startswith("--from")] == [
        "--from=build /srv/app/.venv .venv"
    ]
    order = [name for name, _ in final]
    assert order.index("USER") < order.index("ENTRYPOINT")
    check = last(final, "HEALTHCHECK").partition(" CMD ")[2]
    assert check == '["python", "healthcheck.py"]', "no shell, and nothing that is not in the image"
    assert any(rest == "docker/healthcheck.py ." for name, rest in final if name == "COPY")


@pytest.fixture
def healthcheck(monkeypatch):
    spec = importlib.util.spec_from_file_location("deploy_healthcheck", DEPLOY / "docker" / "healthcheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TIMEOUT_S", 2.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # is not asked
    return module


def served(app, module):
    server = fastasgi.serve_in_thread(app, port=0, lifespan="off", access_log=False)
    server.start()
    module.PORT = int(server.url.rpartition(":")[2])
    return server


@pytest.mark.pins("deploy.containers")
def test_the_health_check_tells_the_truth(healthcheck, capsys):
    server = served(load_app(), healthcheck)
    try:
        assert healthcheck.main() == 0
    finally:
        server.stop()
    assert healthcheck.main() == 1, "nobody is there"

    async def ill(scope, receive, send):
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = served(ill, healthcheck)
    try:
        assert healthcheck.main() == 1
    finally:
        server.stop()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "/health: 200" and said[1].startswith("no answer from port ") and said[2] == "/health: 503"


def test_the_health_check_has_an_end(healthcheck, monkeypatch, capsys):
    """A server that is blocked takes the connection, and says nothing."""
    monkeypatch.setattr(healthcheck, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        healthcheck.PORT = silent.getsockname()[1]
        assert healthcheck.main() == 1
    assert "timed out" in capsys.readouterr().out


def test_health_checks_end_before_docker_ends_them(healthcheck):
    spec = importlib.util.spec_from_file_location("deploy_healthcheck", DEPLOY / "docker" / "healthcheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"--timeout={module.TIMEOUT_S + 1}s " in last(IMAGE, "HEALTHCHECK")


# --- Compose ------------------------------------------------------------------------------------------------------


@pytest.mark.pins("deploy.containers")
@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_follow_the_specification(name):
    specification = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    found = specification.PyCompose.from_yaml(text_of(name))
    found.validate()
    assert set(found.service_names()) == set(yaml.safe_load(text_of(name))["services"])
    with pytest.raises(ValueError, match="stop_grace_period"):
        specification.PyCompose.from_yaml(text_of(name).replace("stop_grace_period: 45s", "stop_grace_period: [45]"))


@pytest.mark.pins("deploy.containers")
@pytest.mark.parametrize("name", COMPOSE)
def test_who_is_waited_for_can_be_healthy(name):
    services = yaml.safe_load(text_of(name))["services"]
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[other] or services[other]["build"]["dockerfile"] == "docker/Dockerfile"
        assert ("image" in service) != ("build" in service)
        assert not service.get("image", ":x").endswith((":latest", "/")), "an image of some day"
        for secret in service.get("secrets", ()):
            assert secret in yaml.safe_load(text_of(name))["secrets"]


def test_nginx_waits_longer_than_what_it_waits_for():
    services = yaml.safe_load(text_of("compose/compose.yaml"))["services"]
    graces = {name: int(service["stop_grace_period"].rstrip("s")) for name, service in services.items()}
    assert graces["nginx"] > graces["app"]
    assert services["nginx"]["stop_signal"] == "SIGQUIT"


# --- Kubernetes ---------------------------------------------------------------------------------------------------

KINDS = ["Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"]


@pytest.mark.pins("deploy.containers")
@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_follows_the_schemas(kind):
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    found = kubernetes(kind)
    schemas.validate(found, schemas.latest_version(), strict=True)
    wrong = copy.deepcopy(found)
    wrong["spec"]["tea"] = 1
    with pytest.raises(schemas.ValidationError):
        schemas.validate(wrong, schemas.latest_version(), strict=True)


@pytest.mark.pins("deploy.containers")
def test_the_objects_of_the_manifest_know_each_other():
    assert [each["kind"] for each in yaml.safe_load_all(text_of("kubernetes/app.yaml"))] == KINDS
    deployment, service, budget, scaler = map(kubernetes, KINDS)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert budget["spec"]["minAvailable"] < scaler["spec"]["minReplicas"] == deployment["spec"]["replicas"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert "lifecycle" not in container, "--drain-delay stands in the place of a preStop hook"
