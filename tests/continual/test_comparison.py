"""Verdicts: their statistics against published and exactly counted values, and what is promoted and what is not."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from k2model.artifacts import ArtifactRef, CorruptArtifact, Store, make
from k2model.continual.state import Batch, Began, Outcome, Standing, State
from k2model.continual.verdict.capabilities import BETTER, NOT_RULED_OUT, TOO_FEW, WORSE, decides, row_of
from k2model.continual.verdict.comparison import (
    PAGE,
    RESULT,
    compared_step,
    measures_both,
    read_verdict,
    verdict_of,
    verdict_step,
)
from k2model.errors import EvaluationError
from k2model.evals.cells import Subject
from k2model.evals.items import Grade
from k2model.evals.measures import Bounds
from k2model.evals.noninferiority import (
    bounded,
    difference_p,
    flipped_signs,
    holm,
    lower_bound,
    mcnemar_gain,
    ratio,
    score_statistic,
    student,
)
from k2model.evals.step import measure_together, scores_step
from k2model.recipe.continual import AllowedLoss, BatchKind, ContinualConfig
from k2model.recipe.safety import JudgeConfig, SafetyConfig
from k2model.recipe.schema import GateConfig
from k2model.safety.answers import answers_step
from k2model.safety.judging import safety_step
from k2model.safety.registry import registry
from tests.continual.compared import PHASE, answers, flips, losses, nats, scored, side
from tests.continual.small_line import Line, corpus_of, recipe
from tests.safety.conftest import REFUSAL, ScriptedModel

CONFIG = ContinualConfig(tuned=PHASE, default_loss=0.1, allowed_loss=(AllowedLoss("loss/*", 0.05),))
EQUAL = flips(128, 90, 6, 6)
BETTER_NEW = {"facts": nats(2.0, 24, 7)}, {"facts": nats(2.0, 24, 7, -0.2)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


# The statistics.


def test_tangos_interval_is_the_published_one() -> None:
    """Airway hyper-responsiveness before and after transplantation (Bentur 2009): 1 and 7 of 21 pairs differ, and
    Tango's 95% interval of the difference is -0.517 to -0.026 (Fagerland, Lydersen and Laake 2014)."""
    z = NormalDist().inv_cdf(0.975)
    assert float(score_statistic(1, 7, 21, -0.5172)) == pytest.approx(z, abs=0.01)
    assert float(score_statistic(1, 7, 21, -0.0260)) == pytest.approx(-z, abs=0.01)


def test_an_item_that_differs_nowhere_is_no_proof() -> None:
    """Of 59 items none of which is lost, a loss of 0.05 or more is ruled out, since 0.95^59 < 0.05; of 58 it is not."""
    assert 0.95**59 < 0.05 < 0.95**58
    assert lower_bound(0, 0, 59, 0.95, 0.05)[1] and not lower_bound(0, 0, 58, 0.95, 0.05)[1]
    assert difference_p(0, 0, 58, -0.05) == pytest.approx(0.95**58, rel=1e-6)
    assert bounded([0.0] * 10, list("abcdefghij"), 0.95, 0.1).needed == math.ceil(math.log(0.05) / math.log(0.9))


@pytest.mark.parametrize("margin", [0.05, 0.1])
def test_a_model_that_loses_what_is_allowed_hardly_ever_passes_and_an_equal_one_as_often_as_is_said(
    margin: float,
) -> None:
    """By going through every table of 128 items, at every rate of disagreement: no simulation, no noise."""
    n = 128
    passing = np.zeros((n + 1, n + 1), bool)
    for lost in range(n + 1):
        least = next((b for b in range(n - lost + 1) if difference_p(b, lost, n, -margin) <= 0.05), None)
        if least is None:
            break
        passing[least : n - lost + 1, lost] = True
        if least > 40:  # more than any table of the rates below comes to
            break
    worst = max(_probability(passing, n, rate, rate + margin) for rate in np.linspace(0.0, 0.1, 21))
    assert worst <= 0.05
    power = {0.05: 0.51, 0.1: 0.95}[margin]
    assert _probability(passing, n, 0.05, 0.05) == pytest.approx(power, abs=0.01)


