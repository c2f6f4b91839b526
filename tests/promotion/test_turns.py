"""A turn whose verdict is for it, at the gates on its artifacts: real checkpoints and exports, none of them trained."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, make
from k2model.cli.line import what
from k2model.continual import anneal, turn_gates
from k2model.continual import turn as turns
from k2model.continual.entries import Arrival, Contradiction, Promote, Start, TurnBegan, TurnEnded, ending
from k2model.continual.fold import fold
from k2model.continual.ledger import Ledger
from k2model.continual.promotion import _description
from k2model.continual.state import Checked, Ended, Outcome, State
from k2model.continual.turn import Turn, commit
from k2model.continual.turn_gates import approved
from k2model.continual.verdict.comparison import compared_step
from k2model.lifecycle import LifecyclePlan
from k2model.plain import from_plain, to_plain
from k2model.recipe import Recipe
from tests.continual.compared import flips, nats, side
from tests.continual.samples import batch, began, kickoff
from tests.promotion.lifecycles import Home, Trained, recipe

LOST = 30  # answers that the challenger of a bad verdict has wrong


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told, and rows that were never packed are not counted."""
    for module in (turns, anneal):
        monkeypatch.setattr(module, "told", lambda line, uri, said: said)
    monkeypatch.setattr(turns, "seen_after", lambda *_: {})


def asked(**promotion: object) -> Recipe:
    return recipe(**{"parity": 0.001, **promotion})


def verdict(home: Home, lost: int = 2, annealed: bool = False) -> ArtifactRef:
    right, new = flips(64, 40, 2, lost), ({"facts": nats(2.0, 24, 7)}, {"facts": nats(2.0, 24, 7, -0.2)})
    sides = [side(home.store, f"{name} {lost}", {"arithmetic/low": right[at]}, new=new[at])
             for at, name in enumerate(("champion", "challenger"))]  # fmt: skip
    config = replace(recipe().continual, default_loss=0.3)
    return make(home.store, compared_step(home.store, *sides, config, annealed=annealed))


def trained_on(home: Home, own: Recipe, champion: Trained, challenger: Trained, *batches: str) -> tuple[Turn, dict]:
    """A turn of a line, or without batches an anneal, of which all is made but the verdict."""
    first = replace(home.model(champion, 1), corpora=("lifecycle",))
    state = home.ledger.append("start", Start(first, home.line.corpus), after=0)
    about = began(1 if batches else 0, *batches)
    for name in batches:
        arrival = replace(batch(home.store, name), corpus=replace(home.line.corpus, name=name))
        state = home.ledger.append("arrival", Arrival(kickoff(0), arrival), after=state)
        state = home.ledger.append("turn_began", TurnBegan(about), after=state)
    uri, refs = home.store.uri, challenger.refs
    plans = [LifecyclePlan(one, uri) for one in (own, replace(own, phases=(challenger.phase,)))]
    made = {f"sft/{kind}": refs[kind] for kind in ("sequences", "checkpoint", "export")}
    made |= {"corpus_valid": refs["corpus"], "tokens": home.line.corpus.tokens, "tokenizer": home.line.tokenizer}
    return Turn(about.turn, about.kickoff, "tuned", "", *plans, about), made | {"challenger/scores": refs["scores"]}


def ended(home: Home, own: Recipe, champion: Trained, challenger: Trained, lost: int = 2) -> Ended:
    """How the turn ends, by the entry that ends it."""
    turn, made = trained_on(home, own, champion, challenger, "monday")
    commit(turn, {**made, "verdict": verdict(home, lost)}, "")
    *_, entry = home.ledger.entries()
    assert isinstance(entry.content, TurnEnded)
    return entry.content.ended


def told(found: Ended) -> dict[str, bool]:
    return {one.gate: one.passed for one in found.gates}


def exported(one: Trained, other: Trained) -> Trained:
    """With the export of another."""
    return Trained(one.phase, {**one.refs, "export": other.refs["export"]})


def test_a_promoted_turn_has_shown_its_artifacts_and_they_stand_in_its_entry(
    home: Home, trained: dict[str, Trained]
) -> None:
    found = ended(home, asked(), trained["good"], trained["other"])
    assert found.outcome is Outcome.PROMOTED and found.reason.startswith("better: loss/facts@new")
    assert told(found) == {"parity": True, "provenance": True, "manifests": True}
    state = home.ledger.state()
    assert state.champion == 1 and state.turns[0].gates == found.gates and home.ledger.verify().entries == 4
    *_, entry = home.ledger.entries()
    assert what(entry.content).endswith("; parity passed, provenance passed, manifests passed")
    said = _description(state, state.turns[0], None, "", "")
    assert "- passed: parity, at the end of" in said and "- passed: manifests, checkpoint, export, scores" in said


def test_one_that_its_verdict_is_against_is_asked_no_more(home: Home, trained: dict[str, Trained]) -> None:
    found = ended(home, asked(), trained["good"], exported(trained["other"], trained["ruined"]), LOST)
    assert found.outcome is Outcome.REFUSED and found.gates == () and "arithmetic/low" in found.reason


