"""What hurts users of lm-evaluation-harness most, by the number of its issue: each does not happen here."""

import pytest
import torch
from lm_eval.api.instance import Instance

from k2model.evals.answers import Answers
from k2model.evals.backend import Prompt, Sampling
from k2model.evals.backends import OwnModel, TransformersModel
from k2model.evals.cells import measured
from k2model.evals.harness import HarnessModel, HarnessTask, measure_of, prepare, run, tasks_named
from k2model.evals.harness.asking import Prepared
from k2model.evals.harness.grading import last_letter
from k2model.evals.items import Grade, ItemResult
from k2model.evals.measures import Bounds
from k2model.recipe.evaluation import Mode
from tests.evals.harness.made_up import Scripted, write

CHOICES = ["Yes", "No"]


def asked(task: HarnessTask, backend: object, **more: object) -> list[ItemResult]:
    return prepare(task, **more).ask(backend, Answers())  # type: ignore[arg-type]


def test_3382_an_answer_is_not_read_from_thinking_that_never_ends() -> None:
    """The right number stands in the trace, and the trace is cut off."""
    task = tasks_named(["gsm8k_reasoning_base"])[0]
    (wanted,) = [one.wanted for one in asked(task, Scripted(), limit=1)]
    unclosed = Scripted(lambda prompt, sampling: f"\\boxed{{{wanted}}} or " * 10_000)
    (one,) = asked(task, unclosed, limit=1)
    assert (one.grade, one.value, one.answer) == (Grade.CUT_OFF, 0.0, None) and wanted in (one.trace or "")
    closed = Scripted(lambda prompt, sampling: f"\\boxed{{0}}</think>\\boxed{{{wanted}}}")
    assert asked(task, closed, limit=1)[0].right
    (answer,) = HarnessModel(unclosed, Mode.THINK).generate_until([request("q", max_gen_toks=50)])
    assert answer == ""  # whoever drives the harness themselves is not handed it either


