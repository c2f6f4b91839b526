"""What may not go into a package: a recipe that would be another one in a pod, and what could not run in a cluster. The
package itself is made and opened in tests/workflows/test_own_recipe.py; what a registration sends is received here."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from k2model.recipe import load_recipe
from tasks.package import PackageError, package
from tasks.preflight import IMAGES, cut_down, flyte_limits, named_images, refuse
from tests.smoke import ROOT
from tests.tasks.effective import DIGEST, SETTINGS

RECIPE = """
from dataclasses import replace
from pathlib import Path

from k2model.recipe.laptop import smoke


def mine():
    return replace(smoke(), CHANGED)
"""
ADDRESSES = {name: f"registry.example/k2/{name}@{DIGEST}" for name in IMAGES}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a package of `smoke` needs."""
    for name in [*os.environ]:
        if name.startswith(("K2_", "AWS_", "MLFLOW_TRACKING", "FSSPEC_")):
            monkeypatch.delenv(name)
    for name, value in {"K2_RECIPE": "smoke", **SETTINGS}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            'licence=(Path(__file__).parent / "licence.txt").read_text()',
            r"(?s)cannot be made from what is on board of a package, its file alone:.*FileNotFoundError.*licence.txt",
        ),
        (
            "validation=replace(smoke().validation, previous_statistics=__file__)",
            r"another one on board of a package .1 fields differ.:\n  validation.previous_statistics = '.*mine.py' h",
        ),
    ],
)
def test_a_recipe_that_would_be_another_one_there_is_refused(tmp_path, monkeypatch, changed, message):
    (tmp_path / "mine.py").write_text(RECIPE.replace("CHANGED", changed))
    (tmp_path / "licence.txt").write_text("mit")
    monkeypatch.setenv("K2_RECIPE", str(tmp_path / "mine.py"))
    with pytest.raises(PackageError, match=message):
        package(tmp_path / "package.tgz", ADDRESSES)
    assert not (tmp_path / "package.tgz").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": ""}, "no data image; set cluster.data_image"),
        ({"train": "k2-train:latest"}, "train image 'k2-train:latest' has no digest.*; set cluster.train_image"),
        ({"train": "registry.example/k2/train:1"}, "train image .* has no digest"),
        ({"eval": f"k2-eval@{DIGEST}"}, "eval image .* names no registry"),
        ({"eval": f"library/k2-eval@{DIGEST}"}, "eval image .* names no registry"),
        ({"data": "registry.example/k2/data@sha256:123"}, "data image .* has no digest"),
        ({"data": f"bob:hunter2@registry.example/k2/data@{DIGEST}"}, "data image's address holds a user or password"),
        ({"K2_STORE": ""}, "K2_STORE is not set"),
        ({"K2_STORE": "/data/store"}, "K2_STORE='/data/store' is a place on one machine"),
        ({"K2_STORE": "file:///data/store"}, "K2_STORE='file:///data/store' is a place on one machine"),
        ({"K2_STORE": "s3://AKIA:hunter2@bucket/store"}, r"K2_STORE='s3://\*\*\*@bucket/store' holds a user or passw"),
        ({"MLFLOW_TRACKING_URI": ""}, "MLFLOW_TRACKING_URI is not set.* e.g. http://mlflow.k2-services.svc"),
        ({"MLFLOW_TRACKING_URI": "sqlite:////data/mlflow.db"}, "MLFLOW_TRACKING_URI='.*' is a file on one machine"),
        ({"MLFLOW_TRACKING_URI": "postgresql://k2:hunter2@db/mlflow"}, "MLFLOW_TRACKING_URI='.*' holds a user or pass"),
        ({"MLFLOW_TRACKING_URI": "http://k2:hunter2@mlflow:5000"}, "MLFLOW_TRACKING_URI='.*' holds a user or password"),
        ({"AWS_ENDPOINT_URL": "http://key:hunter2@s3:8333"}, "AWS_ENDPOINT_URL='.*' holds a user or password"),
    ],
)
def test_what_could_not_run_in_a_cluster_is_refused_by_name(tmp_path, monkeypatch, changed, message):
    images = ADDRESSES | {name: value for name, value in changed.items() if name in IMAGES}
    for name, value in changed.items():
        if name not in IMAGES:
            monkeypatch.setenv(name, value)
    with pytest.raises(PackageError, match=message) as raised:
        package(tmp_path / "package.tgz", images)
    assert str(raised.value).count("\n") == 1, "and nothing else is"
    assert "hunter2" not in str(raised.value)