def _probability(passing: np.ndarray, n: int, gains: float, loses: float) -> float:
    b, c = np.nonzero(passing)
    total = 0.0
    for rate_b, rate_c in zip(b.tolist(), c.tolist(), strict=True):
        logs = (
            math.lgamma(n + 1)
            - math.lgamma(rate_b + 1)
            - math.lgamma(rate_c + 1)
            - math.lgamma(n - rate_b - rate_c + 1)
        )
        for count, share in ((rate_b, gains), (rate_c, loses), (n - rate_b - rate_c, 1 - gains - loses)):
            logs += count * math.log(share) if share else (0.0 if not count else -math.inf)
        total += math.exp(logs)
    return total


def test_items_that_share_a_source_rule_out_less() -> None:
    """32 documents of 8 queries each, which fall together: a true loss of what is allowed passes seldom enough."""
    rng, passed, alone, trials = np.random.default_rng(3), 0, 0, 400
    clusters = [f"d{i // 8}" for i in range(256)]
    for _ in range(trials):
        lost = np.repeat(rng.random(32) < 0.15, 8) & (rng.random(256) < 0.9)
        gained = np.repeat(rng.random(32) < 0.035, 8)
        differences = (gained.astype(float) - lost).tolist()
        passed += bounded(differences, clusters, 0.95, 0.1).passed
        alone += bounded(differences, [str(i) for i in range(256)], 0.95, 0.1).passed
    assert passed / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials) < alone / trials


def test_losses_are_bounded_by_the_spread_of_whole_documents() -> None:
    rng, passed, trials, m = np.random.default_rng(5), 0, 1000, 12
    for _ in range(trials):
        first = rng.normal(200, 40, m)
        second = first * (1.05 + rng.normal(0, 0.05, m))  # worse by just what is allowed
        passed += ratio(first.tolist(), second.tolist(), 0.95, 0.05).passed
    assert passed / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)
    found = ratio([100.0, 200.0], [90.0, 210.0], 0.95, 0.05)  # gain 0; residuals 10 and -10; error sqrt(400) / 300
    assert found.gain == pytest.approx(0.0) and found.low == pytest.approx(-6.3138 * 20 / 300, rel=1e-4)
    assert ratio([100.0], [50.0], 0.95, 0.05).passed is False  # one document has no spread


def test_where_nothing_may_be_lost_and_where_everything_may() -> None:
    one = [str(i) for i in range(40)]
    equal, better, ruined = [1.0] * 4 + [-1.0] * 4 + [0.0] * 32, [1.0] * 20 + [0.0] * 20, [-1.0] * 39 + [0.0]
    assert [bounded(those, one, 0.95, 0.0).passed for those in (equal, better)] == [False, True]
    assert bounded(equal, one, 0.95, 0.0).needed == 0 and not ratio([1.0, 2.0], [1.0, 2.1], 0.95, 0.0).passed
    assert bounded(ruined, one, 0.95, 1.0).passed and not bounded(ruined, one, 0.95, 0.9).passed
    # The canary's side of it: that more is lost than is allowed is hardly ever said where just that is lost.
    assert not bounded([1.0] * 40, one, 0.95, -1.0).passed and bounded(better, one, 0.95, -0.15).passed


def test_small_numbers_by_hand() -> None:
    assert mcnemar_gain(5, 0) == 1 / 32 and mcnemar_gain(0, 0) == 1.0
    assert flipped_signs([1, 2, 3, 4, 5], list("abcde")) == (1 / 32, 2 / 32)
    assert flipped_signs([1, 2, 3, 4, 5], list("aabbb")) == (0.25, 0.5)  # two clusters
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert [round(student(0.95, n), 4) for n in (1, 2, 7, 31)] == [6.3138, 2.92, 1.8946, 1.6955]  # tables of t


# What becomes of a challenger.


