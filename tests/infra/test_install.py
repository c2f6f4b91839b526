"""infra/install: what it says it would do, and what it does, with a kubectl and a helm that write down what they are
asked. Manifests are built by the real kustomize; no cluster was at hand."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.infra.manifests import INFRA, KUBECTL, Manifest, containers, versions

#: Stands for both. What is applied is kept, from stdin or as kustomize makes it; a file that is not there is an error.
STANDS_IN = """#!/usr/bin/env bash
set -euo pipefail
echo "$(basename "$0") $*" >>"$ASKED"
[[ -z ${FAILS_AT:-} || $* != *"$FAILS_AT"* ]] || { echo "refused" >&2; exit 1; }
before=
for word; do
    [[ $before != -f || $word != - ]] || { echo ---; cat; echo; } >>"$APPLIED"
    [[ $before != -k || $word == operators/* ]] || { echo ---; "$KUBECTL" kustomize "$word"; } >>"$APPLIED"
    [[ $word != *.yaml || -f ${word#*=} ]] || { echo "no file $word" >&2; exit 1; }
    before=$word
done
[[ $* != *--dry-run=client* ]] || echo "{kind: Namespace, metadata: {name: monitoring}}"
"""
IMAGES = {
    f"K2_{name}_IMAGE": f"registry.example/k2-{name.lower()}@sha256:{digit * 64}"
    for name, digit in (("TRAIN", "1"), ("MLFLOW", "2"))
}


def install(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name not in ("K2_TRAIN_IMAGE", "K2_MLFLOW_IMAGE")}
    return subprocess.run(
        ["bash", INFRA / "install", *arguments], env=own | environment, capture_output=True, text=True, check=False
    )


def test_installing_uses_the_pinned_versions_in_an_order_that_works() -> None:
    done = install("local", "values.json", "--print")
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert any(f"--version {versions()['KUEUE_VERSION']} " in line for line in steps)
    assert any(f"--version {versions()['FLYTE_VERSION']} " in line for line in steps)

    def place(text: str) -> int:
        return next(number for number, line in enumerate(steps) if text in line)

    # CRDs before what is made of them, namespaces before Secrets, Secrets before what reads them.
    order = ["charts/kueue", "namespaces.yaml", "make_secrets.py", "overlays/local", "job/mlflow-users", "flyte-binary"]
    assert [place(one) for one in order] == sorted(place(one) for one in order)


def test_files_are_those_of_where_the_caller_stands(tmp_path: Path) -> None:
    """Not of infra/, where new secrets would come to lie in the checkout, and those there are would not be found."""
    command = ["bash", INFRA / "install", "local", "values.json", "--print"]
    own = os.environ | {"K2_FLYTE_VALUES": "mine.yaml"}
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
    assert f"--file {tmp_path}/values.json " in done.stdout, done.stderr
    assert f"--values {tmp_path}/mine.yaml" in done.stdout


def test_a_cloud_is_refused_images_by_tag_and_places_of_nobody() -> None:
    by_tag = install("cloud", "values.json", "--print")
    assert by_tag.returncode == 2 and "is not by digest" in by_tag.stderr
    digest = f"registry.example/k2-train@sha256:{'0' * 64}"
    places = install("cloud", "values.json", "--print", K2_TRAIN_IMAGE=digest, K2_MLFLOW_IMAGE=digest)
    assert places.returncode == 2 and "postgres.example" in places.stderr
    assert install("mars", "values.json").returncode == 2


@dataclass
class Cluster:
    """Programs of the names that the script starts, and what they were given."""

    folder: Path

    def install(self, **environment: str) -> subprocess.CompletedProcess[str]:
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        for name in ("kubectl", "helm"):
            (programs / name).write_text(STANDS_IN)
            (programs / name).chmod(0o755)
        own = {"ASKED": self.folder / "asked", "APPLIED": self.folder / "applied", "KUBECTL": KUBECTL}
        own |= {"PATH": f"{programs}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", INFRA / "install", "local", "secrets.json"],
            cwd=self.folder, env=os.environ | own | IMAGES | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()

    @property
    def applied(self) -> list[Manifest]:
        return [one for one in yaml.safe_load_all((self.folder / "applied").read_text()) if one]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_it_does_what_it_says_and_secrets_are_seen_by_the_cluster_alone(cluster: Cluster) -> None:
    before = (INFRA / "base" / "versions.env").read_text()
    done = cluster.install()
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("installed"), done.stderr
    said = [line.removeprefix("+ ") for line in done.stdout.splitlines() if line.startswith(("+ kubectl", "+ helm"))]
    assert [line for line in cluster.asked if line in said] == [line for line in said if "create namespace" not in line]
    file = cluster.folder / "secrets.json"
    known = json.loads(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    (given,) = [one for one in cluster.applied if one["kind"] == "List"]
    texts = [text for secret in given["items"] for text in secret["stringData"].values()]
    assert known["MLFLOW_JOBS_PASSWORD"] in texts
    shown = "\n".join([done.stdout, done.stderr, *cluster.asked])
    assert not [name for name, value in known.items() if len(value) > 20 and value in shown]
    pods = [one for one in cluster.applied if one["kind"] in ("DaemonSet", "Deployment")]
    used = {container["image"] for one in pods for container in containers(one["spec"]["template"])}
    assert used == set(IMAGES.values())
    assert {"PrometheusRule", "PodMonitor", "ClusterQueue", "NetworkPolicy"} <= {one["kind"] for one in cluster.applied}
    assert (INFRA / "base" / "versions.env").read_text() == before, "the checkout is as it was"

    (cluster.folder / "applied").unlink()
    again = cluster.install(FAILS_AT="get crd prometheusrules")
    assert again.returncode == 0 and "no Prometheus Operator: nobody is woken" in again.stdout
    assert "PrometheusRule" not in {one["kind"] for one in cluster.applied}
    assert json.loads(file.read_text()) == known, "a second time nothing is made anew"


def test_what_the_cluster_refuses_ends_it(cluster: Cluster) -> None:
    done = cluster.install(FAILS_AT="rollout status deployment/mlflow")
    assert done.returncode == 1 and "refused" in done.stderr
    assert not [line for line in cluster.asked if "flyte-binary" in line], "nothing is installed on top of it"
