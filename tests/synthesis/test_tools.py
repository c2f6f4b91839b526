"""Tools, K2's drop rules, and dialogues between a student and a teacher played by hand."""

import json

import pytest

from k2model.documents.spans import segments_of
from k2model.synthesis import Kind, SynthesisConfig
from k2model.synthesis.conversation import Completion, Reply, ToolCall, Turn
from k2model.synthesis.job import Job
from k2model.synthesis.tool_dialogues import converse, dropped_for, unrolled
from k2model.synthesis.tools.tasks import TASKS, UNABLE, ToolTask, call, draw
from k2model.synthesis.tools.toolbox import TOOLS, execute

ALL = tuple(TOOLS)


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("calculate", {"a": 12345678901234567890, "op": "*", "b": 9}, "111111110111111111010"),
        ("convert_units", {"value": 3, "unit": "inch", "to": "cm"}, "7.62"),
        ("convert_units", {"value": 0.1, "unit": "km", "to": "m"}, "100"),
        ("convert_units", {"value": 1, "unit": "minute", "to": "day"}, "0.000694"),
        ("days_between", {"start": "2024-02-28", "end": "2024-03-01"}, "2"),
        ("add_days", {"day": "2023-12-31", "days": 1}, "2024-01-01"),
        ("weekday", {"day": "2000-01-01"}, "Saturday"),
        ("statistics", {"numbers": [1, 2, 4, 10], "measure": "median"}, "3"),
        ("statistics", {"numbers": [1, 1, 2], "measure": "mean"}, "1.333333"),
        ("look_up", {"table": "symbol", "name": "iron"}, "Fe"),
        ("price", {"item": "loaf"}, "280"),
        ("count_character", {"text": "strawberry", "character": "r"}, "3"),
    ],
)
def test_tools_are_exact(name, arguments, result):
    assert execute(ToolCall(name, json.dumps(arguments)), ALL) == result


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("calc", "{}", "there is no tool 'calc'"),
        ("calculate", "not json", "not a JSON object"),
        ("calculate", "[1]", "not a JSON object"),
        ("calculate", '{"a": 1, "op": "+"}', "'b' is a required property"),
        ("calculate", '{"a": 1, "op": "/", "b": 2}', "'/' is not one of"),
        ("calculate", '{"a": 1.5, "op": "+", "b": 2}', "1.5 is not of type 'integer'"),
        ("convert_units", '{"value": 1, "unit": "kg", "to": "m"}', "kg measures mass, m measures length"),
        ("weekday", '{"day": "2023-02-30"}', "day is out of range"),
        ("price", '{"item": "moon"}', "'moon' is not sold here"),
    ],
)
def test_a_call_that_cannot_be_carried_out_says_why(name, arguments, said):
    assert execute(ToolCall(name, arguments), ALL).startswith("error: ")
    assert said in execute(ToolCall(name, arguments), ALL)


@pytest.mark.parametrize("family", TASKS)
def test_plans_lead_to_the_answer_and_offer_what_they_need(family):
    from random import Random

    for seed in range(20):
        task = draw(family, Random(seed))
        observed = []
        for step in task.plan:
            observed.append(execute(step(observed), task.offered))
        assert task.answer == (observed[-1] if task.plan else UNABLE)
        assert not task.answer.startswith("error") and task.right(f"So it is {task.answer}.") and task.keys
        assert not task.right("I do not know.") and len(task.offered) >= 3


DEFINED = (json.dumps(TOOLS["price"].definition),)
ASKED = Turn("user", "What does a loaf cost?")
CALLED = Turn("assistant", calls=(ToolCall("price", '{"item": "loaf"}'),))
TOLD, SAID = Turn("tool", "280"), Turn("assistant", "280 cents.")
GOOD = (ASKED, CALLED, TOLD, SAID)


@pytest.mark.parametrize(
    ("rule", "tools", "turns"),
    [
        ("no_tools_and_no_call", (), (ASKED, SAID)),
        ("undefined_tool", (json.dumps(TOOLS["weekday"].definition),), GOOD),
        ("call_without_observation", DEFINED, (ASKED, CALLED, SAID)),
        ("call_without_observation", DEFINED, (ASKED, CALLED)),
        ("empty_last_turn", DEFINED, (ASKED, CALLED, TOLD, Turn("assistant", "  "))),
        ("empty_last_turn", DEFINED, (ASKED, CALLED, TOLD)),
        ("empty_last_turn", DEFINED, ()),
        ("bad_arguments", DEFINED, (ASKED, Turn("assistant", calls=(ToolCall("price", "{}"),)), TOLD, SAID)),
    ],
)
def test_each_rule_drops_what_it_is_for(rule, tools, turns):
    assert dropped_for(tools, turns) == rule and dropped_for(DEFINED, GOOD) is None


def test_defined_tools_that_are_not_called_are_no_fault():
    assert dropped_for(DEFINED, (ASKED, SAID)) is None