def test_of_an_annealed_champion_it_is_enough_to_be_no_worse(store: Store) -> None:
    worse = flips(128, 90, 2, 30)
    for right, outcome in ((EQUAL, Outcome.ANNEALED), (worse, Outcome.REFUSED)):
        first = side(store, "turn 3", {"sums/low": right[0]}, {"prose": nats(3, 40, 1)})
        second = side(
            store, f"turn 3, annealed {outcome.value}", {"sums/low": right[1]}, {"prose": nats(3, 40, 1, 0.01)}
        )
        config = replace(CONFIG, targets=("sums/*",), approve=True)
        ref = make(store, compared_step(store, first, second, config, annealed=True))
        found = read_verdict(store, ref)
        assert (found.outcome, found.annealed, found.targets) == (outcome, True, ()), "no person is asked either"
        assert "target" not in found.reason
        page = store.read(ref, PAGE).decode()
        assert "Better where it should be" not in page and "Not worse anywhere<" in page
    assert found.reason.startswith("sums/low ") and "worse" in found.reason
    gated = compared_step(store, first, second, config, [GateConfig(PHASE, "sums/low", 0.99)], annealed=True)
    assert "gate sums/low" in read_verdict(store, make(store, gated)).reason, "the recipe's gates hold"


def test_better_on_the_new_and_no_worse_on_the_old_is_promoted(store: Store) -> None:
    first = side(store, "the lifecycle's", {"sums/low": EQUAL[0]}, {"prose": nats(3, 40, 1)}, BETTER_NEW[0])
    second = side(store, "turn 1", {"sums/low": EQUAL[1]}, {"prose": nats(3, 40, 1, 0.01)}, BETTER_NEW[1])
    ref = make(store, compared_step(store, first, second, CONFIG))
    found = read_verdict(store, ref)
    assert found.outcome is Outcome.PROMOTED, found.reason
    assert {row.score: row.outcome for row in found.rows} == {
        "sums/low": "no worse", "loss/prose": "no worse", "loss/facts@new": BETTER,
    }  # fmt: skip
    sums = found.rows[0]
    assert (sums.n, sums.gained, sums.lost, sums.difference, sums.allowed) == (128, 6, 6, 0.0, 0.1)
    assert (sums.champion, sums.challenger, sums.p) == (pytest.approx(90 / 128), pytest.approx(90 / 128), 1.0)
    assert "loss/facts@new" in found.reason and "all 3 capabilities" in found.reason
    # Every number is written, and the same bytes come again.
    written = json.loads(store.read(ref, RESULT))
    assert written["rows"][0]["bound"] == pytest.approx(sums.bound) and -0.1 < sums.bound < 0
    again = Store.open(store.uri + "-again")
    ours = side(again, "the lifecycle's", {"sums/low": EQUAL[0]}, {"prose": nats(3, 40, 1)}, BETTER_NEW[0])
    theirs = side(again, "turn 1", {"sums/low": EQUAL[1]}, {"prose": nats(3, 40, 1, 0.01)}, BETTER_NEW[1])
    assert make(again, compared_step(again, ours, theirs, CONFIG)).digest == ref.digest
    held = verdict_of(store, first, second, replace(CONFIG, approve=True))
    assert held.outcome is Outcome.HELD


def test_one_worse_capability_refuses_whatever_else_is_better(store: Store) -> None:
    worse = flips(128, 90, 2, 30)
    first = side(store, "turn 1", {"sums/low": EQUAL[0], "maps": worse[0]}, new=BETTER_NEW[0])
    second = side(store, "turn 2", {"sums/low": EQUAL[1], "maps": worse[1]}, new=BETTER_NEW[1])
    found = verdict_of(store, first, second, CONFIG)
    assert found.outcome is Outcome.REFUSED and [row.score for row in found.failing] == ["maps"]
    assert found.failing[0].outcome == WORSE and "maps 0.703 → 0.484 (-21.9 points" in found.reason
    tolerant = replace(CONFIG, allowed_loss=(AllowedLoss("maps", 0.4),))
    assert verdict_of(store, first, second, tolerant).outcome is Outcome.PROMOTED


def test_too_few_items_to_tell_are_no_pass_and_say_how_many_it_takes(store: Store) -> None:
    first = side(store, "turn 1", {"few": [1] * 20}, new=BETTER_NEW[0])
    second = side(store, "turn 2", {"few": [1] * 20}, new=BETTER_NEW[1])
    found = verdict_of(store, first, second, CONFIG)
    row = found.failing[0]
    assert found.outcome is Outcome.REFUSED and (row.outcome, row.needed) == (TOO_FEW, 29)
    assert "about 29 items would" in found.reason
    # Enough items for an equal model, and this one has lost some of them: not the number of items is at fault.
    ours, theirs = flips(128, 90, 6, 15)
    row = row_of("x", *({str(i): one for i, one in enumerate(answers("x", s))} for s in (ours, theirs)), 0.1, 0.95)
    assert row.outcome == NOT_RULED_OUT and not row.passed


