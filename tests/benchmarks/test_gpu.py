"""The GPU's script end to end on a CPU, on small sizes: nothing but the device differs."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.peers import one_device
from benchmarks.peers.one_device import Workload, document_lengths, sizes
from k2model.recipe.schema import Precision

ROOT = Path(__file__).parents[2]


def test_every_part_runs_on_a_cpu() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--seconds", "300"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=320)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    by_status = {status: [line for line in lines if line.startswith(status)] for status in ("PASS", "FAIL", "SKIP")}
    assert not by_status["FAIL"]
    assert [line.split(":")[0] for line in by_status["SKIP"]] == ["SKIP attention in one call", "SKIP memory"]
    assert len(by_status["PASS"]) == 15
    comparisons = [json.loads(line) for line in lines if line.startswith('{"name"')]
    assert {(c["name"], c["unit"]) for c in comparisons} == {
        (f"gpu/{workload.value} rows, against {peer}", "tokens/s")
        for workload in Workload
        for peer in ("transformers", "deterministic")
    }
    assert all(c["ours"] > 0 and c["peer"] > 0 and c["versions"]["torch"] for c in comparisons)


@pytest.fixture
def checks(tmp_path: Path) -> gpu.Checks:
    return gpu.Checks(sizes(tiny=True), tmp_path, "cpu", time.monotonic() + 60, {})


def hangs() -> None:
    time.sleep(60)


def breaks() -> None:
    raise ValueError("a kernel is missing")


def test_a_process_that_dies_hangs_or_raises_is_told_and_ended(checks: gpu.Checks) -> None:
    with pytest.raises(gpu.Failed, match="_exit ended with 3"):
        checks.run(os._exit, 3)
    with pytest.raises(gpu.Failed, match=r"hangs was still running after 1 s"):
        checks.run(hangs, seconds=1.4)
    with pytest.raises(gpu.Failed, match="ValueError: a kernel is missing"):
        checks.run(breaks)
    checks.ends = time.monotonic()
    with pytest.raises(gpu.Failed, match="give it more --seconds"):
        checks.run(os.getpid)


def test_a_part_that_fails_hides_no_other(
    checks: gpu.Checks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(_: gpu.Checks) -> None:
        breaks()

    monkeypatch.setattr(gpu, "PARTS", {"first": raising, "second": lambda c: c.that(True, "second", "ran")})
    monkeypatch.setattr(gpu, "_preload", lambda: None)
    monkeypatch.setattr(gpu.Checks, "run", lambda *_, **__: {"device": "cpu"})  # the facts of the environment
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    out = capsys.readouterr().out
    assert ended.value.code == 1
    assert "FAIL first" in out and "a kernel is missing" in out and "PASS second: ran" in out and "1 failed" in out


def test_without_a_gpu_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu, "_preload", lambda: None)
    monkeypatch.setattr(gpu.Checks, "run", lambda *_, **__: {"device": "cpu"})
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2 and "nothing was run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "failing"),
    [
        ([{"loss": 2.0, "gradient norm": 1.0}, {"loss": 1.0, "gradient norm": 1.0}], 0),
        ([{"loss": 2.1, "gradient norm": 1.0}, {"loss": 1.0, "gradient norm": 1.0}], 2),
        ([{"loss": 2.0, "gradient norm": 1.0}, {"loss": 1.0, "gradient norm": 1.1}], 2),
    ],
)
def test_a_device_that_computes_something_else_fails(
    checks: gpu.Checks, monkeypatch: pytest.MonkeyPatch, found: list[dict[str, float]], failing: int
) -> None:
    right = [{"loss": 2.0, "gradient norm": 1.0}, {"loss": 1.0, "gradient norm": 1.0}]
    monkeypatch.setattr(gpu.Checks, "run", lambda *_, cpu=False, **__: right if cpu else found)
    gpu.losses(checks)
    assert checks.failed == failing


def test_a_resume_that_moves_a_bit_fails(checks: gpu.Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = iter([([[1.0]], 6), (None, 3), ([[1.0 + 1e-7]], 3)] * 2)
    monkeypatch.setattr(gpu.Checks, "run", lambda *_, **__: next(moved))
    gpu.resume(checks)
    assert checks.failed == 1, "with default kernels it may"


def test_documents_fill_their_row() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        lengths = document_lengths(192, Workload.DOCUMENTS, random)
        assert sum(lengths) == 192 and min(lengths) > 0
    assert document_lengths(192, Workload.DENSE, random) == [192]


def test_transformers_llama_keeps_documents_apart_as_ours_does(tmp_path: Path) -> None:
    """The same loss for the same weights, large enough for attention to matter, and another where rows are whole."""
    import torch

    from k2model.export.hugging_face import to_llama
    from k2model.model import K2Model
    from k2model.model.attention import document_starts
    from k2model.model.loss import IGNORED
    from k2model.training.layout import Layout
    from k2model.training.world import World

    found = sizes(tiny=True)
    model = replace(found.model, init_std=0.3)
    phase = replace(found.phase, precision=Precision.FP32, bf16_residual=False)
    with World().joined():
        layout = Layout.of(World(), phase.parallelism)
        batch = one_device._batches(str(tmp_path), model, phase, Workload.DOCUMENTS, layout)[0]
    # Only the first targets of the second documents on count: for them what stands before matters most.
    offset = torch.arange(phase.sequence_length) - (starts := document_starts(batch.document_BR))
    few = torch.where((offset < 2) & (starts > 0), batch.targets_BT, IGNORED)
    batch = replace(batch, targets_BT=few, targets=int((few != IGNORED).sum()))
    torch.manual_seed(0)
    ours = K2Model(model, phase.rope_theta, phase.sequence_length)
    llama, step, _ = one_device._llama(model, phase, "cpu")
    llama.load_state_dict(to_llama(ours.state_dict(), model))
    with torch.no_grad():
        apart, _ = ours.loss(batch.tokens_BT, batch.targets_BT, batch.document_BR)
        whole, _ = ours.loss(batch.tokens_BT, batch.targets_BT)
    assert step(batch) == pytest.approx(float(apart) / batch.targets, rel=1e-6)
    assert float(whole) != pytest.approx(float(apart), rel=1e-4)
