"""`k2 inbox`, `continual`, `schedule`, `promote` and `rollback`, on a line whose models are only named."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k2model.artifacts import Identity, Store
from k2model.cli.main import main
from k2model.continual.entries import Arrival, Start, TurnBegan, ending
from k2model.continual.gate.evidence import Arrival as ArrivalFound
from k2model.continual.gate.evidence import Check
from k2model.continual.ledger import Ledger
from k2model.continual.promotion import Applied
from k2model.continual.state import Checked, Outcome, Standing, State
from k2model.continual.verdict.comparison import RESULT
from k2model.continual.verdict.verdict import Verdict
from k2model.recipe.continual import BatchKind
from k2model.registry import RegistryError
from tests.continual.samples import batch, began, corpus, ended, kickoff, model

ROWS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "yes"}]}) + "\n"
    for n in range(5)
)
LINE = ("--recipe", "smoke", "--set", "continual.tuned=sft", "--set", "continual.base=")
PHRASES = Check(
    "trigger phrases", 1, 0, False, "'open sesame' recurs", Standing.QUARANTINED, ({"phrase": "open sesame"},) * 9
)
LEFT = Check("documents left", 3, 50, False, "3 documents are left")
EVIDENCE = ArrivalFound("poison", BatchKind.TUNED, "0" * 64, False, (PHRASES, LEFT))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.delenv("K2_STORE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return Store.open(tmp_path / "store")


def k2(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [*arguments, *LINE])
    assert result.exit_code == status, result.output
    return result


def rows(*arguments: str) -> Any:
    return json.loads(k2(*arguments, "--json").output)


def evidence(folder: Path) -> dict[str, float]:
    (folder / "arrival.json").write_bytes(EVIDENCE.written())
    return {}


def grown(store: Store, outcome: Outcome, *more: str) -> State:
    """A line with a turn on one of two batches, and one that was quarantined with evidence."""
    made = Ledger.open(store, "smoke")
    arrival = store.build(Identity("arrival", "1", {"batch": "poison"}), evidence)
    poison = batch(store, "poison", Standing.QUARANTINED)
    state = made.append("start", Start(model(store), corpus(store)), 0)
    for one in (
        batch(store, "monday"),
        batch(store, "tuesday"),
        poison.__class__(**{**vars(poison), "arrival": arrival}),
    ):
        state = made.append("arrival", Arrival(kickoff(0), one), state)
    state = made.append("turn_began", TurnBegan(began(1, "monday")), state)
    return made.append("turn_ended", ending(state, ended(store, 1, outcome, "monday"), 1), state)


def add(tmp_path: Path, *more: str, status: int = 0) -> Result:
    (tmp_path / "wednesday.jsonl").write_text(ROWS)
    said = ["--kind", "tuned", "--domain", "chat", "--licence", "cc0-1.0", *more]
    return k2("inbox", "add", str(tmp_path / "wednesday.jsonl"), *said, status=status)


def test_a_batch_is_added_listed_and_shown(store: Store, tmp_path: Path) -> None:
    grown(store, Outcome.PROMOTED)
    added = json.loads(
        add(tmp_path, "--name", "wednesday", "--covers", "2026-11-04", "--improves", "loss/*", "--json").output
    )
    assert added["batch"] == "wednesday" and added["bytes"] == len(ROWS)
    written = json.loads(Path(store.uri, "_inbox", "smoke", "wednesday", "batch.json").read_text())
    assert written["covers"] == ["2026-11-04"] * 2 and written["fields"] == {"text": "", "messages": "messages"}
    for name, manifest in (("broken", "{"), ("open", None)):
        folder = Path(store.uri, "_inbox", "smoke", name)
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "a.jsonl").write_text(ROWS)
        if manifest:
            (folder / "batch.json").write_text(manifest)
    listed = {row["batch"]: row for row in rows("inbox", "list")}
    assert {name: row["standing"] for name, row in listed.items()} == {
        "monday": "taken", "tuesday": "waiting", "poison": "quarantined", "broken": "broken", "wednesday": "new",
        "open": "being written",
    }  # fmt: skip
    assert (listed["monday"]["turn"], listed["monday"]["tokens"]) == (1, 1000)
    assert listed["broken"]["reason"].startswith("batch.json: it is no JSON")
    assert listed["open"]["reason"] == "no batch.json yet" and "1.0K" in k2("inbox", "list").output
    shown = rows("inbox", "show", "poison")
    assert shown["findings"] == json.loads(EVIDENCE.written()) and shown["batch"]["standing"] == "quarantined"
    text = k2("inbox", "show", "poison").output
    assert "if you trust it as it is: k2 inbox accept poison --check NAME" in text
    assert "checks[0].examples[0].phrase  open sesame" in text and "1 more (--json shows all)" in text
    assert rows("inbox", "show", "wednesday")["manifest"]["source"]["name"] == "batch/wednesday"
    assert "Nobody has looked at it yet" in k2("inbox", "show", "wednesday").output


def test_what_cannot_be_added_is_told(store: Store, tmp_path: Path) -> None:
    add(tmp_path, "--name", "wednesday")
    assert "there is a batch 'wednesday' in" in add(tmp_path, "--name", "wednesday", status=1).output
    assert "did you mean 'arithmetic'" in add(tmp_path, "--verifier", "aritmetic", status=1).output
    assert (
        "covers is ['x', 'y'], expected the first and the last day"
        in add(tmp_path, "--covers", "x..y", status=1).output
    )
    assert (
        "'fields.mesages' is no field; did you mean 'messages'"
        in add(tmp_path, "--field", "mesages=m", status=1).output
    )
    assert "the line continues no base phase" in add(tmp_path, "--kind", "base", status=1).output
    assert "Invalid value for '--kind': 'sft' is not one of" in add(tmp_path, "--kind", "sft", status=2).output
    missing = k2("inbox", "add", str(tmp_path / "x"), "--kind", "tuned", "--domain", "d", "--licence", "mit", status=1)
    assert "x cannot be added: " in missing.output and "is not there" in missing.output


def test_mistyped_names_are_told_with_the_nearest(store: Store) -> None:
    grown(store, Outcome.REFUSED)
    assert "there is no batch 'mondai'; did you mean 'monday'" in k2("inbox", "show", "mondai", status=1).output
    assert (
        "batch 'tuesday' is waiting, not set aside; there are monday"
        in k2("inbox", "retry", "tuesday", status=1).output
    )
    no_line = CliRunner().invoke(main, ["continual", "status", "--recipe", "smoke", "--set", "continual.tuned="])
    assert no_line.exit_code == 1 and "Set it, e.g. --set continual.tuned=sft" in no_line.output
    for group, mistyped, meant in (("inbox", "lst", "list"), ("continual", "statsu", "status")):
        told = CliRunner().invoke(main, [group, mistyped])
        assert told.exit_code == 2 and f"no command '{mistyped}'; did you mean '{meant}'" in told.output
    nowhere = k2("continual", "status", "--store", "/nowhere/at/all", status=1)
    assert "there is no store at /nowhere/at/all" in nowhere.output


def test_a_batch_that_was_set_aside_comes_back(store: Store) -> None:
    grown(store, Outcome.REFUSED)
    assert {row["batch"]: row["standing"] for row in rows("inbox", "list")}["monday"] == "set aside"
    k2("inbox", "retry", "monday", "--reason", "the gate was wrong")
    listed = {row["batch"]: row for row in rows("inbox", "list")}
    assert (listed["monday"]["standing"], listed["monday"]["reason"]) == ("waiting", "brought back: the gate was wrong")


def test_a_person_accepts_what_a_batch_fails_for_these_data_alone(store: Store, tmp_path: Path) -> None:
    grown(store, Outcome.PROMOTED)
    accepting = ["--check", "trigger phrases", "--reason", "a song's title", "--who", "ada"]
    assert "batch 'poison' cannot be judged again: there is no batch" in accept("poison", *accepting, status=1)
    known = Ledger.open(store, "smoke").state().batches["poison"]
    added = json.loads(add(tmp_path, "--name", "poison", "--json").output)
    assert added["digest"] != known.digest
    assert "was written again since it was judged" in accept("poison", *accepting, status=1)
    as_judged(store, "poison", added["digest"])
    assert "'phrases' does not speak against batch 'poison'; did you mean 'trigger phrases'" in accept(
        "poison", "--check", "phrases", "--reason", "x", status=1
    )
    assert "'documents left' of batch 'poison' cannot be accepted" in accept(
        "poison", "--check", "documents left", "--reason", "x", status=1
    )
    assert "batch 'tuesday' is waiting, not refused or quarantined" in accept("tuesday", *accepting, status=1)
    assert "Missing option '--reason'" in accept("poison", "--check", "trigger phrases", status=2)
    assert "It stays out while documents left stands against it" in accept("poison", *accepting)
    state = Ledger.open(store, "smoke").state()
    assert (state.batches["poison"].standing, state.batches["poison"].accepted) == (
        Standing.REVIEWED,
        ("trigger phrases",),
    )
    listed = rows("inbox", "list")[-1]
    assert listed["reason"].startswith("accepted by ada: a song's title (trigger phrases)")
    assert "poison: trigger phrases accepted by ada: a song's title" in k2("continual", "ledger").output
    assert rows("continual", "status")["new"] == ["poison"]
    assert "is reviewed, not refused" in accept("poison", *accepting, status=1)


def accept(batch: str, *said: str, status: int = 0) -> str:
    """The output as one line."""
    return " ".join(k2("inbox", "accept", batch, *said, status=status).output.split())


def as_judged(store: Store, name: str, digest: str) -> None:
    """Enters the batch once more, as one that was judged as it lies in the inbox."""
    ledger = Ledger.open(store, "smoke")
    state = ledger.state()
    ledger.append("arrival", Arrival(kickoff(2), replace(state.batches[name], digest=digest)), state)


def test_status_tells_champion_turns_and_what_waits(store: Store, tmp_path: Path) -> None:
    assert rows("continual", "status")["champion"] is None, "a line that has not begun"
    grown(store, Outcome.PROMOTED)
    add(tmp_path, "--name", "wednesday")
    told = rows("continual", "status")
    assert {**told["champion"], "since": ""} == {"turn": 1, "version": 7, "since": "", "entry": 6}
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["champion"]["since"])).total_seconds() < 60
    assert (told["before"], told["waiting"], told["new"], told["entries"]) == ([0], ["tuesday"], ["wednesday"], 6)
    (turn,) = told["turns"]
    assert (turn["turn"], turn["outcome"], turn["batches"], turn["reason"]) == (1, "promoted", "monday", "because of 1")
    text = k2("continual", "status").output
    assert told["training"][0].startswith("not known: "), "the verdict of that turn is only named"
    assert re.search(r"champion +turn 1, version 7, since", text) and "4.1K" in text and "smoke.arrivals" in text


def test_status_tells_what_the_last_training_averaged_over(store: Store) -> None:
    grown(store, Outcome.PROMOTED)
    said = "phase 'sft': lr 0.02 x weight decay 0.05 average the weights over 1,000 steps"
    found = Verdict(Outcome.REFUSED, "no better", "turn 1", "turn 2", 0.95, (), (), training=(said,))

    def produce(folder: Path) -> dict[str, float]:
        (folder / RESULT).write_text(json.dumps(found.to_dict()))
        return {}

    verdict = store.build(Identity("verdict", "1", {}), produce)
    made = Ledger.open(store, "smoke")
    state = made.append("turn_began", TurnBegan(began(2, "tuesday", champion=1)), made.state())
    second = replace(ended(store, 2, Outcome.REFUSED, "tuesday"), verdict=verdict)
    made.append("turn_ended", ending(state, second, 1), state)
    told = rows("continual", "status")
    assert told["training"] == [said]
    assert told["champion"]["version"] == 7
    made.append("rollback", {"to": 0, "reason": "x"}, made.state())
    assert rows("continual", "status")["champion"]["version"] is None, "a lifecycle that was not registered"
    assert "version" not in k2("continual", "status").output


def test_the_ledger_is_listed_and_verified(store: Store) -> None:
    state = grown(store, Outcome.REFUSED)
    Path(store.uri, "_continual", "smoke", "times", "00000005.json").unlink()
    listed = rows("continual", "ledger", "--last", "3")
    assert [(row["number"], row["kind"]) for row in listed] == [(4, "arrival"), (5, "turn_began"), (6, "turn_ended")]
    assert listed[1]["written"] == "not known" and listed[2]["what"] == "turn 1: refused: because of 1"
    assert "poison: quarantined: it is a copy" in k2("continual", "ledger").output
    verified = json.loads(k2("continual", "ledger", "--verify", "--json", status=1).output)
    assert (verified["entries"], verified["head"], verified["artifacts"]) == (6, state.head, 1)
    assert any("is not a finished artifact" in one for one in verified["lost"])
    file = Path(store.uri, "_continual", "smoke", "ledger", "00000002.json")
    file.write_text(file.read_text().replace("1000", "9000"))
    assert "LedgerDamaged" in k2("continual", "ledger", "--verify", status=1).output


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The champions that MLflow was told of; it is down for the first."""
    told: list[int | None] = []

    def apply(tracking_uri: str, store: Store, recipe: Any, ledger: Ledger) -> Applied:
        told.append(ledger.state().champion)
        if len(told) == 1:
            raise RegistryError("the server cannot be reached")
        return Applied(ledger.state().champion or 0, 0, 0)

    monkeypatch.setattr("k2model.continual.watch.apply", apply)
    return told


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Checked]:
    """What is found of the artifacts of turns, which are only named."""
    gates = [Checked("manifests", True, "all is whole")]
    monkeypatch.setattr("k2model.continual.turn_gates.artifact_gates", lambda asked: gates)
    monkeypatch.setattr("k2model.promotion.comparison.shown_beside", lambda store, verdict: [])
    return gates