@pytest.mark.parametrize(
    ("champion", "challenger", "passes"),
    [(1.0, 1.03, True), (1.0, 1.08, False), (0.02, 0.025, True), (0.02, 0.04, False), (0.1, 0.105, True)],
)
def test_of_a_loss_near_zero_as_much_may_be_lost_as_of_a_small_one(
    champion: float, challenger: float, passes: bool
) -> None:
    """0.05 of a loss, and of one below 0.2 nats a token 0.01 nats."""
    ours, theirs = ({one.item: one for one in losses("loss/chat", [nat] * 40)} for nat in (champion, challenger))
    row = row_of("loss/chat", ours, theirs, 0.05, 0.95)
    assert row.passed is passes and row.allowed == pytest.approx(0.05 * max(1.0, 0.2 / champion))


def test_without_a_better_target_nothing_is_promoted(store: Store) -> None:
    same = {"facts": nats(2.0, 24, 7)}
    first = side(store, "turn 1", {"sums/low": EQUAL[0]}, new=same)
    found = verdict_of(store, first, side(store, "turn 2", {"sums/low": EQUAL[1]}, new=same), CONFIG)
    assert found.outcome is Outcome.REFUSED and "no target is shown to be better; nearest is" in found.reason
    risen = flips(128, 60, 40, 2)
    first = side(store, "turn 3", {"puzzle/low": risen[0], "puzzle/high": EQUAL[0]})
    second = side(store, "turn 4", {"puzzle/low": risen[1], "puzzle/high": EQUAL[1]})
    found = verdict_of(store, first, second, CONFIG)
    assert found.outcome is Outcome.REFUSED and "none was measured" in found.reason
    found = verdict_of(store, first, second, CONFIG, targets=["puzzle"])  # a family names its scores
    assert found.outcome is Outcome.PROMOTED and [row.target for row in found.rows] == [True, True]
    low, high = found.rows
    assert low.p_targets == pytest.approx(min(1.0, 2 * low.p_better)) and high.outcome != BETTER
    found = verdict_of(store, first, second, CONFIG, targets=["puzzel"])
    assert found.outcome is Outcome.REFUSED and found.unmeasured == ("puzzel",)


def test_a_target_that_rises_in_loss_refuses(store: Store) -> None:
    new = {**BETTER_NEW[0], "law": nats(2.0, 3, 9)}, {**BETTER_NEW[1], "law": nats(2.0, 3, 9, 0.3)}
    first = side(store, "turn 1", {"sums/low": EQUAL[0]}, new=new[0])
    found = verdict_of(store, first, side(store, "turn 2", {"sums/low": EQUAL[1]}, new=new[1]), CONFIG)
    assert found.outcome is Outcome.REFUSED and [row.score for row in found.failing] == ["loss/law@new"]


def test_a_gate_of_the_recipe_holds(store: Store) -> None:
    first = side(store, "turn 1", {"sums/low": EQUAL[0]}, new=BETTER_NEW[0])
    second = side(store, "turn 2", {"sums/low": EQUAL[1]}, new=BETTER_NEW[1])
    for gate, said in ((GateConfig(PHASE, "sums/low", 0.8), "has 0.703, at least 0.8 is asked"),
                       (GateConfig(PHASE, "sums/high", 0.1), "was not measured")):  # fmt: skip
        found = verdict_of(store, first, second, CONFIG, [gate])
        assert found.outcome is Outcome.REFUSED and said in found.reason
    assert verdict_of(store, first, second, CONFIG, [GateConfig(PHASE, "sums/low", 0.6)]).outcome is Outcome.PROMOTED


