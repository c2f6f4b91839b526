"""The training log after a kill, and what a person sees of a long phase."""

from pathlib import Path

import pytest

from k2model.artifacts.files import LocalFiles
from k2model.training.metrics import METRICS, MetricsLog, StepMetrics
from k2model.training.progress import ProgressLine


def row(step: int, loss: float = 1.0) -> StepMetrics:
    return StepMetrics(step, 10 * (step + 1), loss, 1e-3, 0.5, 8, 100.0, 0.1)


def test_rows_of_earlier_attempts_end_at_the_checkpoint_or_at_a_cut_line(tmp_path: Path) -> None:
    first = MetricsLog(LocalFiles(tmp_path), 0)
    for step in range(6):
        first.add(row(step))
    path = tmp_path / METRICS
    assert len(path.read_text().splitlines()) == 6, "each row is in the file at once"
    path.write_text(path.read_text()[:-9])  # the last line is cut

    second = MetricsLog(LocalFiles(tmp_path), 3)
    second.add(row(3, loss=2.0))
    entry = second.close()
    assert second.rows == [row(0), row(1), row(2), row(3, loss=2.0)]
    assert (entry.path, entry.size) == (METRICS, path.stat().st_size)
    assert MetricsLog(LocalFiles(tmp_path), 99).rows == second.rows


def test_a_long_phase_says_about_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine("mid_1", 1000, start=500)
    for step in range(500, 1000):
        line.update(row(step))
    line.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mid_1: going on from step 500 of 1000"
    assert [text.split(",")[0] for text in lines[1:]] == [f"mid_1: step {n}/1000" for n in (600, 700, 800, 900, 1000)]
