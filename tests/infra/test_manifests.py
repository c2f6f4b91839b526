"""What every manifest of both overlays keeps to: the API's own form, and the project's rules beyond it."""

import copy
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator

from infra import make_secrets
from tests.infra.manifests import (
    INFRA,
    JOB_LABEL,
    OVERLAYS,
    Manifest,
    built,
    containers,
    matches,
    named,
    pod_templates,
    quantity,
    text,
    versions,
)

CHECKOV = INFRA.parent / ".venv-tools" / "bin" / "checkov"
OURS = ("k2", "k2-services")
MADE_BY_HAND = {
    overlay: make_secrets.contents(overlay, dict.fromkeys((*make_secrets.OWN, *make_secrets.OUTSIDE), "x"))
    for overlay in OVERLAYS
}
BOTH = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def schemas() -> dict[str, Draft202012Validator]:
    """Strict schemas of custom resources by apiVersion and kind."""
    found = {}
    for path in (INFRA / "schemas").glob("*.json"):
        schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(schema)
        kinds = schema["properties"]
        if "const" in kinds["kind"]:
            found[f"{kinds['apiVersion']['const']} {kinds['kind']['const']}"] = Draft202012Validator(schema)
    return found


def problem(one: Manifest) -> str | None:
    """What the API server would say of a manifest, unknown fields included; None when nothing."""
    custom = schemas().get(f"{one['apiVersion']} {one['kind']}")
    if custom is not None:
        errors = [f"{error.json_path}: {error.message}" for error in custom.iter_errors(one)]
        return "; ".join(errors) or None
    try:
        kubernetes_validate.validate(one, versions()["KUBERNETES_VERSION"], strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return getattr(error, "message", None) or f"no schema of {one['apiVersion']} {one['kind']}"
    return None


@BOTH
def test_everything_is_of_the_form_the_api_takes(overlay: str) -> None:
    found = {f"{one['kind']} {one['metadata']['name']}": problem(one) for one in built(overlay)}
    assert {name: said for name, said in found.items() if said} == {}
    assert len(found) > 30


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("ClusterQueue", "k2-training", ("spec", "cohortname")),
        ("ClusterQueue", "k2-training", ("spec", "resourceGroups", 0, "flavors", 0, "quota")),
        ("Deployment", "mlflow", ("spec", "template", "spec", "containers", 0, "readynessProbe")),
        ("NetworkPolicy", "metrics", ("spec", "ingress", 0, "source")),
    ],
)
def test_a_mistyped_field_is_found(kind: str, name: str, path: tuple[str | int, ...]) -> None:
    changed: Any = copy.deepcopy(named("cloud", kind, name))
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = {}
    assert problem(changed)


@BOTH
def test_no_manifest_holds_a_secret(overlay: str) -> None:
    assert built(overlay, "Secret") == []
    for what, _, template in pod_templates(overlay):
        for one in containers(template):
            plain = [e["name"] for e in one.get("env", ()) if "value" in e]
            assert not [n for n in plain if re.search(r"PASSWORD|SECRET|TOKEN|(?<!CONFIG_)KEY$|ACCESS_KEY", n)], what
    # Addresses with a password in them, keys of clouds, private keys, and long random words.
    secret = re.compile(
        r"://[^/\s:@]+:[^/\s@]+@|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\b(?=\w*\d)(?=\w*[A-Z])\w{32,}\b"
    )
    files = [p for p in INFRA.rglob("*") if p.is_file() and p.suffix in (".yaml", ".env", ".sh", ".ini", ".txt", "")]
    found = {str(p.relative_to(INFRA)): secret.search(p.read_text()) for p in files if "stack" not in p.parts}
    assert {name: hit.group() for name, hit in found.items() if hit} == {}
    assert secret.search("postgresql://mlflow:hunter2@host/db") and not secret.search(
        "postgresql://mlflow@host:5432/db"
    )


