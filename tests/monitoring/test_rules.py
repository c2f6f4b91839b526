"""Rules, routes and dashboards: by Prometheus' own programs, and against the metrics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml

from infra.monitoring.dashboards import FOLDER, dashboards
from k2model.monitoring import metric_names

PROJECT = Path(__file__).parents[2]
INFRA = PROJECT / "infra" / "monitoring"
TESTS = Path(__file__).with_name("rules_test.yaml")

#: What other programs export, and whose word that is.
OTHERS = {
    "up": "Prometheus itself",
    "ALERTS": "Prometheus itself",
    "kube_pod_container_info": "kube-state-metrics, docs/metrics/workload/pod-metrics.md",
    "kube_pod_status_phase": "kube-state-metrics, docs/metrics/workload/pod-metrics.md",
    "kueue_pending_workloads": "Kueue 0.19, site/content/en/docs/reference/metrics.md",
    "kueue_admitted_workloads_total": "Kueue 0.19, site/content/en/docs/reference/metrics.md",
    "kubelet_volume_stats_available_bytes": "kubelet, pkg/kubelet/metrics/collectors/volume_stats.go",
    "kubelet_volume_stats_capacity_bytes": "kubelet, pkg/kubelet/metrics/collectors/volume_stats.go",
    "node_filesystem_avail_bytes": "node_exporter, collector/filesystem_common.go",
    "node_filesystem_size_bytes": "node_exporter, collector/filesystem_common.go",
    "DCGM_FI_DEV_XID_ERRORS": "dcgm-exporter, etc/default-counters.csv",
    "DCGM_FI_DEV_GPU_UTIL": "dcgm-exporter, etc/default-counters.csv",
    "DCGM_FI_DEV_GPU_TEMP": "dcgm-exporter, etc/default-counters.csv",
    "DCGM_FI_DEV_POWER_USAGE": "dcgm-exporter, etc/default-counters.csv",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "dcgm-exporter, etc/default-counters.csv",
}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((INFRA / "rules.yaml").read_text())["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and the query, of all rules and panels; a dashboard's variables as one of their values."""
    yield from ((rule.get("alert") or rule["record"], rule["expr"]) for rule in rules())
    for name, content in dashboards().items():
        for panel in json.loads(content)["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", re.sub(r"\$\w+", "x", target["expr"])


def selected(query: str) -> set[str]:
    """The names of the metrics that a query reads."""
    found: set[str] = set()

    def note(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.add(node.vector_selector.name)
        return True

    promql_parser.walk(promql_parser.parse(query), note)
    return found


def unknown(found: Iterator[tuple[str, str]]) -> list[str]:
    known = {*metric_names(), *OTHERS, *(rule["record"] for rule in rules() if "record" in rule)}
    return [f"{where}: {name}" for where, query in found for name in sorted(selected(query) - known)]


def test_every_metric_of_a_rule_or_panel_is_exported() -> None:
    assert unknown(queries()) == []
    wrong = iter([("here", "sum(rate(k2_train_loss[5m])) / on (phase) absent_over_time(k2_training_loss[5m])")])
    assert unknown(wrong) == ["here: k2_train_loss"]


def test_every_metric_that_is_exported_is_shown_or_watched() -> None:
    """A histogram's parts stand for each other."""
    read = set().union(*(selected(query) for _, query in queries()))
    whole = {re.sub("_(bucket|sum|count)$", "", name) for name in read}
    assert [name for name in metric_names() if re.sub("_(bucket|sum|count)$", "", name) not in whole] == []


def test_dashboards_are_what_the_table_makes() -> None:
    kept = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert kept == dashboards(), "write them anew: python infra/monitoring/dashboards.py"
    for content in kept.values():
        panels = json.loads(content)["panels"]
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in panels)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24, "panels lie on each other"


@pytest.mark.parametrize(("file", "schema"), [("podmonitor", "podmonitor"), ("rules", "prometheusrule")])
def test_resources_are_as_the_operator_takes_them(file: str, schema: str) -> None:
    wanted = json.loads((PROJECT / "infra" / "schemas" / f"{schema}.json").read_text())
    resource = yaml.safe_load((INFRA / f"{file}.yaml").read_text())
    jsonschema.validate(resource, wanted)
    with pytest.raises(jsonschema.ValidationError, match="selectors"):
        jsonschema.validate({**resource, "spec": {**resource["spec"], "selectors": {}}}, wanted)


def test_alerts_say_what_and_how_bad() -> None:
    for alert in (rule for rule in rules() if "alert" in rule):
        assert alert["labels"]["severity"] in ("page", "ticket", "watchdog"), alert
        assert alert["annotations"].keys() == {"summary", "description"}, alert


def program(name: str, package: str) -> str:
    """Where it is; a test without it is skipped. Continuous integration brings it (.ci/run)."""
    if found := shutil.which(name):
        return found
    pytest.skip(f"no {name}: apt-get install {package}")


def promtool(folder: Path, groups: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    shutil.copy(TESTS, folder / "test.yml")
    command = [program("promtool", "prometheus"), "test", "rules", "test.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_rules_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    groups = yaml.safe_load((INFRA / "rules.yaml").read_text())["spec"]["groups"]
    done = promtool(tmp_path, groups)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_can_be_taken_away_unnoticed(tmp_path: Path) -> None:
    """Every alert is asked for by a test that fails without it: rules without a test of their own are none."""
    groups = yaml.safe_load((INFRA / "rules.yaml").read_text())["spec"]["groups"]
    recorded = [{**group, "rules": [rule for rule in group["rules"] if "record" in rule]} for group in groups]
    done = promtool(tmp_path, [group for group in recorded if group["rules"]])
    assert done.returncode != 0
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert alerts - set(re.findall(r"K2\w+", done.stdout + done.stderr)) == set()


def amtool(*arguments: str) -> str:
    command = [program("amtool", "prometheus-alertmanager"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alertmanager_takes_its_configuration() -> None:
    assert "3 receivers" in amtool("check-config", str(INFRA / "alertmanager.yaml"))


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=K2TrainingStalled", "severity=page"], "pager"),
        (["alertname=K2SaveFailed", "severity=ticket"], "tickets"),
        (["alertname=K2Watchdog", "severity=watchdog"], "watchdog"),
        (["alertname=SomethingElse"], "tickets"),
    ],
)
def test_alerts_reach_whom_they_are_for(labels: list[str], receiver: str) -> None:
    file = str(INFRA / "alertmanager.yaml")
    assert amtool("config", "routes", "test", f"--config.file={file}", *labels).strip() == receiver


def test_every_alert_that_routes_or_inhibitions_name_is_one() -> None:
    configuration = yaml.safe_load((INFRA / "alertmanager.yaml").read_text())
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    named = re.findall(r"K2\w+", json.dumps(configuration["inhibit_rules"]))
    assert named and set(named) <= alerts
    outside = re.findall(r"https?://[^\s\"]+", json.dumps(configuration))
    assert outside == ["http://dead-mans-switch.monitoring.svc:8080/"], "addresses are in files of a secret"
