"""Chats of every usual form are read in full, or refused with what is not understood."""

import json
from random import Random

import pytest

from k2model.documents.chats import read_dialogue
from k2model.documents.json_text import BadMessages
from k2model.documents.markup import chat, joined
from k2model.documents.messages import read_reply
from tests.documents.chat_forms import FORMS, REFUSED, A, Q, any_json, call, mutated

SEED = 16


def targets(messages, **beside):
    read = read_dialogue(messages, **beside)
    return "".join(one["text"] if one["loss_mask"] else "|" for one in chat(read.messages, read.effort)).strip("|")


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_written_in_the_frame(name):
    form = FORMS[name]
    for messages in (form.messages, json.dumps(form.messages)):
        read = read_dialogue(messages, **form.beside)
        assert (joined(chat(read.messages, read.effort)), read.effort) == (form.text, form.effort)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_its_name(name):
    messages, why = REFUSED[name]
    with pytest.raises(BadMessages) as refused:
        read_dialogue(messages)
    assert why in str(refused.value)


def test_what_the_user_ignores_is_left_out():
    messages = [Q, {**A, "content": [{"type": "text", "text": "4", "sure": 1}], "refusal": "x"}]
    assert targets(messages, ignored=("refusal", "sure")) == "</think_faster>4<|im_end|>"


@pytest.mark.parametrize(
    ("flags", "counts"),
    [
        ({"weight": 0}, False), ({"weight": 1.0}, True), ({"weight": None}, True), ({"train": False}, False),
        ({"training": False}, False), ({"loss": True}, True), ({"loss_weight": 0.0}, False), ({"masked": True}, False),
        ({"masked": 0}, True), ({"mask": True}, False), ({"mask": False}, True), ({"loss_mask": 0}, False),
        ({"weight": 0, "masked": True}, False),
    ],
)  # fmt: skip
def test_a_turn_that_does_not_count_is_context(flags, counts):
    messages = [Q, {**A, "content": "DRAFT", "reasoning": "so", **flags}, Q, A]
    learned = targets(messages)
    assert ("DRAFT" in learned, "so</think>" in learned) == (counts, counts)
    assert learned.endswith("</think>4<|im_end|>")


def test_an_empty_reply_may_be_context():
    assert targets([Q, {**A, "content": "", "weight": 0}, Q, A]) == "</think_faster>4<|im_end|>"


def test_efforts():
    thinks = [Q, {**A, "reasoning": "so"}]
    stated = {(None, "low"): "high", (None, "medium"): "medium", ("low", "high"): "low", ("medium", "low"): "medium"}
    for (effort, default), expected in stated.items():
        assert read_dialogue(thinks, effort=effort, default=default).effort == expected
    inline = [Q, {**A, "content": "<think>so</think>4"}]
    assert read_dialogue(inline, effort="medium").effort == "medium"
    filled = [Q, {**A, "think": "", "think_fast": "so", "think_faster": ""}]
    assert read_dialogue(filled).effort == "medium"
    for mixed in ([*inline, Q, {**A, "think_fast": "b"}], [Q, {**A, "think": "a"}, Q, {**A, "think_faster": "b"}]):
        with pytest.raises(BadMessages, match="mixes the efforts"):
            read_dialogue(mixed)
    with pytest.raises(BadMessages, match="effort 'hard'"):
        read_dialogue([Q, A], effort="hard")


def test_a_column_of_the_system_is_its_turn():
    system = {"role": "system", "content": "Be brief."}
    expected = read_dialogue([system, Q, A]).messages
    for messages in ([Q, A], [system, Q, A], [{**system, "content": ""}, Q, A]):
        assert read_dialogue(messages, system="Be brief.").messages == expected
    with pytest.raises(BadMessages, match="column of the system"):
        read_dialogue([{**system, "content": "Be long."}, Q, A], system="Be brief.")
    with pytest.raises(BadMessages, match="define different tools"):
        read_dialogue([{**Q, "tools": [{"name": "a"}]}, A], tools=[{"name": "b"}])


def test_any_json_is_read_or_refused():
    rng = Random(SEED)
    rows = [form.messages for form in FORMS.values()]
    for number in range(4000):
        messages = any_json(rng) if number % 5 == 0 else mutated(rng, rng.choice(rows))
        beside = {name: any_json(rng) for name in ("tools",) if rng.random() < 0.1}
        try:
            read = read_dialogue(messages, **beside)
        except BadMessages as error:
            assert str(error)
            continue
        assert any(one["loss_mask"] for one in chat(read.messages, read.effort))


def test_what_is_nested_too_deeply_is_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for messages in ([{**Q, "x": deep}, A], [Q, {**A, "tool_calls": [call({"a": deep})]}], [deep, A], deep):
        with pytest.raises(BadMessages):
            read_dialogue(messages)
    with pytest.raises(BadMessages):
        read_reply({"content": "x", "tool_calls": deep})


def test_a_reply_of_a_server_keeps_what_is_known_of_it():
    assert read_reply({"content": "<think>\nT\n</think>\nA", "refusal": None, "audio": 4}) == ("A", "T", [])
    said = {"content": None, "reasoning": "T", "reasoning_content": "T", "tool_calls": [call('{"a": ')]}
    content, trace, (made,) = read_reply(said)
    assert (content, trace, made.name, made.said_arguments) == ("", "T", "add", '{"a": ')
    for none in (None, [], {"content": 4}, {"content": [{"type": "image_url"}]}, {"tool_calls": ["x"]}):
        with pytest.raises(BadMessages):
            read_reply(none)