def test_an_export_that_says_something_else_than_its_checkpoint_is_refused(
    home: Home, trained: dict[str, Trained]
) -> None:
    found = ended(home, asked(), trained["good"], exported(trained["other"], trained["ruined"]))
    assert found.outcome is Outcome.REFUSED and told(found) == {"parity": False, "provenance": True, "manifests": True}
    assert found.reason.startswith("parity: at the end of") and "at most 0.001 is allowed" in found.reason
    state = home.ledger.state()
    assert (state.champion, state.batches["monday"].standing.value, state.batches["monday"].tries) == (0, "waiting", 1)


def test_files_that_are_not_those_of_their_manifest_are_refused(home: Home, trained: dict[str, Trained]) -> None:
    weights = Path(trained["other"].refs["checkpoint"].uri, "final/rank-00000-of-00001.safetensors")
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        found = ended(home, asked(), trained["good"], trained["other"])
    finally:
        weights.write_bytes(whole)
    assert found.outcome is Outcome.REFUSED and told(found) == {"parity": False, "provenance": True, "manifests": False}
    assert "rank-00000-of-00001.safetensors" in found.reason and home.ledger.state().champion == 0


def test_code_of_no_clean_commit_waits_for_a_person_who_says_who_and_why(
    home: Home, trained: dict[str, Trained]
) -> None:
    own = asked()
    found = ended(home, own, trained["good"], trained["dirty"])
    assert found.outcome is Outcome.HELD and told(found) == {"parity": True, "provenance": False, "manifests": True}
    assert "made by code that differs from its commit" in found.reason
    assert "(k2 promote 1 --by NAME --why TEXT)" in found.reason and "By its verdict better:" in found.reason
    ledger, state = home.ledger, home.ledger.state()
    for who, why in (("", "in a hurry"), ("ann", " ")):
        with pytest.raises(Contradiction, match="turn 1 is promoted, and did not pass provenance: sft: made by"):
            ledger.append("promote", approved(home.store, own, state, 1, why, who), after=state)
    state = ledger.append("promote", approved(home.store, own, state, 1, "a notebook", "ann"), after=state)
    *_, entry = ledger.entries()
    assert isinstance(entry.content, Promote) and entry.content.who == "ann"
    assert [one.gate for one in entry.content.gates if one.waived] == ["provenance"]
    assert (state.champion, state.turns[0].outcome) == (1, Outcome.PROMOTED)
    assert what(entry.content).endswith("a notebook; parity passed, provenance waived, manifests passed")


def test_the_code_that_a_champion_was_made_by_was_asked_when_it_became_the_champion(
    home: Home, trained: dict[str, Trained]
) -> None:
    from_dirty = home.trained(8, True, parent=trained["dirty"])
    assert told(ended(home, asked(), trained["dirty"], from_dirty))["provenance"]
    assert not home.judged(asked(), from_dirty, 9).gates[-2].passed, "a lifecycle is asked of all of it"


