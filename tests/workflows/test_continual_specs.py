"""What Flyte is given of a line: its schedules, and graphs in which no accelerator starts before a small pod has found
something for it to do. By the serialized specs, a process for each recipe."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.smoke import ROOT, environment

LINE = {
    "continual.tuned": "sft",
    "continual.base": "mid_4",
    "continual.approve": True,
    "continual.notify.email": ["ml@example.com"],
}
ALONE = {"continual.base": "", "continual.approve": False}
RECIPES: dict[str, dict[str, Any]] = {"k2_70b": LINE, "laptop": LINE | ALONE}
WORKFLOWS = ("continual_arrivals", "continual_turn", "champion_evaluation", "release_candidate")
SCHEDULED = {
    "arrivals": ("continual_arrivals", "0 * * * *"),
    "turn": ("continual_turn", "0 2 * * *"),
    "evaluation": ("champion_evaluation", "0 4 * * 0"),
    "release": ("release_candidate", "0 5 1 * *"),
}

SERIALIZE = """
import json, sys
from collections import OrderedDict
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.models.admin.workflow import WorkflowSpec
from flytekit.models.launch_plan import LaunchPlan
from flytekit.models.task import TaskSpec
from flytekit.tools.translator import get_serializable
from google.protobuf.json_format import MessageToDict
from workflows import continual, schedules

images = [Image(name, f"registry/{name}", "1") for name in ("data", "train", "eval")]
settings = SerializationSettings(image_config=ImageConfig(default_image=images[0], images=images))
entities = OrderedDict()
for name in sys.argv[1:]:
    get_serializable(entities, settings, getattr(continual, name))
plans = {name: get_serializable(entities, settings, plan) for name, plan in schedules.SCHEDULES.items()}
found = {"tasks": {}, "workflows": {}}
for entity in entities.values():
    if isinstance(entity, TaskSpec):
        spec = MessageToDict(entity.to_flyte_idl())["template"]
        spec["outputs"] = [*spec.pop("interface").get("outputs", {}).get("variables", {})]
        found["tasks"][spec["id"]["name"]] = spec
    elif isinstance(entity, WorkflowSpec):
        spec = MessageToDict(entity.to_flyte_idl())["template"]
        found["workflows"][spec["id"]["name"]] = spec
found["plans"] = {name: MessageToDict(plan.to_flyte_idl()) | {"active": plan.should_auto_activate}
                  for name, plan in plans.items()}
print(json.dumps(found))
"""


def serialized(recipe: str) -> dict[str, Any]:
    return said(SERIALIZE, os.environ | {"K2_RECIPE": recipe, "K2_OVERRIDES": json.dumps(RECIPES[recipe])})


def said(script: str, own: Mapping[str, str]) -> dict[str, Any]:
    """The last line that a script writes, which is told the workflows' names."""
    done = subprocess.run(
        [sys.executable, "-c", script, *WORKFLOWS], cwd=ROOT, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def by_recipe() -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(RECIPES, pool.map(serialized, RECIPES), strict=True))


