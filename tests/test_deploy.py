"""What is in deploy/ is well-formed, runs as nobody in particular, and calls commands that there are."""

import configparser
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from mien.cli.root import COMMANDS, cli

DEPLOY = Path(__file__).parents[1] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def documents():
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def pods():
    return [one["spec"]["template"] for one in documents() if "template" in one.get("spec", {})]


def commands():
    """Return every command line of mien's in deploy/."""
    container = [
        given for pod in pods() for one in pod["spec"]["containers"] for given in (one.get("args"), one.get("command"))
    ]
    container += [service.get("command") for service in COMPOSE["services"].values()]
    container.append(re.search(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[1])
    found = [yaml.safe_load(given) if isinstance(given, str) else given for given in container if given]
    text = (DEPLOY / "mien.service").read_text()
    found += [shlex.split(line) for line in re.findall(r"bin/mien (.*)$", text, re.MULTILINE)]
    return [re.search(r"mien (ingest[^;]*)", one[2])[1].split() if one[:2] == ["sh", "-c"] else one for one in found]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_in_it_is_one_that_mien_has(words):
    if words[0] not in COMMANDS:
        assert words[0] == "serve", "the service may come from a later version"
        return
    command = cli.get_command(None, words[0])
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["metadata"]["labels"]["app.kubernetes.io/name"])
def test_a_pod_has_no_rights_it_does_not_need(pod):
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] and not container["image"].endswith(":latest")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claimed = {
            claim["metadata"]["name"] for one in documents() for claim in one["spec"].get("volumeClaimTemplates", [])
        }
        assert mounted <= {volume["name"] for volume in spec["volumes"]} | claimed


def test_labels_selectors_and_ports_of_the_manifests_agree():
    labels = [pod["metadata"]["labels"] for pod in pods()]
    ports = {port["name"] for pod in pods() for one in pod["spec"]["containers"] for port in one.get("ports", [])}
    for one in documents():
        if one["kind"] == "Service":
            assert one["spec"]["selector"] in labels
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
        if "matchLabels" in one["spec"].get("selector", {}):
            assert one["spec"]["selector"]["matchLabels"] in labels


@pytest.mark.parametrize("name", ["mien", "ingest"])
def test_a_container_of_compose_is_read_only_and_reaches_no_further_than_this_machine(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_no_password_is_in_it():
    texts = [path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file()]
    found = {word for text in texts for word in re.findall(r"postgresql://[^:@\s]+:([^@\s]+)@", text)}

    assert found and found <= {"PASSWORD", "${POSTGRES_PASSWORD}"}


def test_the_image_runs_as_a_user_without_rights_and_installs_extras_that_there_are():
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    last_stage = text.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001", last_stage, re.MULTILINE)
    extras = re.search(r"'\.\[([a-z,]+)\]'", text)[1].split(",")
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) - {"serve"} <= set(project["optional-dependencies"])


def test_the_unit_has_its_sections_and_no_rights():
    unit = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    unit.optionxform = str
    unit.read(DEPLOY / "mien.service", encoding="utf-8")
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert unit["Service"]["DynamicUser"] == "yes" and unit["Service"]["ProtectSystem"] == "strict"