def test_what_nobody_has_measured_waits_for_who_can(
    home: Home, trained: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, challenger = asked(provenance=False), home.trained(9, True)
    monkeypatch.setattr("k2model.continual.verdict.artifact_gates.measured_in_place", lambda _: False)
    found = ended(home, own, trained["good"], challenger)
    assert found.outcome is Outcome.HELD and "k2 promote 1 --measure does it" in found.reason
    ledger, state = home.ledger, home.ledger.state()
    with pytest.raises(Contradiction, match="did not pass parity: not measured"):
        ledger.append("promote", approved(home.store, own, state, 1, "well", "ann"), after=state)
    assert ledger.append("promote", approved(home.store, own, state, 1, "", "", True), after=state).champion == 1


def test_what_is_damaged_while_a_turn_waits_is_not_promoted(
    home: Home, trained: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = asked()
    ended(home, own, trained["good"], trained["dirty"])
    broken = Checked("manifests", False, "it is not whole")
    monkeypatch.setattr(turn_gates, "artifact_gates", lambda _: [broken])
    state = home.ledger.state()
    with pytest.raises(Contradiction, match=r"did not pass provenance.*manifests: it is not whole"):
        home.ledger.append("promote", approved(home.store, own, state, 1, "well", "ann"), after=state)


def test_killed_before_its_entry_a_turn_ends_by_the_same_bytes(
    home: Home, trained: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, made = trained_on(home, asked(), trained["good"], trained["dirty"], "monday")
    made, begun = {**made, "verdict": verdict(home)}, Path(home.store.uri, "_continual")
    shutil.copytree(begun, begun.with_name("begun"))
    commit(turn, made, "")
    calm = (begun / "line/ledger/00000004.json").read_bytes()
    shutil.rmtree(begun)
    begun.with_name("begun").rename(begun)
    append = Ledger.append

    def killed(*_: object, **__: object) -> State:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        commit(turn, made, "")
    monkeypatch.setattr(Ledger, "append", append)
    commit(turn, made, "")
    commit(turn, made, "")
    assert (begun / "line/ledger/00000004.json").read_bytes() == calm and home.ledger.state().entries == 4


@pytest.mark.parametrize(
    ("outcome", "gate", "said"),
    [
        (Outcome.PROMOTED, Checked("parity", False, "apart"), "turn 1 is promoted, and did not pass parity"),
        (Outcome.PROMOTED, Checked("provenance", False, "dirty"), "turn 1 is promoted, and did not pass provenance"),
        (Outcome.PROMOTED, Checked("provenance", False, "dirty", waived=True), "did not pass provenance"),
        (Outcome.HELD, Checked("parity", False, "apart"), "turn 1 is held, and did not pass parity"),
        (Outcome.HELD, Checked("manifests", False, "torn", waived=True), "turn 1 is held, and did not pass manifests"),
    ],
)
def test_a_forged_end_of_a_turn_is_no_entry(
    home: Home, trained: dict[str, Trained], outcome: Outcome, gate: Checked, said: str
) -> None:
    turn, made = trained_on(home, asked(), trained["good"], trained["other"], "monday")
    state = home.ledger.state()
    forged = Ended(1, kickoff(1), outcome, "so", ("monday",), turns.challenger_of(turn, made), verdict(home), 9)
    with pytest.raises(Contradiction, match=said):
        home.ledger.append("turn_ended", ending(state, replace(forged, gates=(gate,)), 2), after=state)
    assert fold(state, [ending(state, forged, 2)]).turns, "of turns before there were gates nothing is asked"


def test_a_forged_yes_is_no_entry(home: Home, trained: dict[str, Trained]) -> None:
    ended(home, asked(), trained["good"], trained["dirty"])
    state = home.ledger.state()
    waived = Checked("provenance", False, "dirty", waived=True)
    for forged, said in (
        (Promote(1, "well", "ann"), "did not pass provenance"),
        (Promote(1, "", "ann", (waived,)), "let pass without provenance, and nobody says who does so and why"),
        (Promote(1, "well", "ann", (waived, replace(waived, gate="parity"))), "without parity, which nobody can do"),
        (Promote(1, "well", "ann", (waived, Checked("manifests", False, "torn"))), "did not pass manifests: torn"),
    ):
        with pytest.raises(Contradiction, match=said):
            fold(state, [forged])
    assert fold(state, [Promote(1, "well", "ann", (waived,))]).champion == 1


def test_behind_a_turn_with_gates_there_is_none_without(home: Home, trained: dict[str, Trained]) -> None:
    ended(home, asked(), trained["good"], trained["other"])
    arrival = replace(batch(home.store, "tuesday"), corpus=replace(home.line.corpus, name="tuesday"))
    state = fold(home.ledger.state(), [Arrival(kickoff(1), arrival), TurnBegan(began(2, "tuesday", champion=1))])
    model = replace(state.models[1], turn=2)
    bare = Ended(2, kickoff(2), Outcome.PROMOTED, "so", ("tuesday",), model, state.turns[0].verdict, 9)
    with pytest.raises(Contradiction, match="turn 2 is promoted without a gate on its artifacts, to which"):
        fold(state, [ending(state, bare, 2)])
    assert fold(state, [ending(state, replace(bare, gates=state.turns[0].gates), 2)]).champion == 2


def test_what_was_written_before_there_were_gates_is_read(home: Home, trained: dict[str, Trained]) -> None:
    found = ended(home, asked(), trained["good"], trained["other"])
    plain = json.loads(json.dumps(to_plain(found)))
    del plain["gates"]
    assert from_plain(Ended, plain, home.store.uri) == replace(found, gates=())
    assert from_plain(Promote, {"turn": 1, "reason": "", "who": ""}) == Promote(1)


def annealing(home: Home, own: Recipe, champion: Trained, challenger: Trained) -> State:
    turn, made = trained_on(home, own, champion, challenger)
    anneal.enter(turn, {**made, "verdict": verdict(home, annealed=True)}, "")
    return home.ledger.state()


def test_an_anneal_that_does_not_pass_is_not_released(home: Home, trained: dict[str, Trained]) -> None:
    own = asked(provenance=False)
    state = annealing(home, own, trained["good"], exported(trained["other"], trained["ruined"]))
    found = state.anneals[0]
    assert found.ended.outcome is Outcome.REFUSED and found.ended.reason.startswith("parity: at the end of")
    assert found.ended.released == "refused for its artifacts, and its champion is released as it stands"
    with pytest.raises(Contradiction, match="turn 0's model is released, and did not pass parity"):
        fold(state, [replace(found, ended=replace(found.ended, outcome=Outcome.ANNEALED))])


def test_an_anneal_that_passes_is_released(home: Home, trained: dict[str, Trained]) -> None:
    found = annealing(home, asked(), trained["good"], trained["other"]).anneals[0].ended
    assert found.outcome is Outcome.ANNEALED and all(told(found).values()) and len(found.gates) == 3
