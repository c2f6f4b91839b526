"""Chat rows of other datasets' forms become the dialogues that K2's frame writes, told here by hand."""

import json
from datetime import datetime
from random import Random

import pytest

from k2model.documents.markup import chat
from k2model.documents.spans import segments_of
from k2model.recipe.schema import FieldMapping
from tests.documents.chat_forms import FORMS, mutated
from tests.ingest.samples import ingest, reasons, source, write_jsonl, write_parquet

QUESTION = {"role": "user", "content": "2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}
FRAME = "<|begin_of_text|><|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
CASES = {
    "plain": ([QUESTION, ANSWER], FRAME + "<think_faster></think_faster>4<|im_end|>"),
    "json_text": (json.dumps([QUESTION, ANSWER]), FRAME + "<think_faster></think_faster>4<|im_end|>"),
    "sharegpt": (
        [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}],
        FRAME + "<think_faster></think_faster>4<|im_end|>",
    ),
    "parts": (
        [{"role": "user", "content": [{"type": "text", "text": "2 +"}, {"type": "text", "text": " 2?"}]}, ANSWER],
        FRAME + "<think_faster></think_faster>4<|im_end|>",
    ),
    "k2_effort": ([QUESTION, {**ANSWER, "think_fast": "so"}], FRAME + "<think_fast>so</think_fast>4<|im_end|>"),
    "tool_calls": (
        [
            {**QUESTION, "tools": [{"name": "add"}]},
            {"role": "assistant", "content": None, "think": "use it", "tool_calls": [
                {"type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}},
                {"name": "add", "arguments": {"a": "é"}},
            ]},
            {"role": "tool", "content": "4"},
        ],
        '<|begin_of_text|><|im_start|>system\n<tools>[{"name": "add"}]</tools><|im_end|>\n<|im_start|>user\n2 + 2?'
        "<|im_end|>\n<|im_start|>assistant\n<think>use it</think>"
        '<tool_calls>{"name": "add", "arguments": {"a": 2}}</tool_calls>'
        '<tool_calls>{"name": "add", "arguments": {"a": "é"}}</tool_calls><|im_end|>\n<|im_start|>tool\n4<|im_end|>',
    ),
}  # fmt: skip
MESSAGES = FieldMapping(messages="messages")


def ingested(tmp_path, rows, fields=MESSAGES, **settings):
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    return ingest(source(tmp_path / "in", domain="chat", fields=fields, **settings), tmp_path / "out")


@pytest.mark.parametrize("case", CASES)
def test_turns_of_every_form_are_written_in_the_frame(case, tmp_path):
    messages, expected = CASES[case]
    (document,) = ingested(tmp_path, [{"messages": messages}]).documents
    assert document["text"] == expected
    targets = "".join(segment["text"] for segment in segments_of(document) if segment["loss_mask"])
    reply = expected.partition("<|im_start|>assistant\n")[2].partition("<|im_end|>")[0]
    assert targets == reply.partition(">")[2] + "<|im_end|>"


def test_effort_and_tools_of_columns(tmp_path):
    rows = [{"chat": [QUESTION, {**ANSWER, "reasoning_content": "so"}], "how": "high", "tools": '[{"name": "add"}]'}]
    fields = FieldMapping(messages="chat", effort="how", tools="tools")
    (document,) = ingested(tmp_path, rows, fields).documents
    assert '<tools>[{"name": "add"}]</tools>' in document["text"] and "<think>so</think>4" in document["text"]


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ('[{"name":"add","unit":"\\u20ac"}]', '<|im_start|>system\n<tools>[{"name": "add", "unit": "€"}]</tools>'),
        ("[]", "<|im_start|>user\n"),
        ("", "<|im_start|>user\n"),
    ],
)
def test_definitions_of_tools_are_spelled_as_the_template_spells_them(tools, expected, tmp_path):
    rows = [{"messages": [QUESTION, ANSWER], "tools": tools}]
    (document,) = ingested(tmp_path, rows, FieldMapping(messages="messages", tools="tools")).documents
    assert document["text"].startswith(f"<|begin_of_text|>{expected}")


def test_parquet_structs_are_turns(tmp_path):
    turns = [{"role": "user", "content": "2 + 2?", "think": None}, {"role": "assistant", "content": "4", "think": "so"}]
    write_parquet(tmp_path / "in/a.parquet", [{"messages": turns}, {"messages": None}])
    found = ingest(source(tmp_path / "in", domain="chat", fields=MESSAGES), tmp_path / "out")
    assert segments_of(found.documents[0]) == chat([QUESTION, {**ANSWER, "trace": "so"}], "high")
    assert [(row["reason"], row["row"]) for row in found.quarantine] == [("missing_field", 2)]


def test_dialogues_of_one_first_question_lie_on_one_side(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"question {i % 60}"}, {"role": "assistant", "content": f"{i}"}]}
        for i in range(240)
    ]
    found = ingested(tmp_path, rows, heldout=0.3)
    questions = [{segments_of(d)[3]["text"] for d in side} for side in (found.train, found.heldout)]
    assert not questions[0] & questions[1] and len(questions[0] | questions[1]) == 60
    assert len({d["id"] for d in found.documents}) == 240


