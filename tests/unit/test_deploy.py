"""What can be checked of deploy/ without an engine: schemas, settings, ports, paths, users and order."""

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from fastapi.routing import APIRoute
from pathspec import PathSpec

from analysis_service.routes import metrics
from analysis_service.settings import AnalysisSettings
from results_service.settings import ResultsSettings
from shared.settings import ServiceSettings
from shared.version import VERSION

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = (DEPLOY / "docker-compose.yml").read_text()
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
USER_ID = 10001

SERVICES: dict[str, type[ServiceSettings]] = {"results": ResultsSettings, "analysis": AnalysisSettings}
PORTS = {"results": 8000, "analysis": 8001}

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<text>[^}]*))?\}")
SECRET_VARIABLES = {"MYSQL_PASSWORD", "RESULTS_API_KEY"}


# ----------------------------------------------------------------------------------------------------- reading


def compose() -> dict[str, Any]:
    """The compose file as Compose reads it, each required variable being `/given`."""
    text = VARIABLE.sub(lambda found: found["text"] if found["kind"] == "-" else "/given", COMPOSE)
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def manifest(service: str, kind: str) -> dict[str, Any]:
    """The one object of a kind in a service's manifest file."""
    text = (DEPLOY / "kubernetes" / f"benchmark-{service}-deployment.yaml").read_text()
    (found,) = [item for item in yaml.safe_load_all(text) if item["kind"] == kind]
    return dict(found)


def pod(service: str) -> dict[str, Any]:
    """A service's pod."""
    return dict(manifest(service, "Deployment")["spec"]["template"]["spec"])


def container(service: str) -> dict[str, Any]:
    """The one container of a service's pod."""
    (found,) = pod(service)["containers"]
    return dict(found)


def kubernetes_environment(service: str) -> dict[str, str]:
    """What the container finds in its environment; a value from a Secret is `given`."""
    assert container(service)["envFrom"] == [{"configMapRef": {"name": f"benchmark-{service}"}}]
    values = dict(manifest(service, "ConfigMap")["data"])
    return values | {item["name"]: item.get("value", "given") for item in container(service)["env"]}


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the Dockerfile: (instruction, arguments), those of the stages below it first."""

    name: str
    lines: tuple[tuple[str, str], ...]

    def last(self, instruction: str) -> str:
        """The arguments of the last such instruction, the one that counts."""
        return [arguments for name, arguments in self.lines if name == instruction][-1]


def stages() -> dict[str, Stage]:
    """The Dockerfile's stages by name."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, Stage] = {}
    name = ""
    lines: tuple[tuple[str, str], ...] = ()
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            lines = found[base].lines if base in found else ()
        lines = (*lines, (instruction, arguments.strip()))
        if name:
            found[name] = Stage(name, lines)
    return found


def command(service: str) -> list[str]:
    """What an image starts."""
    return list(json.loads(stages()[service].last("CMD")))


# ----------------------------------------------------------------------------------------------------- compose


def test_compose_file_follows_the_specification() -> None:
    PyCompose.from_yaml(yaml.safe_dump(compose())).validate()