def test_an_inbox_that_pods_cannot_reach_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_OVERRIDES", json.dumps({"continual.inbox": "/data/inbox"}))
    with pytest.raises(PackageError, match=r"continual.inbox='/data/inbox' is a place on one machine; set it to one"):
        package(tmp_path / "package.tgz", ADDRESSES)


def test_programs_of_a_model_are_refused_where_no_pod_may_make_a_sandbox(tmp_path, monkeypatch):
    exam = {"name": "exam", "location": "s3://ours/exam.jsonl", "licence": "MIT", "check": "code", "mode": "high"}
    families = [*load_recipe("smoke").evaluation.families, "tool_code"]
    changes = {"evaluation.families": families, "evaluation.benchmarks": [exam]}
    monkeypatch.setenv("K2_OVERRIDES", json.dumps(changes))
    wanted = r"benchmarks.exam.check=code, tool_code of .* set cluster.sandbox_profile to profiles/k2-sandbox.json"
    with pytest.raises(PackageError, match=wanted):
        package(tmp_path / "package.tgz", ADDRESSES)
    refuse(load_recipe("smoke", changes | {"cluster.sandbox_profile": "profiles/x.json"}), ADDRESSES, SETTINGS)


def test_a_secret_in_a_plain_variable_of_the_recipe_is_refused(monkeypatch):
    for entry in ("AWS_SECRET_ACCESS_KEY=hunter2", "HTTPS_PROXY=http://bob:hunter2@proxy:3", "WANDB_API_KEY=hunter2"):
        with pytest.raises(Exception, match=r"cluster.environment sets .*secret.*cluster.secret") as raised:
            load_recipe("smoke", {"cluster.environment": [entry]})
        assert "hunter2" not in str(raised.value)
    assert load_recipe("smoke", {"cluster.environment": ["TOKENIZERS_PARALLELISM=true", "NCCL_DEBUG=INFO"]})


def test_what_flyte_would_cut_down_is_refused(tmp_path, monkeypatch):
    """With our values none of the recipes is; a pod beyond them is, and all of them with the charts' own."""
    ours = flyte_limits()
    assert len(ours) == 2
    for name in ("smoke", "laptop", "k2_1b", "k2_8b", "k2_70b"):
        assert not [one for limits in ours.values() for one in cut_down(load_recipe(name), limits)]
    charts = {"cpu": "2", "memory": "1Gi", "gpu": "1"}
    cut = "\n".join(cut_down(load_recipe("k2_70b"), charts))
    for resource in ("nvidia.com/gpu=8", "cpu=88", "memory=1650Gi"):
        assert f"asks for {resource} (cluster.cpus_per_node, memory_gib_per_node, gpu_disk_gib)" in cut
    monkeypatch.setenv("K2_OVERRIDES", json.dumps({"cluster.whole.memory_gib": 4096}))
    with pytest.raises(PackageError, match=r"memory=4096Gi \(cluster.whole\), which Flyte cuts to 2Ti .*-core.yaml"):
        package(tmp_path / "package.tgz", ADDRESSES)


def test_an_unknown_image_is_told(monkeypatch):
    with pytest.raises(PackageError, match=r"--image trane=x: expected NAME=ADDRESS; .*train"):
        named_images(["trane=x"])


@dataclass
class Flyte:
    """A Flyte that takes what is registered, with the services that pyflyte asks."""

    endpoint: str
    received: dict[str, dict[str, Any]] = field(default_factory=dict)  # by kind and name
    code: bytes = b""