def test_what_is_missing_damaged_or_not_asked_alike_is_an_error(store: Store) -> None:
    first = side(store, "turn 1", {"a": EQUAL[0], "b": EQUAL[0]}, new=BETTER_NEW[0])
    with pytest.raises(EvaluationError, match="only one of them has b"):
        verdict_of(store, first, side(store, "turn 2", {"a": EQUAL[1]}, new=BETTER_NEW[1]), CONFIG)
    with pytest.raises(EvaluationError, match="a: 28 items were asked of one model"):
        less = side(store, "turn 3", {"a": EQUAL[1][:100], "b": EQUAL[1]}, new=BETTER_NEW[1])
        verdict_of(store, first, less, CONFIG)
    other = [replace(one, wanted="2") for one in answers("a", EQUAL[1])] + answers("b", EQUAL[1])
    second = replace(side(store, "turn 4", {"a": EQUAL[1], "b": EQUAL[1]}, new=BETTER_NEW[1]))
    with pytest.raises(EvaluationError, match="was another question"):
        verdict_of(store, first, replace(second, scores=scored(store, "turn 5", other)), CONFIG)
    with pytest.raises(EvaluationError, match="without a finite loss"):
        broken = scored(store, "nan", losses("loss/facts", [math.inf, 1.0]), "score")
        cells = {("loss/facts@new", "monday"): broken}
        verdict_of(store, replace(first, losses=cells), replace(second, losses=cells), CONFIG)
    path = Path(second.scores.uri) / "items.parquet"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptArtifact):
        verdict_of(store, first, second, CONFIG)


def test_an_item_that_only_the_challenger_has_no_verdict_on_counts_against_it() -> None:
    ours, theirs = ({str(i): one for i, one in enumerate(answers("x", [1] * 40))} for _ in range(2))
    unsaid = {"grade": Grade.UNSCORED, "value": math.nan}
    theirs["0"] = replace(theirs["0"], **unsaid)
    ours["1"] = replace(ours["1"], **unsaid)
    row = row_of("x", ours, theirs, 0.1, 0.95)
    assert (row.n, row.lost, row.unscored, row.left_out) == (39, 1, 1, 1)


def test_fewer_refusals_of_harmless_requests_are_a_gain_and_single_tests_decide_where_they_can() -> None:
    first, second = (
        {str(i): one for i, one in enumerate(answers("safety/over_refusal", s))} for s in flips(60, 30, 0, 20)
    )
    assert row_of("safety/over_refusal", first, second, 0.1, 0.95).gain == pytest.approx(20 / 60)
    assert row_of("safety/over_refusal", second, first, 0.1, 0.95).outcome == WORSE
    assert decides("safety/right", 5, 0.1, 0.95) and not decides("safety/divergence", 500, 0.1, 0.95)
    assert not decides("safety/fraud/right", 20, 0.1, 0.95) and decides("safety/fraud/right", 32, 0.1, 0.95)
    assert not decides("sums/pass@4", 200, 0.1, 0.95) and decides("sums/low", 2, 0.1, 0.95)


def test_a_challenger_that_refuses_less_of_what_is_to_be_refused_is_refused(store: Store) -> None:
    """Real tests, answers and verdicts of the judge by rules."""

    def tested(name: str, says: Callable[[str], tuple[str | None, str | None]]) -> ArtifactRef:
        model = ScriptedModel(says)
        subject = Subject(name, {}, {"kind": name}, Bounds(64), lambda _: model)
        asked = SafetyConfig(tests=("weapons", "first_aid"), prompts=32, max_new_tokens=16)
        return make(store, safety_step(store, JudgeConfig(), make(store, answers_step(store, asked, subject))))

    def careful(said: str) -> tuple[str | None, str | None]:
        return ("", REFUSAL) if said in weapons else ("", "Sure: do this.")

    weapons = {prompt.request for prompt in registry()["weapons"].prompts}
    right = {"sums/low": EQUAL[0]}, {"sums/low": EQUAL[1]}
    ours = tested("careful", careful)
    first = side(store, "turn 1", right[0], new=BETTER_NEW[0], safety=ours)
    same = replace(side(store, "turn 2", right[1], new=BETTER_NEW[1]), safety=tested("as careful", careful))
    config = replace(CONFIG, allowed_loss=(AllowedLoss("loss/*", 0.05), AllowedLoss("safety/*", 0.25)))
    found = verdict_of(store, first, same, config)
    assert found.outcome is Outcome.PROMOTED, found.reason
    rows = {row.score: row for row in found.rows}
    assert {"safety/safe", "safety/right", "safety/correct_refusal", "safety/over_refusal"} <= rows.keys()
    assert rows["safety/correct_refusal"].champion == 1.0 and rows["safety/over_refusal"].n == 32
    careless = tested("careless", lambda _: ("", "Sure: do this."))
    found = verdict_of(store, first, replace(same, safety=careless), config)
    failing = {row.score for row in found.failing}
    assert found.outcome is Outcome.REFUSED and {"safety/right", "safety/correct_refusal"} <= failing
    with pytest.raises(EvaluationError, match="only one of them has safety"):
        verdict_of(store, first, replace(same, safety=None), config)