@pytest.fixture(params=RECIPES)
def line(request: pytest.FixtureRequest, by_recipe: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return request.param, by_recipe[request.param]


def test_each_schedule_is_a_plan_that_flyte_can_start_by_itself(line: tuple[str, dict[str, Any]]) -> None:
    recipe, found = line
    assert found["plans"].keys() == SCHEDULED.keys()
    for name, (workflow, cron) in SCHEDULED.items():
        plan = found["plans"][name]
        spec, schedule = plan["spec"], plan["spec"]["entityMetadata"]["schedule"]
        assert plan["id"]["name"] == f"{recipe}.{name}", "two recipes in a project have plans of their own"
        assert spec["workflowId"]["name"] == f"workflows.continual.{workflow}"
        assert schedule == {"cronSchedule": {"schedule": cron}, "kickoffTimeInputArg": "kickoff"}
        assert plan["active"], "as soon as it is registered"
        assert spec["concurrencyPolicy"] == {"max": 1, "behavior": "CONCURRENCY_LIMIT_BEHAVIOR_SKIP"}
        (mail,) = spec["entityMetadata"]["notifications"]
        assert {*mail["phases"]} == {"FAILED", "TIMED_OUT", "ABORTED"}
        assert mail["email"]["recipientsEmail"] == ["ml@example.com"]


def test_a_schedule_gives_every_input_and_a_workflow_has_no_default_that_would_win(
    line: tuple[str, dict[str, Any]],
) -> None:
    _, found = line
    for name, (workflow, _) in SCHEDULED.items():
        spec = found["plans"][name]["spec"]
        inputs = found["workflows"][f"workflows.continual.{workflow}"]["interface"]["inputs"]["variables"]
        fixed, open_ = spec["fixedInputs"]["literals"], spec["defaultInputs"]["parameters"]
        assert fixed.keys() == {"overrides"} and open_.keys() == {"kickoff"} and {*inputs} == {*fixed, *open_}
        assert open_["kickoff"]["required"] is True and open_["kickoff"]["var"]["type"] == {"simple": "DATETIME"}


def test_people_are_told_when_any_of_them_fails(line: tuple[str, dict[str, Any]]) -> None:
    _, found = line
    for workflow in WORKFLOWS:
        node = found["workflows"][f"workflows.continual.{workflow}"]["failureNode"]
        assert node["taskNode"]["referenceId"]["name"] == "tasks.champion.tell_failed"
        assert {"kickoff", "overrides"} <= {one["var"] for one in node["inputs"]}


# The graph: which tasks run, and behind which questions.


def tasks_of(node: Mapping[str, Any], found: Mapping[str, Any], behind: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(name of a task, the tasks whose answers chose its branch) of a node and of all that is below it."""
    if "taskNode" in node:
        yield node["taskNode"]["referenceId"]["name"], behind
    elif "workflowNode" in node:
        yield from asked_before(node["workflowNode"]["subWorkflowRef"]["name"], found, behind)
    elif "branchNode" in node:
        cases = node["branchNode"]["ifElse"]
        for case in [cases["case"], *cases.get("other", [])]:
            yield from tasks_of(case["thenNode"], found, behind)
        yield from tasks_of(cases["elseNode"], found, behind)


def asked_before(
    workflow: str, found: Mapping[str, Any], behind: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    spec = found["workflows"][workflow]
    nodes = {node["id"]: node for node in spec["nodes"]}
    for node in nodes.values():
        asked = behind
        if "branchNode" in node:
            sources = {one["binding"]["promise"]["nodeId"] for one in node["inputs"] if "promise" in one["binding"]}
            chosen = {one for one in sources if "taskNode" in nodes[one] and _chooses(node, one)}
            asked += tuple(nodes[one]["taskNode"]["referenceId"]["name"] for one in sorted(chosen))
        yield from tasks_of(node, found, asked)


def _chooses(node: Mapping[str, Any], source: str) -> bool:
    """Whether the conditions of a branch, and not what its cases are given, read the node's output."""
    cases = node["branchNode"]["ifElse"]
    said = json.dumps([case["condition"] for case in [cases["case"], *cases.get("other", [])]])
    return f'"{source}.' in said


def kind_of(name: str, found: Mapping[str, Any]) -> str:
    return str(found["tasks"][name]["k8sPod"]["metadata"]["labels"]["app.kubernetes.io/component"])


ASKING = {"begin_turn", "begin_anneal", "begin_release"}  # not small: they read what they decide on


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_no_accelerator_is_asked_for_before_a_pod_without_any_has_found_work_for_it(
    line: tuple[str, dict[str, Any]], workflow: str
) -> None:
    _, found = line
    walked = [*asked_before(f"workflows.continual.{workflow}", found)]
    heavy = [(name, behind) for name, behind in walked if kind_of(name, found) in ("training", "evaluation")]
    assert heavy or (workflow, _has_gpus(found)) == ("continual_arrivals", False)
    for name, behind in heavy:
        assert behind, f"{name} starts whatever is found"
        last = behind[-1]
        assert kind_of(last, found) == "ask" or last.rpartition(".")[2] in ASKING
        assert "nvidia.com/gpu" not in json.dumps(found["tasks"][last]["k8sPod"])


def _has_gpus(found: Mapping[str, Any]) -> bool:
    return "nvidia.com/gpu" in json.dumps([spec.get("k8sPod") for spec in found["tasks"].values()])


def test_a_turn_trains_the_phases_of_its_line_and_no_others(by_recipe: dict[str, dict[str, Any]]) -> None:
    trained = {
        recipe: {name.rpartition("train_")[2] for name in found["tasks"] if ".train_" in name}
        for recipe, found in by_recipe.items()
    }
    assert trained == {"k2_70b": {"mid_4", "sft"}, "laptop": {"sft"}}
    walked = dict(asked_before("workflows.continual.continual_turn", by_recipe["k2_70b"]))
    assert [one.rpartition(".")[2] for one in walked["tasks.training.train_mid_4"]] == ["begin_turn", "is_trained"]


def test_an_anneal_trains_and_asks_as_a_turn_does_behind_a_question_of_its_own(
    by_recipe: dict[str, dict[str, Any]],
) -> None:
    for recipe, phases in {"k2_70b": ("mid_4", "sft"), "laptop": ("sft",)}.items():
        walked = [*asked_before("workflows.continual.release_candidate", by_recipe[recipe])]
        behind = {name.rpartition(".")[2]: [one.rpartition(".")[2] for one in asked] for name, asked in walked}
        for phase in phases:
            assert behind[f"train_{phase}"] == ["begin_anneal", "is_trained"]
        assert behind["examine"] == ["begin_anneal", "is_examined"]
        assert behind["enter_anneal"] == ["begin_anneal"] and behind["score_phases"] == ["begin_release"]


def test_only_a_line_that_wants_a_person_waits_for_one(by_recipe: dict[str, dict[str, Any]]) -> None:
    gates = {recipe: "gateNode" in json.dumps(found["workflows"]) for recipe, found in by_recipe.items()}
    assert gates == {"k2_70b": True, "laptop": False}


def test_an_accelerator_that_waits_for_no_answer_would_be_seen(by_recipe: dict[str, dict[str, Any]]) -> None:
    found = json.loads(json.dumps(by_recipe["k2_70b"]))
    nodes = found["workflows"]["workflows.continual.champion_evaluation"]["nodes"]
    (branch,) = [node for node in nodes if "branchNode" in node]
    nodes.append(branch["branchNode"]["ifElse"]["case"]["thenNode"])
    walked = asked_before("workflows.continual.champion_evaluation", found)
    assert ("tasks.champion.measure_champion", ()) in walked


# Run with the inputs that the schedule would give. What a task's pod is stands in its spec; what ran is noted here.

IDLE = """
import json, sys, time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from k2model.artifacts import Store
from k2model.continual.entries import Start
from k2model.continual.ledger import Ledger
from k2model.settings import store_uri
from tests.continual.samples import corpus, model
from tests.smoke import noted
from workflows.schedules import SCHEDULES

ran = noted()
night = datetime(2026, 11, 3, 2, tzinfo=timezone.utc)
def started(name, kickoff=night):
    ran.clear()
    began = time.monotonic()
    said = SCHEDULES[name](kickoff=kickoff)
    return {"said": said, "ran": list(ran), "seconds": time.monotonic() - began}

found = {"without a champion": {name: started(name) for name in ("arrivals", "turn", "evaluation")}}
store = Store.open(store_uri())
ledger = Ledger.open(store, "smoke")
ledger.append("start", Start(model(store), corpus(store)), after=0)
found["nothing waits"] = {name: started(name) for name in ("arrivals", "turn")}
found["again"] = started("turn")
with ledger.lease():
    found["another is at it"] = started("turn", night + timedelta(days=1))
found["missed"] = [started("turn", night + timedelta(days=2 + day)) for day in range(20)]
found["turns"] = [[turn.outcome.value, turn.reason] for turn in ledger.state().turns]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    own = environment(home) | {"K2_OVERRIDES": "{}", "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}"}
    return said(IDLE, own)


def all_runs(idle: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of every schedule that was started."""
    several = [*idle["without a champion"].values(), *idle["nothing waits"].values(), *idle["missed"]]
    return [*several, idle["again"], idle["another is at it"]]


def test_what_has_nothing_to_do_starts_no_node_and_ends_in_seconds(idle: dict[str, Any]) -> None:
    runs = all_runs(idle)
    assert len(runs) == 27 and all(one["ran"] for one in runs)
    assert not [task for one in runs for task, kind in one["ran"] if kind in ("training", "evaluation")]
    assert max(one["seconds"] for one in runs) < 30, "on a busy machine; idle ones take one or two"


def test_a_turn_without_a_champion_ends_well_and_says_what_is_missing(idle: dict[str, Any]) -> None:
    said = {name: one["said"] for name, one in idle["without a champion"].items()}
    assert "no champion" in said["turn"]
    assert said["arrivals"].startswith("0 batches of the inbox wait, and there is no champion to judge them by: ")
    assert said["evaluation"].startswith("nothing was asked")


def test_of_a_kickoff_that_was_handled_and_of_two_at_once_one_is_in_the_ledger(idle: dict[str, Any]) -> None:
    assert "turn 1" in idle["again"]["said"]
    assert "running" in idle["another is at it"]["said"]
    assert len(idle["turns"]) == 1 + 20, "the night's, and each that was missed"


def test_each_of_twenty_missed_nights_says_why_it_did_nothing(idle: dict[str, Any]) -> None:
    assert {outcome for outcome, _ in idle["turns"]} == {"idle"}
    assert all("no batch waits" in reason for _, reason in idle["turns"])


NO_LINE = """
import json, sys
from datetime import datetime, timezone
from workflows import continual, schedules
said = {"schedules": [*schedules.SCHEDULES]}
for name in sys.argv[1:]:
    try:
        getattr(continual, name)(kickoff=datetime(2026, 11, 3, tzinfo=timezone.utc), overrides={})
    except Exception as error:
        said[name] = str(error)
print(json.dumps(said))
"""


def test_a_recipe_without_a_line_says_which_field_names_one_and_people_are_told(tmp_path: Path) -> None:
    received: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    overrides = {"continual.tuned": "", "continual.base": "", "continual.notify.webhook_env": "OUR_HOOK"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        hook = {"OUR_HOOK": f"http://127.0.0.1:{server.server_port}/", "K2_OVERRIDES": json.dumps(overrides)}
        found = said(NO_LINE, environment(tmp_path) | hook)
        server.shutdown()
    assert found.pop("schedules") == []
    assert found.keys() == {*WORKFLOWS}
    assert all("recipe 'smoke' has no line" in one and "continual.tuned" in one for one in found.values())
    assert received and {one["kind"] for one in received} == {"failed"}
    assert all("has no line" in one["reason"] and one["kickoff"].startswith("2026-11-03") for one in received)