def test_compose_names_only_volumes_and_services_that_exist() -> None:
    whole = compose()
    for service in whole["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith("/") or source in whole["volumes"]
        assert set(service.get("depends_on", ())) <= set(whole["services"])
        assert set(service["networks"]) <= set(whole["networks"])


def test_compose_starts_each_when_what_it_needs_is_healthy() -> None:
    services = compose()["services"]
    order = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert {name: set(needs) for name, needs in order.items()} == {
        "mysql": set(),
        "mongo": set(),
        "results": {"mongo"},
        "analysis": {"mysql", "results"},
    }
    for needs in order.values():
        for name, condition in needs.items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in services[name] or "HEALTHCHECK" in dict(stages()[name].lines)


def test_compose_stores_are_what_the_services_need() -> None:
    services = compose()["services"]
    assert services["mysql"]["image"] == "mysql:8.4"
    assert "--character-set-server=utf8mb4" in services["mysql"]["command"]
    assert services["mongo"]["image"] == "mongo:7"
    replica_set = services["mongo"]["command"][services["mongo"]["command"].index("--replSet") + 1]
    assert services["results"]["environment"]["MONGO_URL"].endswith(f"?replicaSet={replica_set}")
    assert f'rs.initiate({{_id: "{replica_set}"' in services["mongo"]["healthcheck"]["test"][-1]
    for store in ("mysql", "mongo"):
        assert "ports" not in services[store]
        assert services[store]["networks"] == ["stores"]
        assert services[store]["volumes"]


@pytest.mark.parametrize("variable", sorted(SECRET_VARIABLES))
def test_compose_has_no_default_for_a_secret(variable: str) -> None:
    uses = [found for found in VARIABLE.finditer(COMPOSE) if found["name"] == variable]
    assert uses
    assert all(found["kind"] == "?" for found in uses)
    for service in compose()["services"].values():
        assert service.get("environment", {}).get(variable, "/given") == "/given"


def test_env_example_names_the_compose_file_s_variables() -> None:
    lines = [line for line in (DEPLOY / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    example = dict(line.split("=", 1) for line in lines)
    assert set(example) == {found["name"] for found in VARIABLE.finditer(COMPOSE)}
    assert not any(example[name] for name in SECRET_VARIABLES)


@pytest.mark.parametrize("service", SERVICES)
def test_compose_builds_and_restarts_the_services(service: str) -> None:
    entry = compose()["services"][service]
    assert (DEPLOY / entry["build"]["context"]).resolve() == ROOT
    assert (ROOT / entry["build"]["dockerfile"]).is_file()
    assert entry["build"]["target"] == service
    assert entry["image"] == f"scorehouse/benchmark-{service}:{VERSION}"
    assert entry["restart"] == "unless-stopped"
    assert entry["read_only"] is True
    assert urlsplit(f"//{entry['ports'][0].rpartition(':')[0]}").hostname == "127.0.0.1"


# ---------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
@pytest.mark.parametrize("service", SERVICES)
def test_environment_is_one_that_the_service_takes(service: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: Mapping[str, str] = (
        compose()["services"][service]["environment"] if where == "compose" else kubernetes_environment(service)
    )
    kind = SERVICES[service]
    assert {name.lower() for name in given} <= set(kind.model_fields)
    assert all(isinstance(value, str) for value in given.values())
    for name in kind.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = kind()
    assert settings.environment == "production"
    assert settings.auth == "keys"


@pytest.mark.parametrize("service", SERVICES)
def test_key_file_lies_in_what_is_mounted(service: str) -> None:
    entry = compose()["services"][service]
    mounted = [Path(volume.split(":")[1]) for volume in entry["volumes"]]
    assert Path(entry["environment"]["API_KEYS_FILE"]).parent in mounted
    mounts = {mount["name"]: mount["mountPath"] for mount in container(service)["volumeMounts"]}
    assert Path(kubernetes_environment(service)["API_KEYS_FILE"]).parent == Path(mounts["keys"])
    assert set(mounts) == {volume["name"] for volume in pod(service)["volumes"]}


def test_analysis_finds_results() -> None:
    url = urlsplit(compose()["services"]["analysis"]["environment"]["RESULTS_URL"])
    assert (url.hostname, url.port) == ("results", PORTS["results"])
    url = urlsplit(kubernetes_environment("analysis")["RESULTS_URL"])
    service = manifest("results", "Service")
    assert (url.hostname, url.port) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert compose()["services"]["analysis"]["environment"]["MYSQL_HOST"] in compose()["services"]


# -------------------------------------------------------------------------------------------------- kubernetes


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_follow_the_schemas(path: Path) -> None:
    for item in yaml.safe_load_all(path.read_text()):
        for version in ("1.28", "1.33"):
            kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_selects_its_own_pods(service: str) -> None:
    deployment = manifest(service, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        manifest(service, "Service")["spec"]["selector"],
        manifest(service, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector == {"app.kubernetes.io/name": labels["app.kubernetes.io/name"]} for selector in selectors)
    assert container(service)["image"] == f"scorehouse/benchmark-{service}:{VERSION}"


@pytest.mark.parametrize("service", SERVICES)
def test_liveness_does_not_depend_on_the_store(service: str) -> None:
    probes = container(service)
    assert probes["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert set(probes["livenessProbe"]) & {"httpGet", "tcpSocket", "exec", "grpc"} == {"tcpSocket"}
    startup = probes["startupProbe"]
    assert "tcpSocket" in startup
    assert (
        startup["periodSeconds"] * startup["failureThreshold"]
        > SERVICES[service].model_fields["start_timeout_s"].get_default() + 10
    )
    assert kubernetes_environment(service)["START_TIMEOUT_S"] == "60"


@pytest.mark.parametrize("service", SERVICES)
def test_pod_has_no_more_rights_than_it_needs(service: str) -> None:
    security = pod(service)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == USER_ID
    assert container(service)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(service)["automountServiceAccountToken"] is False
    # With links, a Service that is called mysql sets MYSQL_PORT to a URL.
    assert pod(service)["enableServiceLinks"] is False
    assert container(service)["resources"]["limits"]["memory"]


@pytest.mark.parametrize("service", SERVICES)
def test_secrets_are_told_in_the_manifest_and_the_documentation(service: str) -> None:
    named = {item["valueFrom"]["secretKeyRef"]["name"] for item in container(service)["env"]}
    named |= {volume["secret"]["secretName"] for volume in pod(service)["volumes"] if "secret" in volume}
    header = (DEPLOY / "kubernetes" / f"benchmark-{service}-deployment.yaml").read_text().partition("apiVersion")[0]
    operations = (ROOT / "docs" / "operations.md").read_text()
    for name in named:
        assert f"Secret {name} " in header
        assert f"create secret generic {name} " in operations


def test_figures_of_each_pod_are_scraped() -> None:
    annotations = manifest("analysis", "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == str(PORTS["analysis"])
    [route] = metrics.router.routes
    assert isinstance(route, APIRoute)
    assert annotations["prometheus.io/path"] == route.path


# -------------------------------------------------------------------------------------------------- dockerfile


def copied() -> Iterator[tuple[str, str]]:
    """(Stage, source) of everything that is copied from the tree."""
    for stage in stages().values():
        for instruction, arguments in stage.lines:
            if instruction in {"COPY", "ADD"} and not arguments.startswith("--from"):
                yield from ((stage.name, source) for source in shlex.split(arguments)[:-1])


def test_every_copied_path_exists_and_reaches_the_builder() -> None:
    ignored = PathSpec.from_lines("gitignore", (ROOT / ".dockerignore").read_text().splitlines())
    sources = {source for _, source in copied()}
    assert {"shared", "results_service", "analysis_service", "pyproject.toml"} <= sources
    for source in sources:
        path = ROOT / source
        assert path.exists(), source
        files = [path] if path.is_file() else list(path.rglob("*.py"))
        assert files
        assert not [file for file in files if ignored.match_file(str(file.relative_to(ROOT)))], source
    assert ignored.match_file("tests/unit/test_deploy.py")
    assert ignored.match_file("deploy/.env")


@pytest.mark.parametrize("service", SERVICES)
def test_image_holds_one_service(service: str) -> None:
    stage = stages()[service]
    taken = [arguments.split()[0] for name, arguments in stage.lines if name == "COPY"]
    assert taken == [f"--from=build-{service}"]
    packages = {source for name, source in copied() if name == f"build-{service}" and (ROOT / source).is_dir()}
    assert packages == {"shared", f"{service}_service"}


@pytest.mark.parametrize("service", SERVICES)
def test_image_installs_from_its_hashed_lock(service: str) -> None:
    runs = " && ".join(arguments for name, arguments in stages()[f"build-{service}"].lines if name == "RUN")
    installs = [step for step in re.split(r"\s*&&\s*", runs) if re.search(r"\bpip\b.*\binstall\b", step)]
    assert len(installs) == 3
    for step in installs:
        assert "--require-hashes" in step or ("--no-deps" in step and "/wheels/" in step)
    assert any(step.endswith(f"-r deploy/requirements-{service}.lock") for step in installs)


@pytest.mark.parametrize("service", SERVICES)
def test_image_runs_as_a_numbered_user(service: str) -> None:
    assert stages()[service].last("USER") == f"{USER_ID}:{USER_ID}"


@pytest.mark.parametrize("service", SERVICES)
def test_ports_agree(service: str) -> None:
    port, start = PORTS[service], command(service)
    assert start[:2] == ["uvicorn", f"{service}_service.main:app"]
    assert start[start.index("--port") + 1] == stages()[service].last("EXPOSE") == str(port)
    assert start[start.index("--host") + 1] == "0.0.0.0"  # noqa: S104 - inside a container
    assert (ROOT / f"{service}_service" / "main.py").is_file()
    assert compose()["services"][service]["ports"][0].endswith(f":{port}:{port}")
    assert container(service)["ports"] == [{"name": "http", "containerPort": port}]
    assert manifest(service, "Service")["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_health_check_says_what_the_service_says(service: str, status: int, exit_code: int) -> None:
    asked = []

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    python, *arguments = json.loads(stages()[service].last("HEALTHCHECK").partition("CMD")[2])
    assert python == "python"
    assert f" {PORTS[service]}," in arguments[-1]
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        here = arguments[-1].replace(f" {PORTS[service]},", f" {server.server_port},")
        done = subprocess.run([sys.executable, *arguments[:-1], here], timeout=20, check=False)
        thread.join(timeout=20)
    assert asked == ["/health"]
    assert done.returncode == exit_code
