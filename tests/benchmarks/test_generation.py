"""The comparison of generation end to end on a few short requests: that it runs and compares, not how fast."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.generation import PEERS, PRECISIONS

ROOT = Path(__file__).parents[2]


def test_all_sides_write_the_same_in_both_precisions() -> None:
    command = [sys.executable, "-m", "benchmarks.generation", "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert [row["name"] for row in rows] == [f"generation_{peer}_{of}" for of in PRECISIONS for peer in PEERS]
    assert all(row["ours"] > 0 and row["peer"] > 0 and row["ratio"] > 0 for row in rows)
    for peer in PEERS:
        assert any(line.startswith(f"{peer}, fp32: 6 of 6 requests have equal tokens") for line in lines), lines