@BOTH
def test_images_are_those_of_the_versions_file(overlay: str) -> None:
    pinned = {value for name, value in versions().items() if name.endswith("_IMAGE")}
    for what, _, template in pod_templates(overlay):
        for one in containers(template):
            assert one["image"] in pinned, f"{what}: {one['image']}"
    for image in pinned:
        tag = image.rpartition("/")[2].partition(":")[2]
        assert tag and tag != "latest", image


@BOTH
def test_pods_run_with_least_privilege_and_bounded(overlay: str) -> None:
    templates = list(pod_templates(overlay))
    assert len(templates) >= 4
    for what, _, template in templates:
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, what
        assert spec["enableServiceLinks"] is False, what
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] >= 10_000, what
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, what
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), what
        for one in containers(template):
            context = one["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True, what
            assert context["capabilities"] == {"drop": ["ALL"]}, what
            sizes = one["resources"]
            for name in ("cpu", "memory", "ephemeral-storage"):
                assert quantity(sizes["requests"][name]) <= quantity(sizes["limits"][name]), f"{what}: {name}"
        disk = max(quantity(one["resources"]["limits"]["ephemeral-storage"]) for one in containers(template))
        volumes = [volume["emptyDir"] for volume in spec.get("volumes", ()) if "emptyDir" in volume]
        assert sum(quantity(volume["sizeLimit"]) for volume in volumes) <= disk, f"{what} would be evicted"
        assert not [volume for volume in spec.get("volumes", ()) if "hostPath" in volume], what


@BOTH
def test_long_running_services_are_probed(overlay: str) -> None:
    for one in [*built(overlay, "Deployment"), *built(overlay, "StatefulSet")]:
        for container in one["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), one["metadata"]["name"]
    mlflow = named(overlay, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]
    probe, hosts = mlflow["readinessProbe"]["exec"]["command"], environment(mlflow)["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert probe[1].endswith("/probe.py") and probe[3] in hosts.split(",")


def environment(container: Manifest) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container.get("env", ())}


def references(template: Manifest) -> set[tuple[str, str, str | None]]:
    """(kind, name, key) of every ConfigMap and Secret that a pod needs."""
    found: set[tuple[str, str, str | None]] = set()
    for one in containers(template):
        for source in one.get("envFrom", ()):
            for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if field in source:
                    found.add((kind, source[field]["name"], None))
        for variable in one.get("env", ()):
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if ref := variable.get("valueFrom", {}).get(field):
                    found.add((kind, ref["name"], ref["key"]))
    for volume in template["spec"].get("volumes", ()):
        if ref := volume.get("secret"):
            found |= {("Secret", ref["secretName"], item["key"]) for item in ref.get("items", ())}
        if ref := volume.get("configMap"):
            found.add(("ConfigMap", ref["name"], None))
    return found


@BOTH
def test_everything_that_is_named_exists(overlay: str) -> None:
    there = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in built(overlay)}
    for what, namespace, template in pod_templates(overlay):
        spec = template["spec"]
        assert ("ServiceAccount", namespace, spec["serviceAccountName"]) in there, what
        assert ("PriorityClass", None, spec["priorityClassName"]) in there, what
        for kind, name, key in references(template):
            if kind == "Secret":
                assert key is None or key in MADE_BY_HAND[overlay][namespace, name], f"{what}: {name}.{key}"
                assert (namespace, name) in MADE_BY_HAND[overlay], f"{what}: Secret {name}"
            else:
                assert (kind, namespace, name) in there, f"{what}: {kind} {name}"
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        claims = [one for one in built(overlay, "StatefulSet") if what == f"StatefulSet {one['metadata']['name']}"]
        volumes |= {c["metadata"]["name"] for one in claims for c in one["spec"]["volumeClaimTemplates"]}
        for one in containers(template):
            assert {mount["name"] for mount in one.get("volumeMounts", ())} <= volumes, what
    for binding in built(overlay, "RoleBinding"):
        assert ("Role", binding["metadata"]["namespace"], binding["roleRef"]["name"]) in there
    for queue in built(overlay, "LocalQueue"):
        assert ("ClusterQueue", None, queue["spec"]["clusterQueue"]) in there
    for queue in built(overlay, "ClusterQueue"):
        for flavor in queue["spec"]["resourceGroups"][0]["flavors"]:
            assert ("ResourceFlavor", None, flavor["name"]) in there
    for flavor in built(overlay, "ResourceFlavor"):
        if name := (flavor.get("spec") or {}).get("topologyName"):
            assert ("Topology", None, name) in there
    assert {one["metadata"].get("namespace") for one in built(overlay)} == {None, *OURS}
    assert {one["metadata"]["name"] for one in built(overlay, "Namespace")} == set(OURS)


@BOTH
def test_selectors_find_what_they_are_for(overlay: str) -> None:
    pods = [(namespace, template["metadata"]["labels"], template) for _, namespace, template in pod_templates(overlay)]
    for one in [*built(overlay, "Deployment"), *built(overlay, "StatefulSet"), *built(overlay, "DaemonSet")]:
        assert matches(one["spec"]["selector"], one["spec"]["template"]["metadata"]["labels"])
    for service in built(overlay, "Service"):
        if service["spec"].get("type") == "ExternalName":
            continue
        found = [template for namespace, labels, template in pods
                 if namespace == service["metadata"]["namespace"]
                 and matches({"matchLabels": service["spec"]["selector"]}, labels)]  # fmt: skip
        assert len(found) == 1, service["metadata"]["name"]
        ports = {port["name"] for one in containers(found[0]) for port in one.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    workers = {"app.kubernetes.io/part-of": "k2", JOB_LABEL: "x"}
    known = [(namespace, labels) for namespace, labels, _ in pods] + [("k2", workers)]
    for one in [*built(overlay, "PodDisruptionBudget"), *built(overlay, "NetworkPolicy")]:
        selector = one["spec"].get("selector", one["spec"].get("podSelector"))
        found = [labels for namespace, labels in known
                 if namespace == one["metadata"]["namespace"] and matches(selector, labels)]  # fmt: skip
        assert found, f"{one['kind']} {one['metadata']['name']} is for no pod"


@BOTH
def test_roles_give_no_more_than_looking_and_ending(overlay: str) -> None:
    """No role is bound to a pod, none may make pods or read Secrets."""
    for role in [*built(overlay, "Role"), *built(overlay, "ClusterRole")]:
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch", "delete"}, role["metadata"]["name"]
            assert not {"*", "secrets", "pods/exec"} & {*rule["resources"], *rule["apiGroups"]}
    for binding in [*built(overlay, "RoleBinding"), *built(overlay, "ClusterRoleBinding")]:
        assert {one["kind"] for one in binding["subjects"]} == {"Group"}
    assert built(overlay, "ClusterRole") == built(overlay, "ClusterRoleBinding") == []


def test_checkov_finds_nothing_but_what_is_waived_with_a_reason(tmp_path: Path) -> None:
    assert CHECKOV.exists(), "checkov has a venv of its own: make .venv-tools/.ready"
    command: list[str | Path] = [CHECKOV, "--config-file", INFRA / "checkov.yaml", "--output", "json"]
    for overlay in OVERLAYS:
        path = tmp_path / f"{overlay}.yaml"
        path.write_text(text(overlay))
        command += ["--file", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["summary"]["passed"] > 500, done.stderr
    failed = [f"{one['check_id']} {one['resource']}" for one in found["results"]["failed_checks"]]
    assert failed == []


def test_every_waiver_says_why() -> None:
    lines = (INFRA / "checkov.yaml").read_text().splitlines()
    waived = [number for number, line in enumerate(lines) if re.match(r"\s+- CKV", line)]
    assert waived and all(lines[number - 1].lstrip().startswith("# ") for number in waived)
    for one in [*built("local"), *built("cloud")]:
        for key, value in one["metadata"].get("annotations", {}).items():
            if key.startswith("checkov.io/skip"):
                assert re.fullmatch(r"CKV_\w+=\S.{10,}", value)