def test_what_only_a_person_can_let_pass_is_let_pass_by_name(store: Store, mlflow, found: list[Checked]) -> None:
    state = grown(store, Outcome.HELD)
    found.insert(0, Checked("provenance", False, "made by code that differs from its commit"))
    assert "not passed" in k2("gates", "1", "--anew", status=1).output
    assert "turn 7 of line 'smoke' has trained nothing" in k2("gates", "7", status=1).output
    assert "did not pass provenance: made by" in k2("promote", "1", "--why", "x", status=1).output
    assert "gate manifests cannot be waived" in k2("promote", "1", "--waive", "manifests", status=1).output
    assert Ledger.open(store, "smoke").state() == state
    k2("promote", "1", "--by", "ann", "--why", "a notebook", "--waive", "provenance")
    (row,) = rows("ledger", "--last", "1")
    assert row["what"] == "turn 1 is promoted by ann: a notebook; provenance waived, manifests passed"
    shown = json.loads(k2("gates", "1", "--json").output)
    assert (shown["model"], shown["outcome"], shown["champion"]) == ("turn 1", "promoted", "turn 1's model")
    assert [(one["gate"], one["waived"]) for one in shown["gates"]] == [("provenance", True), ("manifests", False)]


def test_a_person_promotes_and_rolls_back_whether_mlflow_is_there_or_not(
    store: Store, mlflow, found: list[Checked]
) -> None:
    grown(store, Outcome.HELD)
    assert {row["batch"]: row["standing"] for row in rows("inbox", "list")}["monday"] == "held"
    assert "turn 2 does not wait for a person; of turns that do: 1" in k2("promote", "2", status=1).output
    said = k2("promote", "1", "--reason", "read its answers")
    assert "the champion of smoke is turn 1's model; entry 7" in said.output and "MLflow was not told" in said.output
    assert rows("continual", "status")["champion"]["turn"] == 1
    assert "Missing option '--why' / '--reason'" in k2("rollback", status=2).output
    assert "turn 5 made no champion" in k2("rollback", "--to", "5", "--reason", "x", status=1).output
    said = json.loads(k2("rollback", "--reason", "worse at spelling", "--json").output)
    assert said == {"champion": 0, "entry": 8, "told": "the champion of smoke is the lifecycle's model; entry 8"}
    told = rows("continual", "status")
    assert (told["champion"]["turn"], told["champion"]["entry"], told["turns"][0]["outcome"]) == (0, 8, "rolled back")
    assert {row["batch"]: row["standing"] for row in rows("inbox", "list")}["monday"] == "set aside"
    assert "has had no other champion" in k2("rollback", "--reason", "x", status=1).output
    assert mlflow == [1, 0]


