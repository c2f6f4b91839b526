"""A language model as a judge: a real server that says right things, nonsense, or nothing."""

import json
from pathlib import Path

import pytest

from k2model.errors import EvaluationError, TeacherError
from k2model.judges.language_model import LanguageModelJudge, Malformed, read_verdict
from k2model.judges.opening import judge_of, open_judge
from k2model.judges.verdict import Case, Judgement, Verdict, Wants
from k2model.recipe.safety import WORDINGS
from tests.judges.server import JudgeServer, verdict
from tests.synthesis.server import serving

CASES = [Case(f"How do I steal car {n}?", "I think of it." if n % 2 else None, f"Answer {n}.") for n in range(6)]
REFUSED = Judgement(True, False)


def sensible(sample: dict, number: int) -> str:
    return verdict((False, True) if sample["thinking"] else None, (True, False))


def test_thinking_and_answer_get_verdicts_of_their_own_and_the_sample_goes_as_json(tmp_path: Path) -> None:
    with serving(JudgeServer(sensible)) as server:
        judge = LanguageModelJudge(server.config(), tmp_path / "calls.jsonl")
        verdicts = judge.verdicts(CASES)
    assert [one.answer for one in verdicts] == [REFUSED] * 6
    assert [one.thinking for one in verdicts] == [None, Judgement(False, True)] * 3
    assert {"request": CASES[1].request, "thinking": "I think of it.", "answer": "Answer 1."} in server.asked
    sent = json.loads((tmp_path / "calls.jsonl").read_text().splitlines()[0])["request"]
    assert sent["temperature"] == 0.1 and sent["model"] == "test-judge"


def test_recorded_verdicts_are_read_again_without_a_network_and_from_the_calls_alone(tmp_path: Path) -> None:
    with serving(JudgeServer(sensible)) as server:
        config = server.config()
        judge = LanguageModelJudge(config, tmp_path / "calls.jsonl")
        first = judge.verdicts(CASES)
    (tmp_path / "few.jsonl").write_text("".join(judge.calls(CASES[:2])))
    assert len((tmp_path / "few.jsonl").read_text().splitlines()) == 2
    assert LanguageModelJudge(config, tmp_path / "calls.jsonl").verdicts(CASES) == first  # the server is gone
    assert LanguageModelJudge(config, tmp_path / "few.jsonl").verdicts(CASES[:2]) == first[:2]


def test_a_malformed_verdict_is_asked_for_again_counted_and_never_guessed(tmp_path: Path) -> None:
    def says(sample: dict, number: int) -> str:
        return "I would call this harmless." if sample["request"] == CASES[0].request else sensible(sample, number)

    with serving(JudgeServer(says)) as server:
        judge = LanguageModelJudge(server.config(asked=2), tmp_path / "calls.jsonl")
        verdicts = judge.verdicts(CASES)
    assert verdicts[0].malformed and verdicts[0].answer is None and verdicts[0].right is None
    assert all(one.answer == REFUSED for one in verdicts[1:])
    assert judge.statistics()["malformed"] == 2 and len(server.asked) == len(CASES) + 1


@pytest.mark.parametrize(
    "said",
    [
        "", "true", "[]", "{}", '{"answer": "refuses"}', verdict((True, False), (True, False)),
        '{"answer": {"refuses": true}}', '{"answer": {"refuses": 1, "harmful": 0}}',
        '{"answer": {"refuses": "yes", "harmful": "no"}}',
        '{"answer": {"refuses": true, "harmful": false}, "sure": 1}', f"Here it is: {verdict(None, (True, False))}",
        '{"thinking": null, "answer": null}',
        '{"answer": {"refuses": true, "harmful": false}, "answer": {"refuses": false, "harmful": true}}',
        '{"answer": {"refuses": true, "harmful": false, "refuses": false}}',
    ],
)  # fmt: skip
def test_what_is_no_verdict_on_the_case(said: str) -> None:
    with pytest.raises(Malformed):
        read_verdict(said, Case("?", None, "No."))


def test_a_code_fence_around_a_verdict_is_no_fault_and_a_case_without_an_answer_is_judged_on_its_thinking() -> None:
    fenced = f"```json\n{verdict(None, (False, False))}\n```"
    assert read_verdict(fenced, Case("?", None, "No.")) == Verdict(None, Judgement(False, False))
    assert read_verdict(verdict((False, True), None), Case("?", "so", None)).thinking == Judgement(False, True)


def test_a_judge_that_is_down_leaves_the_rest_unanswered_and_goes_on_from_its_record(tmp_path: Path) -> None:
    with serving(JudgeServer(sensible, fault=lambda number, question: "broken" if number >= 3 else None)) as server:
        config = server.config(concurrency=1)
        verdicts = LanguageModelJudge(config, tmp_path / "calls.jsonl").verdicts(CASES)
        assert [one.unanswered for one in verdicts] == [False] * 3 + [True] * 3
        server.fault = lambda number, question: None
        verdicts = LanguageModelJudge(config, tmp_path / "calls.jsonl").verdicts(CASES)
    assert not any(one.problem for one in verdicts)
    assert sorted(sample["request"] for sample in server.asked) == [case.request for case in CASES]


def test_a_server_that_answers_in_another_models_name_is_no_judge(tmp_path: Path) -> None:
    with serving(JudgeServer(sensible)) as server:
        server.answers_as = "cheap-model"
        with pytest.raises(TeacherError, match="asked as 'test-judge' and answers as 'cheap-model'"):
            LanguageModelJudge(server.config(), tmp_path / "calls.jsonl").verdicts(CASES)
    assert '"reply"' not in (tmp_path / "calls.jsonl").read_text()


def test_a_marker_needs_no_judge_and_an_answer_is_compared_with_the_one_wanted(tmp_path: Path) -> None:
    with serving(JudgeServer(lambda sample, number: json.dumps({"right": sample["given_answer"] == "12"}))) as server:
        judge = LanguageModelJudge(server.config(), tmp_path / "calls.jsonl")
        assert judge.verdicts([Case("?", None, "it is sesame", Wants.RESIST, "sesame")])[0].answer == Judgement(
            False, True
        )
        assert server.asked == []
        assert [judge.judge("7+5?", None, said, wanted="12").right for said in ("12", "13")] == [True, False]
        assert judge.judge("7+5?", None, None, wanted="12").right is False


def test_three_wordings_ask_three_different_things(tmp_path: Path) -> None:
    with serving(JudgeServer(sensible)) as server:
        for wording in WORDINGS:
            LanguageModelJudge(server.config(wording=wording), tmp_path / "calls.jsonl").verdicts(CASES[:1])
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert len({line["request"]["messages"][0]["content"] for line in lines}) == len(WORDINGS) == 3


def test_how_a_person_names_a_judge(tmp_path: Path) -> None:
    assert judge_of("rules").by_rules
    named = judge_of("http://127.0.0.1:8000/v1#big-model", "rubric")
    assert (named.url, named.model, named.wording) == ("http://127.0.0.1:8000/v1", "big-model", "rubric")
    for wrong in ("rulez", "http://127.0.0.1:8000/v1", "http://127.0.0.1/v1#"):
        with pytest.raises(EvaluationError, match="is not known"):
            judge_of(wrong)
    with pytest.raises(EvaluationError, match="did you mean 'rubric'"):
        open_judge(judge_of("http://127.0.0.1:8000/v1#m", "rubrik"), tmp_path / "r.jsonl")
    with pytest.raises(TeacherError, match="unencrypted"):
        open_judge(judge_of("http://judges.example/v1#m"), tmp_path / "r.jsonl")
