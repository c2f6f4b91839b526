"""The manifests of infra/ as kustomize builds them, and what tests ask of them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

INFRA = Path(__file__).parents[2] / "infra"
KUBECTL = Path(sys.executable).with_name("kubectl")
OVERLAYS = ("local", "cloud")
JOB_LABEL = "training.kubeflow.org/job-name"

Manifest = dict[str, Any]


@cache
def text(overlay: str) -> str:
    """One YAML stream; kustomize needs no cluster."""
    command = [KUBECTL, "kustomize", INFRA / "overlays" / overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _built(overlay: str) -> tuple[Manifest, ...]:
    return tuple(yaml.safe_load_all(text(overlay)))


def built(overlay: str, kind: str = "") -> list[Manifest]:
    """All objects of an overlay, or those of a kind."""
    return [one for one in _built(overlay) if kind in ("", one["kind"])]


def named(overlay: str, kind: str, name: str, namespace: str | None = None) -> Manifest:
    found = [
        one for one in built(overlay, kind)
        if one["metadata"]["name"] == name and namespace in (None, one["metadata"].get("namespace"))
    ]  # fmt: skip
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


@cache
def versions() -> dict[str, str]:
    lines = (INFRA / "base" / "versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def pod_templates(overlay: str) -> Iterator[tuple[str, str, Manifest]]:
    """(what it is, its namespace, the template) of everything that makes pods."""
    for one in built(overlay):
        spec = one.get("spec") or {}
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if isinstance(spec, dict) and "containers" in spec.get("template", {}).get("spec", {}):
            yield f"{one['kind']} {one['metadata']['name']}", one["metadata"]["namespace"], spec["template"]


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def quantity(amount: str | int | float) -> float:
    """An amount as Kubernetes writes it."""
    number, unit = re.fullmatch(r"([0-9.]+)(m|[KMGTP]i?)?", str(amount)).groups()  # type: ignore[union-attr]
    scale = {None: 1, "m": 1e-3} | {f"{p}i": 1024.0**n for n, p in enumerate("KMGTP", 1)}
    return float(number) * scale[unit]


def matches(selector: Manifest, labels: Manifest) -> bool:
    """A label selector by Kubernetes' rules; {} is everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or ():
        there = rule["key"] in labels
        if not {"Exists": there, "DoesNotExist": not there, "In": labels.get(rule["key"]) in rule.get("values", ())}[
            rule["operator"]
        ]:
            return False
    return True


Pod = tuple[str, Manifest]  # namespace and labels


def reaches(overlay: str, source: Pod, target: Pod, port: int) -> bool:
    """Whether NetworkPolicies let a pod open a TCP connection to another."""
    return _lets(overlay, source, target, port, "egress") and _lets(overlay, target, source, port, "ingress")


def _lets(overlay: str, pod: Pod, peer: Pod, port: int, direction: str) -> bool:
    policies = [
        one["spec"] for one in built(overlay, "NetworkPolicy")
        if one["metadata"]["namespace"] == pod[0]
        and matches(one["spec"]["podSelector"], pod[1])
        and direction.capitalize() in one["spec"]["policyTypes"]
    ]  # fmt: skip
    if not policies:
        return True
    side = "to" if direction == "egress" else "from"
    return any(
        _of_port(rule, port) and (side not in rule or any(_is(one, pod[0], peer) for one in rule[side]))
        for policy in policies
        for rule in policy.get(direction) or ()
    )


def _of_port(rule: Manifest, port: int) -> bool:
    return "ports" not in rule or any(p["port"] == port and p["protocol"] == "TCP" for p in rule["ports"])


def _is(peer: Manifest, namespace: str, pod: Pod) -> bool:
    if "ipBlock" in peer:
        return False  # addresses outside of the cluster
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod[0]}):
            return False
    elif pod[0] != namespace:
        return False
    return matches(peer.get("podSelector", {}), pod[1])