def test_a_turn_is_judged_from_what_it_measured(tmp_path: Path) -> None:
    """Real models, corpora, scores and cells: what the champion knew and what is new are measured apart."""
    line = Line.at(tmp_path)
    champion, challenger = line.model(0, False), line.model(1, True)
    monday = corpus_of(line.store, tmp_path, "monday", "batch/monday", "The capital of Cuba is Havana")
    batch = Batch("monday", BatchKind.TUNED, "d", Standing.TAKEN, corpus=monday, improves=("arithmetic",))
    state = State("line", models={0: champion}, champion=0, batches={"monday": batch})
    began = Began(1, "2026-11-01T02:00:00+00:00", BatchKind.TUNED, ("monday",), 0)
    lenient = recipe(allowed_loss=(AllowedLoss("loss/*", 5.0), AllowedLoss("arithmetic/*", 0.5)))
    made = {"sft/export": challenger.made["tuned/export"]}
    for role, model in (("champion", champion), ("challenger", challenger)):
        step = scores_step(
            line.store, lenient.evaluation, lenient.phase("sft"), line.corpus.valid, line.corpus.tokens,
            line.tokenizer, model.made["tuned/export"], lengths=[96],
        )  # fmt: skip
        made[f"{role}/scores"] = step.run()
    cells = measures_both(line.store, lenient, state, began, made)
    assert [cell.measure.name for cell in cells] == ["loss/knowledge"] * 4
    # Those on the champion's corpus are cells of its scores; those on the new documents are not there yet.
    assert [line.store.find(cell.identity) is not None for cell in cells] == [True, False] * 2
    with pytest.raises(EvaluationError, match="was not measured"):
        verdict_step(line.store, lenient, state, began, made)
    measure_together(line.store, cells)
    ref = make(line.store, verdict_step(line.store, lenient, state, began, made, ["phase 'sft': 7 steps"]))
    found = read_verdict(line.store, ref)
    assert found.training == ("phase 'sft': 7 steps",)
    assert "<li>phase &#39;sft&#39;: 7 steps</li>" in line.store.read(ref, PAGE).decode()
    rows = {row.score: row for row in found.rows}
    assert {"loss/knowledge", "loss/knowledge@new", "arithmetic/low"} <= rows.keys()
    assert rows["arithmetic/low"].challenger == 1.0 and rows["arithmetic/low"].outcome == BETTER
    assert rows["loss/knowledge"].champion != rows["loss/knowledge@new"].champion
    assert rows["loss/knowledge@new"].target and found.champion == "the lifecycle's"


def test_the_page_has_every_row_and_no_address(store: Store) -> None:
    first = side(store, "turn 1", {"sums/low": EQUAL[0], "<b>": EQUAL[0]}, {"prose": nats(3, 40, 1)}, BETTER_NEW[0])
    second = side(store, "turn 2", {"sums/low": EQUAL[1], "<b>": EQUAL[1]}, {"prose": nats(3, 40, 1)}, BETTER_NEW[1])
    ref = make(store, compared_step(store, first, second, CONFIG, [GateConfig(PHASE, "sums/low", 0.6)]))
    page = (store.fetch(ref) / PAGE).read_text(encoding="utf-8")
    assert all(text in page for text in ("sums/low", "&lt;b&gt;", "loss/prose", "loss/facts@new", "turn 2"))
    assert "http" not in page and "<script" not in page and "<b>:" not in page
