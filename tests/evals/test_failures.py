"""Cells that cannot be measured: none keeps another from it, and all are told at the end, each with its reason."""

import errno
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2model.artifacts import CorruptArtifact, Store
from k2model.cli.main import main
from k2model.errors import EvaluationError, StoreWriteError
from k2model.evals.backends import OwnModel
from k2model.evals.cells import Cell, CellsFailed, Subject, make_cells
from k2model.evals.measures import Bounds
from k2model.evals.references import _by_all
from k2model.evals.step import measure_shares, measure_together
from k2model.training.world import World
from tests.evals.conftest import World as Made
from tests.evals.test_cells import Slow, cell_of, write_exam
from tests.model.workers import together


def named(cell: Cell, name: str, error: Exception | None = None) -> Cell:
    """The same task under another name, which cannot be asked where there is an error."""

    def failing(*_: object) -> list:
        assert error is not None
        raise error

    ask = failing if error else cell.measure.ask
    return replace(cell, measure=replace(cell.measure, name=name, ask=ask))


def test_a_cell_that_fails_keeps_no_other_from_being_measured(tmp_path: Path) -> None:
    write_exam(tmp_path)
    store = Store.open(tmp_path / "store")
    cell = cell_of(store, tmp_path)
    no_items = EvaluationError("holds no items; name a file that does")
    cells = [
        named(cell, "first", no_items), named(cell, "second"), named(cell, "third", no_items),
        named(cell, "fourth", MemoryError()), named(cell, "fifth"),
    ]  # fmt: skip
    with pytest.raises(CellsFailed) as failed:
        measure_together(store, cells)
    told, *lines = str(failed.value).splitlines()
    assert told.startswith("3 of 5 cells could not be measured, all others are kept")
    assert lines[0] == "  slow first, slow third: EvaluationError: holds no items; name a file that does"
    assert lines[1].startswith("  slow fourth: UsedUp: MemoryError. This process got no more memory")
    assert [store.find(one.identity) is not None for one in cells] == [False, True, False, False, True]


def test_what_ends_everything_is_raised_at_once(tmp_path: Path) -> None:
    write_exam(tmp_path)
    store = Store.open(tmp_path / "store")
    cell = cell_of(store, tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device")
    for error, raised in ((full, StoreWriteError), (KeyError("a bug"), KeyError)):
        with pytest.raises(raised):
            make_cells(store, [named(cell, "first", error), second := named(cell, "second")])
        assert store.find(second.identity) is None


def test_damaged_weights_are_read_once_for_all_of_their_cells(tmp_path: Path) -> None:
    write_exam(tmp_path)
    store, opened = Store.open(tmp_path / "store"), []

    def damaged(_: int) -> Slow:
        opened.append(1)
        raise CorruptArtifact("model.safetensors is damaged; bring it back")

    whole = cell_of(store, tmp_path)
    broken = replace(whole, subject=Subject("broken", {}, {"model": "broken"}, Bounds(100), damaged))
    made, failures = make_cells(store, [named(broken, "a"), named(broken, "b"), named(whole, "a")])
    assert len(made) == 1 and [one.task for one in failures] == ["a", "b"] and opened == [1]


def refused(*_: object) -> OwnModel:
    """What loading is on each worker of a team where weights are damaged."""
    raise CorruptArtifact("model.safetensors is damaged; bring it back")


def worker(rank: int, uri: str, folder: str, tensor: int) -> list[str]:
    store = Store.open(uri)
    whole = cell_of(store, Path(folder))
    load = (lambda _: _by_all(refused, folder)) if tensor > 1 else refused
    broken = replace(whole, subject=Subject("broken", {}, {"model": "broken"}, Bounds(100), load))
    cells = [named(broken, "0"), named(broken, "1"), named(whole, "2"), named(whole, "3", EvaluationError("no items"))]
    try:
        measure_shares(store, cells, World(rank, 2, rank), tensor)
    except CellsFailed as failed:
        return [str(failed), *(one.measure.name for one in cells if store.find(one.identity))]
    return []


@pytest.mark.parametrize("tensor", [1, 2])
def test_every_worker_hears_of_the_failures_of_all(tensor: int, tmp_path: Path) -> None:
    write_exam(tmp_path)
    uri = str(tmp_path / "store")
    for told, *measured in together(tmp_path / "workers", 2, worker, uri, str(tmp_path), tensor):
        assert told.startswith("3 of 4 cells") and "slow 3: EvaluationError: no items" in told
        assert "broken 0, broken 1: CorruptArtifact: model.safetensors is damaged" in told
        assert measured == ["2"]


def test_the_command_shows_what_was_measured_and_ends_with_what_was_not(
    world: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that is not there, before a task that needs none."""
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    with socket.socket() as bound:  # held and not listening: nobody else answers there
        bound.bind(("127.0.0.1", 0))
        judge = f"http://127.0.0.1:{bound.getsockname()[1]}/v1#judge"
        (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "The capital of Peru is", "answer": "Lima"}))
        for name, check in (("a_judged", f"judge\njudge: {judge}"), ("b_exact", "exact")):
            fields = f"name: {name}\nlocation: rows.jsonl\nlicence: CC0-1.0\nmax_new_tokens: 8\ncheck: {check}\n"
            (tmp_path / f"{name}.yaml").write_text(fields)
        tasks = ",".join(str(tmp_path / f"{name}.yaml") for name in ("a_judged", "b_exact"))
        command = ["eval", "run", str(world.export), "--tasks", tasks, "--store", str(tmp_path / "store")]
        result = CliRunner(mix_stderr=False).invoke(main, [*command, "--recipe", "smoke", "--json"])
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)
    assert row["score"] == "b_exact" and row["value"] == 1.0
    assert "1 of 2 cells could not be measured" in result.stderr
    assert "export a_judged: EvaluationError: the judge of benchmark 'a_judged'" in result.stderr
    assert "run again when it can be reached" in result.stderr