def test_4145_no_item_is_among_its_own_examples(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task without a training split takes its examples from the split that is asked."""
    rows = [{"question": f"q{n}", "choices": CHOICES, "answer": n % 2} for n in range(6)]
    write(tmp_path / "cais/mmlu/anatomy", {"test": rows, "dev": rows})  # type: ignore[operator]
    monkeypatch.setenv("K2_EVAL_DATA", str(tmp_path))
    changes = {
        "fewshot_split": "dev", "fewshot_config": {"sampler": "default"}, "doc_to_choice": "choices",
        "doc_to_text": "{{question}} is:", "description": "",
    }  # fmt: skip
    for more in ({}, {"fewshot_config": {"sampler": "first_n"}}):
        task = HarnessTask("a", ("mmlu/default/mmlu_anatomy.yaml",), shots=5, metric="acc", changes=changes | more)
        backend = Scripted()
        assert len(asked(task, backend)) == 6
        for prompt, _ in backend.pairs:
            lines = prompt.text.strip().split("\n\n")
            assert len(lines) == len({line.partition(" is:")[0] for line in lines}) == 6


def request(context: str, **settings: object) -> Instance:
    return Instance("generate_until", {}, (context, settings), 0, ("t", 0, 1))


def test_3587_each_request_has_its_own_stops_and_none_ends_thinking(own: OwnModel) -> None:
    said = "one\n\ntwo Q three"
    model = HarnessModel(Scripted(lambda prompt, sampling: said))
    requests = [
        request("a", until=["\n\n"]),
        request("b", until=["Q"]),
        request("c", until=[]),
        request("d", until="t"),
    ]
    assert model.generate_until(requests) == ["one", "one\n\ntwo ", said, "one\n\n"]
    thinking = HarnessModel(Scripted(lambda prompt, sampling: "a\n\nb</think>c\n\nd"), Mode.THINK)
    assert thinking.generate_until([request("a", until=["\n\n"])]) == ["c"]
    real = HarnessModel(own, Mode.THINK)  # it has learnt to think "7-2=5"
    settings = {"until": ["2", "="], "max_gen_toks": 24}
    assert real.generate_until([request("Compute 7-2=", **settings)]) == ["5"]


def test_2498_scores_do_not_change_with_the_batch(folder: object, own: OwnModel) -> None:
    """Items of very different length, one by one and together, greedy and by likelihood."""
    tasks = [*tasks_named(["k2_base/bbh", "gsm8k"]), choices()]
    results = []
    for size in (1, 8, 32):
        backend = TransformersModel(folder, batch_size=size)  # type: ignore[arg-type]
        results.append([one for task in tasks for one in asked(task, backend, limit=2)])
    assert results[0] == results[1] == results[2]
    assert [one for task in tasks for one in asked(task, own, limit=2)] == results[0]


def choices() -> HarnessTask:
    """GSM8K as a choice between the answer and another, so that a task of likelihoods is on real items."""
    changes = {
        "output_type": "multiple_choice", "doc_to_choice": "{{[answer.split('#### ')[-1], '12345', 'none']}}",
        "doc_to_target": "{{0}}", "generation_kwargs": None, "filter_list": None,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    return HarnessTask("choices", ("gsm8k/gsm8k.yaml",), shots=2, metric="acc", changes=changes)


def test_2676_a_prompt_begins_with_one_bos(own: OwnModel, transformers_model: TransformersModel) -> None:
    bos = own.tokenizer.bos
    chat = HarnessModel(own).apply_chat_template([{"role": "user", "content": "Hi"}])
    for model in (HarnessModel(own), HarnessModel(transformers_model), HarnessModel(own, Mode.THINK)):
        for context in ("Question: 1+1?", "<|begin_of_text|>again", "", chat):
            prompt = model.prompt(context)
            for backend in (own, transformers_model):
                ids = backend._encoded(prompt)
                assert ids[0] == bos and ids.count(bos) == 1


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("\\[\\boxed{72}\\]", True),
        ("First \\boxed{100}, no: \\boxed{72}.", True),
        ("First \\boxed{72}, no: \\boxed{100}.", False),
        ("$\\boxed{\\frac{144}{2}}$", True),
        ("#### 72", True),
        ("The answer is 72.", True),
        ("72 \\boxed{", False),
        ("9^{9^{9^9}} \\boxed{71}", False),
    ],
)  # fmt: skip
def test_2552_the_last_box_counts(answer: str, right: bool) -> None:
    from k2model.documents.schema import make_item
    from k2model.evals.graders import mathematics

    assert bool(mathematics.grade(make_item("m", "", "q", "72"), answer)) is right


def test_letters_are_read_from_boxes() -> None:
    assert [last_letter(text) for text in ("\\boxed{B}", "\\boxed{(C)}", "\\[\\boxed{\\text{D}}\\]", "A", "no")] == [
        "B", "C", "D", "A", None,
    ]  # fmt: skip


def test_3080_repeats_are_asked_and_all_count() -> None:
    """Each with its seed; the second of three is right."""
    task = tasks_named(["humaneval_64"])[0]
    few = HarnessTask(**{**task.__dict__, "repeats": 3})
    (right,) = prepare(task, limit=1).parts[0].task.eval_docs.select(range(1))["canonical_solution"]
    seeds: list[int] = []

    def script(prompt: Prompt, sampling: Sampling) -> str:
        seeds.append(sampling.seed)
        return right if len(seeds) == 2 else "    return None\n"

    results = asked(few, Scripted(script), limit=1)
    assert [one.repeat for one in results] == [0, 1, 2] and len({one.seed for one in results}) == 3
    assert sorted(seeds) == sorted(one.seed for one in results if one.seed is not None)
    assert sorted(one.value for one in results) == [0.0, 0.0, 1.0]
    rows, _ = measured(measure_of(prepare(few, limit=1), Bounds(100)), results)
    assert [(row.score, row.value) for row in rows] == [
        ("humaneval_64", pytest.approx(1 / 3, abs=1e-6)),
        ("humaneval_64/pass@2", pytest.approx(2 / 3, abs=1e-6)),
        ("humaneval_64/pass@3", 1.0),
    ]


def test_seeds_do_not_depend_on_what_else_is_asked(transformers_model: TransformersModel) -> None:
    task = HarnessTask(**{**tasks_named(["gsm8k"])[0].__dict__, "temperature": 3.0, "max_new_tokens": 8, "shots": 0})
    both, one = (asked(task, transformers_model, limit=limit) for limit in (2, 1))
    assert both[0] == one[0] and both[0].seed != both[1].seed
    assert asked(task, transformers_model, limit=1, seed=1)[0].generation != one[0].generation


def test_4105_nothing_is_remembered_of_another_prompt_or_model(own: OwnModel) -> None:
    """The same task twice: other prompts where the shots differ, other answers where the model does."""
    first, second = Scripted(lambda prompt, sampling: "1"), Scripted(lambda prompt, sampling: "2")
    task = tasks_named(["gsm8k"])[0]
    assert {one.generation for one in asked(task, first, limit=2)} == {"1"}
    assert {one.generation for one in asked(task, second, limit=2)} == {"2"}
    zero = HarnessTask(**{**task.__dict__, "shots": 0})
    prompts = [{one.prompt for one in asked(which, first, limit=2)} for which in (task, zero)]
    assert not prompts[0] & prompts[1]


def test_what_was_answered_is_not_asked_again() -> None:
    answers, backend = Answers(), Scripted(lambda prompt, sampling: "1")
    prepared = prepare(tasks_named(["gsm8k"])[0], limit=2)
    first = prepared.ask(backend, answers)
    again = prepared.ask(backend, answers)
    assert first == again and len(backend.asked) == 2


def test_a_prompt_without_room_is_counted_and_not_cut() -> None:
    backend = Scripted()
    backend.max_length = 300  # type: ignore[misc]
    results = asked(tasks_named(["gsm8k"])[0], backend, limit=1)
    assert results[0].grade is Grade.TOO_LONG and not backend.asked
    results = asked(choices(), backend, limit=1)
    assert results[0].grade is Grade.TOO_LONG and not backend.pairs


def test_choices_are_drawn_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPQA's code shuffles its choices whenever its documents are processed: what is shown is what is marked."""
    from tests.evals.harness.made_up import MADE

    write(tmp_path / "Idavidrein/gpqa/gpqa_diamond", MADE["Idavidrein/gpqa"]())  # type: ignore[operator]
    monkeypatch.setenv("K2_EVAL_DATA", str(tmp_path))

    def script(prompt: Prompt, sampling: Sampling) -> str:
        (line,) = [line for line in prompt.text.splitlines() if line[4:].startswith("yes")]
        return f"The answer is {line[:3]}."

    task = tasks_named(["k2_base/gpqa_diamond_cot_zeroshot"])[0]
    results = asked(task, Scripted(script))
    assert all(one.right for one in results) and len({one.wanted for one in results}) > 1
    assert results == asked(task, Scripted(script))


def test_a_setting_that_no_backend_has_is_refused() -> None:
    from k2model.errors import EvaluationError

    with pytest.raises(EvaluationError, match="generation setting 'top_k' is none of a backend's"):
        HarnessModel(Scripted()).generate_until([request("a", top_k=5)])


def test_a_task_that_begins_the_answer_itself_is_refused_in_a_chat() -> None:
    from k2model.errors import EvaluationError

    task = HarnessTask("h", ("humaneval/humaneval_instruct.yaml",), metric="pass@1", mode="chat", grade="program")
    with pytest.raises(EvaluationError, match="begins the assistant's turn with 'Here is the completed function"):
        asked(task, Scripted(), limit=1)


def test_programs_run_in_the_sandbox_and_are_marked() -> None:
    def script(prompt: Prompt, sampling: Sampling) -> str:
        return solutions[next(name for name in solutions if name in prompt.text)]

    task = tasks_named(["humaneval"])[0]
    docs = prepare(task).parts[0].task.eval_docs
    solutions = {doc["entry_point"]: doc["canonical_solution"] for doc in docs}
    results = asked(task, Scripted(script), limit=2)
    assert [one.grade for one in results] == [Grade.RIGHT, Grade.RIGHT]
    assert prepare(task).declared["grader"]["code"]
    assert asked(task, Scripted(lambda prompt, sampling: "    return 7\n"), limit=1)[0].grade is Grade.WRONG


def test_identity_of_what_is_asked() -> None:
    import json

    prepared: Prepared = prepare(tasks_named(["k2_base/bbh"])[0], limit=1)
    declared = prepared.declared
    json.dumps(declared)
    assert declared["harness"] == "0.4.13" and declared["parts"]["bbh_cot_fewshot_navigate"]["version"] == 4.0
    assert declared["seeds"] == {"answers": 0, "shots": 1234, "documents": 0}
    (result,) = run(["k2_base/bbh"], Scripted(), limit=1)
    assert len(result.record["digests"]["prompts"]) == 16
    assert "k2model" not in json.dumps(declared) and "site-packages" not in json.dumps(declared)


def test_torch_is_left_as_it_was() -> None:
    """The harness's own runs seed the global generators; ours draw from streams of their own."""
    state = torch.get_rng_state()
    run(["k2_base/bbh"], Scripted(), limit=1)
    assert torch.equal(state, torch.get_rng_state())
