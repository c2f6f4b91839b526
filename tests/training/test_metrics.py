"""The training log and the run's record after a kill and behind a rollback, and what a person sees of a long phase."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import hash_file
from k2model.artifacts.files import LocalFiles
from k2model.artifacts.owner import owner_name
from k2model.recipe.schema import Precision
from k2model.training.layout import Layout
from k2model.training.log import (
    METRICS,
    METRICS_SO_FAR,
    TRAINING,
    TRAINING_SO_FAR,
    Intervention,
    MetricsLog,
    StepMetrics,
    TrainingRun,
    read_run,
)
from k2model.training.progress import ProgressLine, machine_peak
from k2model.training.world import World
from tests.training.job import MODEL, phase

RUN = TrainingRun(
    phase="mid_1", kind="midtrain", steps=1000, tokens_per_step=10, save_every=100, parameters=7, workers=2, tensor=1,
    context=1, data=2, zero_stage=0, precision="bf16", device="cpu", peak=1e11, started=1e9,
)  # fmt: skip
UNDONE = Intervention(
    "the loss stopped being a number at step 702", 700, 702, 650, before=3.21, deviation=0.1, losses=[9.4, None]
)


def row(step: int, loss: float = 1.0, **more: Any) -> StepMetrics:
    return StepMetrics(step, 10 * (step + 1), loss, 1e-3, 0.5, 8, 100.0, 0.1, **more)


def test_rows_of_earlier_attempts_end_at_the_checkpoint_or_at_a_cut_line(tmp_path: Path) -> None:
    first = MetricsLog(LocalFiles(tmp_path), 0, RUN)
    for step in range(6):
        first.add(row(step))
    path = tmp_path / METRICS_SO_FAR
    assert len(path.read_text().splitlines()) == 6, "each row is in the file at once"
    path.write_text(path.read_text()[:-9])  # the last line is cut

    second = MetricsLog(LocalFiles(tmp_path), 3, RUN)
    second.add(row(3, loss=2.0))
    second.close(owner_name())
    assert second.rows == [row(0), row(1), row(2), row(3, loss=2.0)]
    assert MetricsLog(LocalFiles(tmp_path), 99, RUN).rows == second.rows


def test_every_attempt_writes_its_facts_and_the_manifest_entries_are_those_of_the_files(tmp_path: Path) -> None:
    MetricsLog(LocalFiles(tmp_path), 0, RUN)
    assert read_run(LocalFiles(tmp_path)) == RUN
    again = replace(RUN, started=2e9, interventions=[UNDONE.record()])
    log = MetricsLog(LocalFiles(tmp_path), 0, again)
    log.add(row(0))
    assert read_run(LocalFiles(tmp_path)) == again
    assert json.loads((tmp_path / TRAINING_SO_FAR).read_text())["peak"] == 1e11
    entries = log.close(owner_name())
    assert {entry.path for entry in entries} == {METRICS, TRAINING}
    for entry in entries:
        file = tmp_path / entry.stored
        assert (entry.size, entry.sha256) == (file.stat().st_size, hash_file(file))


def test_facts_are_those_of_the_phase_and_its_layout(world: World) -> None:
    config = phase(zero_stage=1)
    run = TrainingRun.of(MODEL, config, Layout.of(world, config.parallelism), 3e11, [UNDONE])
    assert (run.phase, run.kind, run.steps, run.tokens_per_step) == ("pretrain", "pretrain", 12, 64)
    assert (run.workers, run.tensor, run.context, run.data, run.zero_stage) == (1, 1, 1, 1, 1)
    weights = 2 * 64 * 16 + 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32 + 2 * 16) + 16
    assert (run.parameters, run.peak, run.device) == (weights, 3e11, "cpu")
    assert run.interventions == [UNDONE.record()]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_long_phase_says_about_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(RUN, start=500)
    for step in range(500, 1000):
        line.update(row(step, loss=step / 1000, mfu=0.41))
    line.close()
    first, *lines = shown(capsys)
    assert first == "mid_1: going on from step 500 of 1000"
    assert [text.split(",")[0] for text in lines] == [f"mid_1: step {n}/1000" for n in (600, 700, 800, 900, 1000)]
    assert "loss 0.599, lr 1.00e-03, 100 tokens/s, MFU 41%, " in lines[0] and lines[0].endswith(" left")
    assert lines[-1].endswith("MFU 41%")


def test_left_out_steps_count_as_done_even_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    last = replace(UNDONE, first_step=900, last_step=999)
    line = ProgressLine(replace(RUN, interventions=[UNDONE.record(), last.record()]), start=650)
    for step in [*range(650, 700), *range(703, 900)]:
        line.update(row(step))
    steps = [text.split(",")[0] for text in shown(capsys)[1:]]
    assert steps == [f"mid_1: step {n}/1000" for n in (700, 800, 1000)]


def test_a_rollback_is_one_line_that_says_what_why_and_where_to(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressLine(RUN, start=0).rolled_back(UNDONE)
    assert shown(capsys) == [
        "mid_1: went back to step 650: the loss stopped being a number at step 702 (loss 3.210 before, up to 9.400 in "
        "it). Steps 700 to 702 are left out"
    ]


def test_the_peak_of_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    peak = machine_peak(World(), Precision.FP32)
    (kept,) = (tmp_path / "peaks").iterdir()
    content = json.loads(kept.read_text())
    assert peak == content["flops_per_second"] > 1e8

    kept.write_text(json.dumps(content | {"flops_per_second": 123.0}))
    assert machine_peak(World(), Precision.FP32) == 123.0, "another phase is measured against the same"
    assert machine_peak(World(rank=1, size=2, local_rank=1), Precision.FP32) > 1e8, "another worker has its own"
    kept.write_text(json.dumps(content | {"machine": "another", "flops_per_second": 123.0}))
    assert machine_peak(World(), Precision.FP32) > 1e8, "what is of another machine does not count"
    kept.write_text("{")
    assert machine_peak(World(), Precision.FP32) > 1e8