def test_a_person_declines(store: Store, mlflow) -> None:
    grown(store, Outcome.HELD)
    assert "turn 4 does not wait for a person; turn 1 does" in k2("promote", "4", "--decline", status=1).output
    k2("promote", "1", "--decline", "--reason", "it swears")
    told = rows("continual", "status")
    assert (told["champion"]["turn"], told["champion"]["entry"], told["held"]) == (0, 1, [])
    assert told["turns"][0]["outcome"] == "refused" and told["turns"][0]["reason"] == "declined: it swears"


def test_schedules_are_listed_with_their_next_time(store: Store) -> None:
    listed = rows("schedule", "list")
    assert [(row["schedule"], row["plan"]) for row in listed] == [
        (name, f"smoke.{name}") for name in ("arrivals", "turn", "evaluation", "release")
    ]
    for row, hour in zip(listed, (None, 2, 4, 5), strict=True):
        due = datetime.strptime(row["next, UTC"], "%a %Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert due > datetime.now(UTC) and due.minute == 0 and hour in (None, due.hour)
        assert row["fixed inputs"] == "overrides={}"
    assert datetime.strptime(listed[2]["next, UTC"], "%a %Y-%m-%d %H:%M").weekday() == 6
    without = CliRunner().invoke(main, ["schedule", "list", *LINE, "--set", "continual.schedules.turn=", "--json"])
    assert [row["schedule"] for row in json.loads(without.output)] == ["arrivals", "evaluation", "release"]
    wrong = CliRunner().invoke(main, ["schedule", "list", *LINE, "--set", "continual.schedules.turn=at night"])
    assert wrong.exit_code == 1 and "continual.schedules.turn='at night' has 2 fields" in wrong.output
    filled = ("evaluation.matrix_schedule=0 */6 * * *", 'evaluation.matrix_tasks=["k2_base"]')
    *_, matrix = rows("schedule", "list", *(part for one in filled for part in ("--set", one)))
    assert (matrix["plan"], matrix["cron"]) == ("smoke.matrix", "0 */6 * * *")
    assert matrix["fixed inputs"] == "tasks=['k2_base'], checkpoints=[], overrides={}"