@pytest.fixture
def flyte() -> Iterator[Flyte]:
    import grpc
    from flyteidl.admin import launch_plan_pb2, task_pb2, workflow_pb2
    from flyteidl.service import admin_pb2_grpc, auth_pb2, auth_pb2_grpc, dataproxy_pb2, dataproxy_pb2_grpc

    class Uploads(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            running.code = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Admin(admin_pb2_grpc.AdminServiceServicer):
        def CreateTask(self, request: Any, _: Any) -> Any:
            running.received[f"task {request.id.name}"] = MessageToDict(request)
            return task_pb2.TaskCreateResponse()

        def CreateWorkflow(self, request: Any, _: Any) -> Any:
            running.received[f"workflow {request.id.name}"] = MessageToDict(request)
            return workflow_pb2.WorkflowCreateResponse()

        def CreateLaunchPlan(self, request: Any, _: Any) -> Any:
            running.received[f"plan {request.id.name}"] = MessageToDict(request)
            return launch_plan_pb2.LaunchPlanCreateResponse()

        def UpdateLaunchPlan(self, request: Any, _: Any) -> Any:
            running.received[f"state of {request.id.name}"] = MessageToDict(request)
            return launch_plan_pb2.LaunchPlanUpdateResponse()

    class Data(dataproxy_pb2_grpc.DataProxyServiceServicer):
        def CreateUploadLocation(self, request: Any, _: Any) -> Any:
            url = f"http://127.0.0.1:{uploads.server_port}/{request.filename}"
            return dataproxy_pb2.CreateUploadLocationResponse(signed_url=url, native_url=f"s3://f/{request.filename}")

    class Auth(auth_pb2_grpc.AuthMetadataServiceServicer):
        def GetPublicClientConfig(self, request: Any, _: Any) -> Any:
            return auth_pb2.PublicClientAuthConfigResponse()

    uploads = ThreadingHTTPServer(("127.0.0.1", 0), Uploads)
    Thread(target=uploads.serve_forever, daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(Admin(), server)
    dataproxy_pb2_grpc.add_DataProxyServiceServicer_to_server(Data(), server)
    auth_pb2_grpc.add_AuthMetadataServiceServicer_to_server(Auth(), server)
    running = Flyte(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    yield running
    server.stop(None)
    uploads.shutdown()
    uploads.server_close()


def test_a_registration_sends_the_tasks_as_packaged_and_the_code(tmp_path: Path, flyte: Flyte) -> None:
    images = [word for name, address in ADDRESSES.items() for word in ("--image", f"{name}={address}")]
    options = ["--register", "--project", "k2", "--domain", "production", "--version", "v1", *images]
    own = {"FLYTE_PLATFORM_URL": flyte.endpoint, "FLYTE_PLATFORM_INSECURE": "true", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tasks.package", *options],
        cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "registered in k2-production  recipe smoke" in done.stdout
    train = flyte.received["task tasks.training.train_pretrain"]
    assert train["id"] == {
        "resourceType": "TASK", "project": "k2", "domain": "production", "name": "tasks.training.train_pretrain",
        "version": "v1",
    }  # fmt: skip
    container = train["spec"]["template"]["k8sPod"]["podSpec"]["containers"][0]
    assert container["image"] == ADDRESSES["train"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables | SETTINGS | {"K2_RECIPE": "smoke"} == variables
    assert container["args"][:3] == ["pyflyte-fast-execute", "--additional-distribution", container["args"][2]]
    assert flyte.code[:2] == b"\x1f\x8b", "the code, packed"
    plan = flyte.received["plan workflows.lifecycle.full_lifecycle"]
    assert plan["spec"]["securityContext"]["runAs"]["k8sServiceAccount"] == "k2-jobs"
    assert "workflow workflows.lifecycle.full_lifecycle" in flyte.received
    for name in ("arrivals", "turn", "evaluation", "release"):
        schedule = flyte.received[f"plan smoke.{name}"]["spec"]["entityMetadata"]["schedule"]
        assert schedule["kickoffTimeInputArg"] == "kickoff"
        state = flyte.received[f"state of smoke.{name}"]
        assert state["state"] == "ACTIVE" and state["id"]["version"] == "v1"
    assert "state of workflows.lifecycle.full_lifecycle" not in flyte.received, "nobody runs that by the clock"