BAD = [
    ("{", "not JSON"),
    ("{}", "expected a list with at least one turn"),
    (["hello"], "turn 1 is not an object"),
    ([QUESTION, {"role": "narrator", "content": "x"}], "turn 2 has role 'narrator'"),
    ([QUESTION], "no turn is the assistant's"),
    ([QUESTION, {**ANSWER, "think": "a"}, QUESTION, {**ANSWER, "think_fast": "b"}], "mixes the efforts high, medium"),
    ([{"role": "user", "content": [{"type": "image_url"}]}, ANSWER], "turn 1 has parts that are no text"),
    ([QUESTION, {**ANSWER, "tool_calls": [{"arguments": {"a": 1}}]}], "a tool call needs a name"),
    ([QUESTION, {**ANSWER, "content": 4}], "turn 2: the content is not text"),
    ([{**QUESTION, "tools": "add(a, b)"}, ANSWER], "not JSON"),
    ([{**QUESTION, "tools": ["add"]}, ANSWER], "the definitions of tools are not a list of objects"),
]  # fmt: skip


def test_turns_that_cannot_be_written_are_quarantined(tmp_path):
    found = ingested(tmp_path, [{"messages": messages} for messages, _ in BAD])
    assert [row["row"] for row in found.quarantine] == list(range(1, len(BAD) + 1))
    for row, (_, detail) in zip(found.quarantine, BAD, strict=True):
        assert row["reason"] == "bad_messages" and detail in row["detail"]


def test_messages_of_no_turns_are_empty_or_of_the_wrong_type(tmp_path):
    found = ingested(tmp_path, [{"messages": []}, {"messages": 3}, {"messages": None}])
    assert [row["reason"] for row in found.quarantine] == ["empty_field", "wrong_type", "missing_field"]


def test_turns_that_do_not_count_are_no_targets(tmp_path):
    turns = [QUESTION, {**ANSWER, "content": "WRONG DRAFT", "weight": 0}, QUESTION, {**ANSWER, "weight": 1}]
    (document,) = ingested(tmp_path, [{"messages": turns}]).documents
    learned = "".join(one["text"] for one in segments_of(document) if one["loss_mask"])
    assert "WRONG DRAFT" in document["text"] and learned == "</think_faster>4<|im_end|>"


def test_columns_of_the_system_and_of_tools_are_read_without_a_mapping(tmp_path):
    rows = [{"conversations": [QUESTION, ANSWER], "system": "Be brief.", "tools": [{"name": "add", "strict": None}]}]
    mapped = FieldMapping(messages="conversations")
    start = '<|begin_of_text|><|im_start|>system\nBe brief.\n<tools>[{"name": "add"}]</tools><|im_end|>\n'
    (of_lines,) = ingested(tmp_path, rows, mapped).documents
    write_parquet(tmp_path / "columnar/a.parquet", rows)
    (of_columns,) = ingest(source(tmp_path / "columnar", domain="chat", fields=mapped), tmp_path / "other").documents
    rest = FRAME.removeprefix("<|begin_of_text|>") + "<think_faster></think_faster>4<|im_end|>"
    assert of_lines["text"] == of_columns["text"] == start + rest


def test_fields_that_are_ignored_and_columns_that_nothing_reads(tmp_path):
    rows = [{"messages": [QUESTION, {**ANSWER, "score": 4}], "system": {"no": 1}, "judge": "x", "quality": 5}]
    assert "the field 'score' (4)" in ingested(tmp_path, [{"messages": rows[0]["messages"]}]).quarantine[0]["detail"]
    mapped = FieldMapping(messages="messages", ignored=("score", "system", "judge"))
    config = source(tmp_path / "in", domain="chat", fields=mapped)
    assert (
        ingested(tmp_path / "again", rows, mapped).documents
        and not ingested(tmp_path / "more", rows, mapped).quarantine
    )
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    assert ingest(config, tmp_path / "told").counts["unread"] == {"quality": 1}


def test_any_json_is_a_document_or_a_row_in_quarantine(tmp_path):
    rng = Random(16)
    rows = [{"messages": mutated(rng, rng.choice([*FORMS.values()]).messages)} for _ in range(600)]
    rows += [
        mutated(rng, {"messages": [QUESTION, ANSWER], "system": "S", "tools": [{"name": "f"}]}) for _ in range(200)
    ]
    found = ingested(tmp_path, [row if isinstance(row, dict) else {"messages": row} for row in rows])
    assert found.counts["rows"] == len(rows) == len(found.documents) + len(found.quarantine)
    assert all(row["detail"] for row in found.quarantine) and len(found.documents) > 100


def test_what_json_has_no_form_for_is_quarantined(tmp_path):
    when = datetime(2026, 1, 1)
    turns = [QUESTION, {**ANSWER, "tool_calls": [{"name": "f", "arguments": {"when": when}}]}]
    rows = [{"messages": turns, "tools": None}, {"messages": turns[:1], "tools": [{"name": "f", "made": when}]}]
    write_parquet(tmp_path / "in/a.parquet", rows)
    found = ingest(source(tmp_path / "in", domain="chat", fields=MESSAGES), tmp_path / "out")
    assert reasons(found) == [("wrong_type", 2), ("bad_messages", 1)]
    deep = "[" * 1000 + "]" * 1000
    lines = [f'{{"messages": {json.dumps([QUESTION, ANSWER])}, "tools": {deep}}}', f'{{"messages": {deep}}}']
    found = ingested(tmp_path / "lines", [line.encode() for line in lines])
    assert [row["row"] for row in found.quarantine] == [1, 2]