def test_calls_made_at_once_are_unrolled_with_their_results():
    calls = tuple(ToolCall("price", json.dumps({"item": item})) for item in ("loaf", "pen"))
    turns = list(unrolled([Turn("assistant", "Both:", "", calls), Turn("tool", "280"), Turn("tool", "90"), SAID]))
    assert [(t.role, t.content, len(t.calls)) for t in turns] == [
        ("assistant", "Both:", 1), ("tool", "280", 0), ("assistant", "", 1), ("tool", "90", 0), (*SAID[:2], 0),
    ]  # fmt: skip
    assert list(unrolled([Turn("assistant", calls=calls), TOLD])) == [Turn("assistant", calls=calls), TOLD]


TASK = ToolTask(
    "shopping",
    "What do 12 loaves cost?",
    ("price", "calculate"),
    (lambda _: call("price", item="loaf"),),
    "3360",
    ("calc 280*12",),
)
JOB = Job(SynthesisConfig("t", Kind.TOOLS, 1))


def played(*replies, task=TASK):
    """Samples of a dialogue in which student and teacher say `replies` in turn, and what each was asked."""
    conversation, asked = converse(JOB, task, "high"), []
    request = next(conversation)
    try:
        for reply in replies:
            asked.append(request)
            request = conversation.send(Completion(reply))
    except StopIteration as done:
        assert len(asked) == len(replies)
        return asked, done.value
    raise AssertionError(f"the conversation goes on with {request}")


def calls(name, **arguments):
    return Reply("", "I call", (call(name, **arguments),))


PRICE, TIMES = calls("price", item="loaf"), calls("calculate", a=280, op="*", b=12)
WRONG, RIGHT = Reply("It is 3350.", "so"), Reply("It is 3360.", "so")


def targets(sample):
    return "".join(s["text"] for s in segments_of(sample.document) if s["loss_mask"])


def test_a_right_dialogue_gives_a_sample_a_turn_and_only_its_last_turn_is_learned():
    _, samples = played(PRICE, TIMES, RIGHT)
    assert [sample.reason for sample in samples] == ["", "", ""]
    assert [targets(s) for s in samples] == [
        'I call</think><tool_calls>{"name": "price", "arguments": {"item": "loaf"}}</tool_calls><|im_end|>',
        'I call</think><tool_calls>{"name": "calculate", "arguments": {"a": 280, "op": "*", "b": 12}}</tool_calls>'
        "<|im_end|>",
        "so</think>It is 3360.<|im_end|>",
    ]
    text = samples[-1].document["text"]
    assert text.count("I call") == 0 and "tool\n280<|im_end|>" in text  # earlier thinking is gone, results are there
    assert '<tools>[{"name": "price"' in text and samples[0].document["key"] == "calc 280*12"


def test_a_hint_that_helps_is_learned_and_the_failed_attempt_is_not():
    asked, samples = played(PRICE, WRONG, Reply("Multiply it exactly.", "they guessed"), TIMES, RIGHT)
    assert [sample.reason for sample in samples] == ["", "", ""]
    student, hint = samples[:2], samples[2]
    assert targets(student[0]).startswith('I call</think><tool_calls>{"name": "calculate"')
    assert "It is 3350." in student[1].document["text"] and "Multiply it exactly." in student[1].document["text"]
    assert targets(hint) == "they guessed</think>Multiply it exactly.<|im_end|>"
    assert "3360" in asked[2].turns[0].content and "Student: It is 3350." in asked[2].turns[1].content
    assert not any("3360" in turn.content for request in (asked[0], asked[1], asked[3]) for turn in request.turns)


@pytest.mark.parametrize(
    ("replies", "reasons"),
    [
        ((PRICE, WRONG, Reply("Say 3360.", "t")), ["bad_hint", "teacher_reveals_answer"]),
        ((PRICE, WRONG, Reply("", "t")), ["bad_hint", "empty_reply"]),
        ((WRONG, Reply("a", "t"), WRONG, Reply("b", "t"), WRONG), ["not_solved", "unhelpful_hint", "unhelpful_hint"]),
        ((WRONG, Reply("a", "t"), PRICE, RIGHT), ["", "", ""]),
        ((RIGHT,), ["answer_without_tool"]),
        ((calls("prize", item="loaf"), RIGHT), ["undefined_tool"]),
        ((calls("price", thing="loaf"), RIGHT), ["bad_arguments"]),
        (
            (PRICE, WRONG, Reply("a", "t"), PRICE, Reply(""), Reply("b", "t"), PRICE, Reply("")),
            ["empty_last_turn", "unhelpful_hint", "unhelpful_hint"],
        ),
        ((PRICE, Reply("It is 3360. I am ChatGPT.", "t")), ["leaked_identity"]),
    ],
)
def test_dialogues_are_kept_or_rejected_for_what_they_are(replies, reasons):
    assert [sample.reason for sample in played(*replies)[1]] == reasons


def test_a_call_that_its_tool_refused_is_not_learned():
    _, samples = played(calls("price", item="moon"), PRICE, TIMES, RIGHT)
    assert len(samples) == 3 and not any("moon" in targets(sample) for sample in samples)
    assert "error: 'moon' is not sold here" in samples[-1].document["text"]


def test_a_student_that_calls_for_ever_is_stopped():
    _, samples = played(*[PRICE] * 9, Reply("hint", "t"), *[PRICE] * 9, Reply("hint", "t"), *[PRICE] * 9)
    assert samples[0].reason in ("call_without_observation", "not_solved")
    assert {sample.reason for sample in samples[1:]} == {"unhelpful_hint"}
