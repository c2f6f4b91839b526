"""What becomes of lifecycles' models at their gates, by real models that know their sums or know nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2model.continual.entries import Contradiction
from k2model.continual.ledger import LedgerMoved
from k2model.continual.state import Judged, Outcome
from k2model.continual.verdict.comparison import PAGE, read_verdict
from k2model.errors import CorruptArtifact
from k2model.promotion import decide
from k2model.promotion.decide import Person
from k2model.promotion.gates import NotPromotable
from k2model.promotion.names import judged_called, turn_called
from k2model.recipe.schema import GateConfig
from tests.promotion.lifecycles import GATE, Home, Trained, recipe

ANN = Person("ann", "looked at 50 answers")
EASY = GateConfig("sft", "arithmetic/low", 0.0)  # that any model passes


def told(judged: Judged) -> dict[str, bool]:
    return {one.gate: one.passed for one in judged.gates}


def said(judged: Judged, gate: str) -> str:
    return next(one.said for one in judged.gates if one.gate == gate)


def test_the_first_of_a_line_says_that_it_had_no_champion_beside_it(home: Home, trained: dict[str, Trained]) -> None:
    first = home.judged(recipe(), trained["good"], 3)
    assert (first.outcome, first.champion, first.verdict) == (Outcome.PROMOTED, None, None)
    assert [*told(first)] == [
        "arithmetic/low", "gates of phases before", "capability", "safety", "contamination", "provenance", "manifests",
    ]  # fmt: skip
    assert "the first of its line" in said(first, "capability") and first.reason.endswith("the first of its line")
    state = home.ledger.state()
    assert (state.champion, state.model.version, state.begun) == (0, 3, False)
    assert home.ledger.verify().lost == ()


def test_a_ruined_model_is_refused_beside_the_champion_with_gates_and_without(
    home: Home, trained: dict[str, Trained]
) -> None:
    home.judged(recipe(), trained["good"], 3)
    weak = home.judged(replace(recipe(), gates=(EASY,)), trained["ruined"], 4)
    assert weak.outcome is Outcome.REFUSED and told(weak)["arithmetic/low"] and not told(weak)["capability"]
    assert "against sft@3 arithmetic/low 1.000 → 0.000" in said(weak, "capability")
    rows = {row.score: row for row in read_verdict(home.store, weak.verdict).rows}
    assert (rows["arithmetic/low"].champion, rows["arithmetic/low"].challenger) == (1.0, 0.0)
    assert "loss/knowledge" in rows and b"sft@3" in home.store.read(weak.verdict, PAGE)
    without = home.judged(replace(recipe(), gates=()), trained["ruined"], 4)
    assert without.outcome is Outcome.REFUSED and "no gate is declared on phase sft" in without.reason
    lone = home.judged(replace(recipe(), gates=()), trained["other"], 5)
    assert lone.outcome is Outcome.REFUSED and lone.reason.startswith("scores: no gate is declared"), "good as it is"
    assert home.ledger.state().model.version == 3
    with pytest.raises(Contradiction, match="did not pass capability"):
        state = home.ledger.state()
        bad = replace(weak, outcome=Outcome.PROMOTED, model=replace(weak.model, turn=-1), champion=0)
        home.ledger.append("judged", bad, after=state)
    with pytest.raises(Contradiction, match="without one nothing is promoted"):
        home.ledger.append("judged", replace(bad, gates=()), after=state)


def test_one_that_is_no_worse_takes_its_place_and_the_same_is_not_decided_twice(
    home: Home, trained: dict[str, Trained], caplog: pytest.LogCaptureFixture
) -> None:
    own = recipe()
    home.judged(own, trained["good"], 3)
    second = home.judged(own, trained["other"], 4)
    assert second.outcome is Outcome.PROMOTED and second.reason == "7 gates passed; no worse than sft@3"
    state = home.ledger.state()
    assert (state.champion, state.before, state.entries) == (-1, (0,), 2)
    for name, version in (("good", 3), ("other", 4)):  # old settings again, and new ones
        home.judged(own, trained[name], version)
    assert home.ledger.state() == state
    home.judged(own, trained["ruined"], 5)
    home.judged(own, trained["ruined"], 5)
    assert home.ledger.state().entries == 3
    stricter = replace(own, gates=(GATE, GateConfig("sft", "arithmetic/high", 0.99)))
    home.judged(stricter, trained["ruined"], 5)
    assert home.ledger.state().entries == 4, "other gates, another judgement"
    home.judged(stricter, trained["other"], 4)
    assert home.ledger.state().entries == 4 and home.ledger.state().model.version == 4
    assert "sft@4 is the champion and does not pass arithmetic/high (0.000, at least 0.99 is asked)" in caplog.text


def test_a_person_brings_an_old_champion_back_and_rolls_back(home: Home, trained: dict[str, Trained]) -> None:
    own = recipe()
    home.judged(own, trained["good"], 3)
    home.judged(own, trained["other"], 4)
    with pytest.raises(NotPromotable, match="sft@4 is the champion of line 'line' already"):
        decide.promote(home.store, own, home.ledger, judged_called(home.ledger.state(), "sft@4"), ANN)
    state, found = decide.promote(home.store, own, home.ledger, judged_called(home.ledger.state(), "@3"), ANN)
    assert (found.outcome, found.who, found.why) == (Outcome.PROMOTED, "ann", "looked at 50 answers")
    assert (state.champion, state.before, state.model.version) == (-2, (0, -1), 3)
    assert turn_called(state, "sft@4") == -1 and turn_called(state, "sft@3") == -2
    state = home.ledger.append("rollback", {"to": -1, "reason": "on reflection", "who": "ann"}, after=state)
    assert (state.champion, state.before, state.model.version) == (-1, (0,), 4)
    with pytest.raises(NotPromotable, match="did you mean 'sft@3'"):
        judged_called(state, "sft@33")


def test_who_is_second_of_two_at_once_is_told(home: Home, trained: dict[str, Trained]) -> None:
    own = recipe()
    home.judged(own, trained["good"], 3)
    home.judged(replace(own, gates=(GateConfig("sft", "arithmetic/high", 2.0, maximum=3.0),)), trained["other"], 4)
    home.judged(replace(own, gates=(GateConfig("sft", "arithmetic/high", 2.0, maximum=3.0),)), trained["told some"], 5)
    ledger, state = home.ledger, home.ledger.state()
    decided = [
        decide.judged(home.store, own, trained[name].phase, home.model(trained[name], version),
                      decide.before_in(judged_called(state, f"@{version}")), state, ANN)
        for name, version in (("other", 4), ("told some", 5))
    ]  # fmt: skip
    assert [one.outcome for one in decided] == [Outcome.PROMOTED] * 2
    ledger.append("judged", decided[0], after=state)
    with pytest.raises(LedgerMoved, match="another process wrote meanwhile"):
        home.ledger.append("judged", decided[1], after=state)
    assert home.ledger.state().model.version == 4


def test_a_lifecycle_that_is_overtaken_is_judged_beside_the_new_champion(
    home: Home, trained: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, real = recipe(), decide.judged
    home.judged(own, trained["good"], 3)

    def slow(*args, **kwargs) -> Judged:
        found = real(*args, **kwargs)
        monkeypatch.setattr(decide, "judged", real)
        home.judged(own, trained["other"], 4)
        return found

    monkeypatch.setattr(decide, "judged", slow)
    late = home.judged(own, trained["told some"], 5)
    assert late.outcome is Outcome.PROMOTED and late.reason.endswith("no worse than sft@4")


def test_code_of_no_clean_commit_passes_by_a_recorded_waiver_alone(home: Home, trained: dict[str, Trained]) -> None:
    own = recipe()
    dirty, outside = home.judged(own, trained["dirty"], 3), home.judged(own, trained["outside"], 4)
    assert "sft: made by code that differs from its commit" in said(dirty, "provenance")
    assert "made outside of a git checkout" in said(outside, "provenance")
    assert [one.outcome for one in (dirty, outside)] == [Outcome.REFUSED] * 2
    with pytest.raises(NotPromotable, match="gate arithmetic/low cannot be waived, expected provenance"):
        decide.promote(home.store, own, home.ledger, dirty, replace(ANN, waive=frozenset({"arithmetic/low"})))
    _, still = decide.promote(home.store, own, home.ledger, dirty, ANN)
    assert still.outcome is Outcome.REFUSED
    state, found = decide.promote(home.store, own, home.ledger, dirty, replace(ANN, waive=frozenset({"provenance"})))
    assert found.reason == "6 gates passed, provenance waived; the first of its line"
    kept = [*home.ledger.entries()][-1].content
    assert [one.gate for one in kept.gates if one.waived] == ["provenance"]
    assert (kept.who, kept.why, state.model.version) == (ANN.who, ANN.why, 3)
    assert home.judged(recipe(provenance=False), trained["outside"], 4).outcome is Outcome.PROMOTED


def test_a_recipe_may_ask_for_a_person(home: Home, trained: dict[str, Trained]) -> None:
    own = recipe(approve=True)
    held = home.judged(own, trained["good"], 3)
    assert held.outcome is Outcome.HELD and home.ledger.state().champion is None
    home.judged(own, trained["good"], 3)
    assert home.ledger.state().entries == 1
    state, found = decide.promote(home.store, own, home.ledger, held, ANN)
    assert found.outcome is Outcome.PROMOTED and state.model.version == 3
    second = home.judged(own, trained["other"], 4)
    state = decide.decline(home.ledger, second, Person("ann", "it swears"))
    assert state.model.version == 3 and state.judged[second.digest].reason == "declined: it swears"
    with pytest.raises(NotPromotable, match="sft@4 does not wait for a person: it is refused"):
        decide.decline(home.ledger, state.judged[second.digest], ANN)
    home.judged(own, trained["other"], 4)
    assert home.ledger.state() == state, "a lifecycle that is run again does not ask again"


def test_items_that_were_trained_on_do_not_pass_a_gate(home: Home, trained: dict[str, Trained]) -> None:
    own = recipe()
    all_of_them = home.judged(own, trained["told"], 3)
    assert all_of_them.outcome is Outcome.REFUSED
    assert said(all_of_them, "contamination") == (
        "it was trained on 8 of 8 items of arithmetic/low; without them not passed: arithmetic/low"
    )
    some = home.judged(own, trained["told some"], 4)
    assert some.outcome is Outcome.PROMOTED
    assert said(some, "contamination").endswith("2 of 8 items of arithmetic/low; the gates are passed without them")
    assert home.judged(recipe(contamination=False), trained["told"], 3).outcome is Outcome.PROMOTED


def test_damaged_files_are_not_promoted(home: Home, trained: dict[str, Trained]) -> None:
    weights = Path(trained["good"].refs["export"].uri, "model.safetensors")
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1])
    try:
        with pytest.raises(CorruptArtifact):
            home.store.fetch(trained["good"].refs["export"])
        found = home.judged(recipe(parity=0.001), trained["good"], 3)
    finally:
        weights.write_bytes(whole)
    assert found.outcome is Outcome.REFUSED and not told(found)["manifests"] and not told(found)["parity"]
    assert "model.safetensors" in said(found, "manifests")


def test_what_a_recipe_does_not_ask_is_not_decided(home: Home, trained: dict[str, Trained]) -> None:
    own = replace(recipe(capability=False, provenance=False, contamination=False), gates=(EASY,))
    home.judged(own, trained["good"], 3)
    ruined = home.judged(own, trained["ruined"], 4)
    assert ruined.outcome is Outcome.PROMOTED
    assert [*told(ruined)] == ["arithmetic/low", "gates of phases before", "safety", "manifests"]
    assert ruined.verdict is not None and read_verdict(home.store, ruined.verdict).failing, "shown beside all the same"


def test_another_tokenizer_begins_another_line(home: Home, trained: dict[str, Trained]) -> None:
    own = recipe()
    home.judged(own, trained["good"], 3)
    state, other = home.ledger.state(), home.model(trained["other"], 4)
    other = replace(other, made={**other.made, "tokenizer": replace(other.made["tokenizer"], digest="0" * 64)})
    before = decide.before_in(next(iter(state.judged.values())))
    found = decide.judged(home.store, own, trained["other"].phase, other, before, state)
    assert found.outcome is Outcome.REFUSED and "give its recipe another name" in said(found, "capability")
