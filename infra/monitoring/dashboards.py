"""The Grafana dashboards, written from one table of panels: python infra/monitoring/dashboards.py

What Grafana imports is in dashboards/*.json, which `tests/monitoring/test_rules.py` compares with this table and whose
metrics it looks up in what the code exports. Plain dictionaries: Grafana's own SDK for Python has versions that pip
cannot pin without an epoch, and adds nothing to twenty panels of two kinds.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = {"type": "prometheus", "uid": "${source}"}
CHOSEN = '{recipe=~"$recipe", phase=~"$phase"}'
BY_PHASE = "by (recipe, phase)"
NAMED = "{{recipe}}/{{phase}}"

#: A panel: title, what it shows and why, unit, and queries with their legends. A unit of "stat:..." is one number.
Panel = tuple[str, str, str, tuple[tuple[str, str], ...]]


def _latest(metric: str) -> str:
    """The whole job's value: rank 0's, whatever pod that was in."""
    return f"max {BY_PHASE} ({metric}{CHOSEN})"


TRAINING: tuple[Panel, ...] = (
    ("Since the last step", "Over 15 min: K2TrainingStalled", "stat:s",
     ((f"time() - {_latest('k2_training_step_timestamp_seconds')}", NAMED),)),
    ("Done", "Steps of the phase", "stat:percentunit",
     ((f"({_latest('k2_training_step')} + 1) / {_latest('k2_training_steps')}", NAMED),)),
    ("Steps that a kill would cost", "Since the newest checkpoint", "stat:none",
     ((f"{_latest('k2_training_step')} + 1 - {_latest('k2_checkpoint_last_step')}", NAMED),)),
    ("Rollbacks", "Spikes of the phase that were undone", "stat:none", ((_latest("k2_training_rollbacks"), NAMED),)),
    ("Loss", "Nats per target", "none", ((_latest("k2_training_loss"), NAMED),)),
    ("Gradient norm", "Before clipping", "none", ((_latest("k2_training_gradient_norm"), NAMED),)),
    ("Tokens a second", "All workers; the median of six hours is what K2ThroughputFalling compares with", "none",
     ((_latest("k2_training_tokens_per_second"), NAMED),
      (f"quantile_over_time(0.5, k2:training_tokens_per_second{CHOSEN}[6h])", f"{NAMED} median of 6 h"))),
    ("Model-FLOPs utilisation", "Of the measured peak", "percentunit", ((_latest("k2_training_mfu_ratio"), NAMED),)),
    ("Time of a step", "Median and 99th percentile of 10 min", "s",
     tuple((f"histogram_quantile({q}, sum by (le) (rate(k2_training_step_seconds_bucket{CHOSEN}[10m])))", f"p{name}")
           for q, name in ((0.5, "50"), (0.99, "99")))),
    ("Learning rate", "", "none", ((_latest("k2_training_learning_rate"), NAMED),)),
    ("Time spent, of an hour", "What is not steps is saving, loading, restarts", "percentunit",
     ((f"sum {BY_PHASE} (rate(k2_training_step_seconds_sum{CHOSEN}[1h]))", f"{NAMED} steps"),
      (f"max {BY_PHASE} (rate(k2_rank_data_wait_seconds_total{CHOSEN}[1h]))", f"{NAMED} longest wait for data"))),
    ("Tokens", "That processes trained on, steps taken back included", "none",
     ((f"sum {BY_PHASE} (increase(k2_training_tokens_total{CHOSEN}[1h]))", f"{NAMED} an hour"),)),
    ("Ranks behind", "The others wait for these", "none",
     ((f"max {BY_PHASE} (k2_rank_step{CHOSEN}) - on (recipe, phase) group_right () k2_rank_step{CHOSEN} > 0",
       "rank {{rank}} {{pod}}"),)),
    ("Age of each rank's step", "The ten oldest", "s",
     ((f"topk(10, time() - k2_rank_progress_timestamp_seconds{CHOSEN})", "rank {{rank}} {{pod}}"),)),
    ("Time of a save", "Until it was in the store: 90th percentile of 6 h; and since the last one was", "s",
     ((f"histogram_quantile(0.9, sum by (le) (rate(k2_checkpoint_save_seconds_bucket{CHOSEN}[6h])))", "p90"),
      (f"time() - {_latest('k2_checkpoint_last_timestamp_seconds')}", f"{NAMED} since the last"))),
    ("Saves of 6 h", "By how they came out; failing is one that is tried again", "none",
     ((f"sum by (outcome) (increase(k2_checkpoint_saves_total{CHOSEN}[6h]))", "{{outcome}}"),
      (_latest("k2_checkpoint_save_failing"), "failing"))),
)  # fmt: skip

CLUSTER: tuple[Panel, ...] = (
    ("Firing", "Alerts of the project", "none",
     (('sum by (alertname) (ALERTS{alertname=~"K2.*", alertname!="K2Watchdog", alertstate="firing"})',
       "{{alertname}}"),)),
    ("Nodes at training", "That show metrics, of the pods that run", "none",
     (("count by (recipe, phase) (k2_training_info)", f"{NAMED} show metrics"),
      ('count(kube_pod_status_phase{namespace="k2", phase="Running"} == 1)', "pods that run in k2"))),
    ("Jobs that wait", "By queue", "none",
     (('sum by (cluster_queue, status) (kueue_pending_workloads{cluster_queue=~"k2.*"})',
       "{{cluster_queue}} {{status}}"),)),
    ("Jobs admitted, an hour", "By queue", "none",
     (('sum by (cluster_queue) (increase(kueue_admitted_workloads_total{cluster_queue=~"k2.*"}[1h]))',
       "{{cluster_queue}}"),)),
    ("GPU utilisation", "The ten least busy", "percent",
     (("bottomk(10, DCGM_FI_DEV_GPU_UTIL)", "{{Hostname}} {{gpu}}"),)),
    ("GPU temperature", "The ten hottest", "celsius", (("topk(10, DCGM_FI_DEV_GPU_TEMP)", "{{Hostname}} {{gpu}}"),)),
    ("GPU power", "The ten lowest: a throttled GPU is one of them", "watt",
     (("bottomk(10, DCGM_FI_DEV_POWER_USAGE)", "{{Hostname}} {{gpu}}"),)),
    ("Last Xid", "Of each GPU that had one", "none", (("DCGM_FI_DEV_XID_ERRORS > 0", "{{Hostname}} {{gpu}}"),)),
    ("PCIe replays", "More than a few say that a GPU is badly seated", "none",
     (("topk(10, increase(DCGM_FI_DEV_PCIE_REPLAY_COUNTER[1h]))", "{{Hostname}} {{gpu}}"),)),
    ("Volumes", "What is left", "percentunit",
     (('kubelet_volume_stats_available_bytes{namespace=~"k2.*"} '
       '/ kubelet_volume_stats_capacity_bytes{namespace=~"k2.*"}', "{{persistentvolumeclaim}}"),)),
    ("Disks of nodes", "The ten fullest: what is left", "percentunit",
     (('bottomk(10, node_filesystem_avail_bytes{fstype=~"ext4|xfs|btrfs|overlay"} '
       '/ node_filesystem_size_bytes{fstype=~"ext4|xfs|btrfs|overlay"})', "{{instance}} {{mountpoint}}"),)),
)  # fmt: skip


def _variable(name: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {
        "name": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "includeAll": True,
        "multi": True, "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    title, what, unit, queries = panel
    stat = unit.startswith("stat:")
    return {
        "id": number, "title": title, "description": what, "type": "stat" if stat else "timeseries",
        "datasource": SOURCE, "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit.removeprefix("stat:"), "noValue": "no data"}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(queries)
        ],
    }  # fmt: skip


def dashboard(uid: str, title: str, panels: tuple[Panel, ...], by_phase: bool) -> dict[str, Any]:
    """Single numbers in a row of their own, curves two in a row."""
    source = {"name": "source", "type": "datasource", "query": "prometheus", "current": {}}
    chosen = [_variable(name, "k2_training_info") for name in ("recipe", "phase")] if by_phase else []
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        width, height = (6, 4) if panel[2].startswith("stat:") else (12, 8)
        placed.append(_panel(number, panel, {"x": x, "y": y, "w": width, "h": height}))
        x += width
        if x >= 24:
            x, y = 0, y + height
    return {
        "uid": uid, "title": title, "tags": ["k2"], "schemaVersion": 39, "editable": False, "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"}, "timezone": "utc", "templating": {"list": [source, *chosen]},
        "panels": placed,
    }  # fmt: skip


def dashboards() -> dict[str, str]:
    """What each file of `dashboards/` is to hold."""
    made = {
        "training.json": dashboard("k2-training", "K2 training", TRAINING, by_phase=True),
        "cluster.json": dashboard("k2-cluster", "K2 cluster", CLUSTER, by_phase=False),
    }
    return {name: json.dumps(content, indent=1) + "\n" for name, content in made.items()}


if __name__ == "__main__":
    for name, content in dashboards().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
