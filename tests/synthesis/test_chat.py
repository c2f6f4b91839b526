"""Three-effort chat: efforts, turns, system prompt, identity and safety."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.documents.markup import last_turn
from k2model.documents.schema import parts_of, read_documents
from k2model.documents.spans import segments_of
from k2model.synthesis import Kind, SynthesisConfig
from k2model.synthesis.chat import case, converse
from k2model.synthesis.config import EffortMix, table
from k2model.synthesis.conversation import Completion, Reply, Sample
from k2model.synthesis.exchanges import (
    Exchange,
    identity_exchange,
    over_refusal_fault,
    read_plain,
    refusal_fault,
    safety_exchange,
    safety_questions,
)
from k2model.synthesis.job import Answered, DocumentMetadata, Job
from k2model.synthesis.run import synthesise_part
from k2model.synthesis.teachers.procedural import ProceduralTeacher

CONFIG = SynthesisConfig("c", Kind.CHAT, 400)
TAGS = {"<think>": "high", "<think_fast>": "medium", "<think_faster>": "low"}


def kept(**changes):
    config = replace(CONFIG, **changes)
    with tempfile.TemporaryDirectory() as place:
        synthesise_part(config, ProceduralTeacher(), Path(place), 0)
        sides = [(side, read_documents(parts_of(Path(place), side, config.source)[0])) for side in ("train", "heldout")]
    return [Sample(document, side == "heldout") for side, documents in sides for document in documents]


def effort_of(sample):
    return next(effort for tag, effort in TAGS.items() if tag in sample.document["text"])


def test_documents_come_in_the_proportions_of_the_mix():
    mix = EffortMix(high=2, medium=1, low=1)
    counts = Counter(effort_of(sample) for sample in kept(families=("problems",), efforts=mix))
    assert counts["high"] / counts.total() == pytest.approx(0.5, abs=0.05)
    assert counts["low"] / counts.total() == pytest.approx(0.25, abs=0.05)
    assert {effort_of(s) for s in kept(count=60, efforts=EffortMix(1, 0, 0))} == {"high"}


def test_one_question_is_thought_about_less_at_lower_efforts():
    by_key = {}
    for sample in kept(count=120, families=("problems",), efforts=EffortMix(1, 1, 1)):
        text = sample.document["text"]
        opening = max(text.rfind(tag) for tag in TAGS)
        trace = text[opening:].split(">", 1)[1].split("</think", 1)[0]
        by_key.setdefault(sample.document["key"], {})[effort_of(sample)] = len(trace)
    asked_at_all = [lengths for lengths in by_key.values() if len(lengths) == 3]
    assert len(asked_at_all) > 60 and all(t["low"] == 0 < t["medium"] < t["high"] for t in asked_at_all)


@pytest.mark.parametrize(("families", "share"), [(("problems",), 0.1), (("identity",), 0.5), (("safety",), 0.5)])
def test_the_system_prompt_opens_its_share_of_conversations(families, share):
    config = replace(CONFIG, families=families, count=600)
    opened = 0
    for index in range(config.count):
        conversation = case(Job(config), index).conversation
        try:
            opened += (
                "You are K2, a language model trained by the K2 lifecycle pipeline.\n"
                in next(conversation).turns[0].content
            )
        except StopIteration:
            continue  # a problem that is not asked
    assert opened / config.count == pytest.approx(share, abs=0.06)


def plain_exchange(question, heldout=False):
    metadata = DocumentMetadata("chat", "L", "o", f"key {question}", heldout)
    return Exchange(metadata, question, lambda effort: None, read_plain, lambda answered: None, str)


def played(exchanges, efforts, replies, system=""):
    conversation, requests = converse(Job(CONFIG), exchanges, system, efforts), []
    request = next(conversation)
    try:
        for reply in replies:
            requests.append(request)
            request = conversation.send(Completion(reply))
    except StopIteration as done:
        return requests, done.value
    raise AssertionError(f"the conversation goes on with {request}")


def test_a_conversation_of_three_turns_gives_three_samples_with_thinking_in_the_last_turn_alone():
    replies = [Reply(f"a{i}", f"t{i}") for i in range(3)]
    requests, samples = played([plain_exchange(f"q{i}") for i in range(3)], ["high"], replies, system="Be K2.")
    texts = [sample.document["text"] for sample in samples]
    assert len(texts) == 3 and [s.document["key"] for s in samples][2] == "key q0\nkey q1\nkey q2"
    assert texts[2] == (
        "<|begin_of_text|><|im_start|>system\nBe K2.<|im_end|>\n<|im_start|>user\nq0<|im_end|>\n"
        "<|im_start|>assistant\n<think></think>a0<|im_end|>\n<|im_start|>user\nq1<|im_end|>\n"
        "<|im_start|>assistant\n<think></think>a1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n"
        "<|im_start|>assistant\n<think>t2</think>a2<|im_end|>"
    )
    learned = "".join(s["text"] for s in segments_of(samples[2].document) if s["loss_mask"])
    assert learned == "t2</think>a2<|im_end|>"
    assert [turn.content for turn in requests[2].turns[1:]] == ["q0", "a0", "q1", "a1", "q2"]


def test_a_failed_turn_ends_its_conversation_at_that_effort():
    replies = [Reply("a0", "t0"), Reply("", "t1"), Reply("b0", "t"), Reply("b1", "t")]
    _, samples = played([plain_exchange(f"q{i}") for i in range(2)], ["high", "medium"], replies)
    assert [sample.reason for sample in samples] == ["", "no_final_answer", "", ""]


def test_medium_that_thinks_as_long_as_high_is_rejected():
    replies = [Reply("a", "long thought"), Reply("a", "long thought")]
    _, samples = played([plain_exchange("q")], ["high", "medium"], replies)
    assert [sample.reason for sample in samples] == ["", "effort_order"]
    replies = [Reply("", ""), Reply("a", "long thought")]  # where high failed there is nothing to compare with
    assert [s.reason for s in played([plain_exchange("q")], ["high", "medium"], replies)[1]] == ["no_final_answer", ""]


def test_low_effort_keeps_no_thinking_and_the_others_need_some():
    _, [low] = played([plain_exchange("q")], ["low"], [Reply("a", "a thought all the same")])
    assert "<think_faster></think_faster>a<|im_end|>" in low.document["text"] and not low.reason
    assert played([plain_exchange("q")], ["high"], [Reply("a", "")])[1][0].reason == "no_trace"


@pytest.mark.parametrize("family", ["problems", "identity", "safety"])
def test_a_conversation_stays_on_one_side_of_the_split(family):
    from k2model.documents.schema import is_heldout

    several = 0
    for sample in kept(count=200, families=(family,)):
        keys = sample.document["key"].split("\n")
        several += len(keys) > 1
        if family != "problems":  # whose keys may be decided by a group
            assert {is_heldout(key) for key in keys} == {sample.heldout}
    assert several > 10


def test_identity_is_stated_and_no_other():
    exchanges = [identity_exchange(Job(CONFIG), index, 0) for index in range(len(table("identity.toml")["topic"]))]
    for exchange in exchanges:
        for effort in ("low", "medium", "high"):
            reply = exchange.exact(effort)
            assert exchange.fault(exchange.read(reply)) is None
            assert (reply.trace == "") == (effort == "low")
    assert exchanges[0].fault(Answered("", "I am a model.")).reason == "identity_not_stated"
    named = identity_exchange(Job(replace(CONFIG, persona="Ada", maker="a school")), 0, 0)
    assert named.exact("low").content == "I am Ada, a language model trained by a school."
    _, [leak] = played(
        [replace(exchanges[0])], ["high"], [Reply("I am K2 of the K2 lifecycle pipeline. I am ChatGPT.", "t")]
    )
    assert leak.reason == "leaked_identity"


def test_harm_is_declined_with_a_way_on_and_nothing_else_is():
    assert all(len(table("safety.toml")[kind]) >= 10 for kind in ("harmful", "harmless"))
    for index in range(60):
        exchange = safety_exchange(Job(CONFIG), index, 0)
        assert exchange.fault(exchange.read(exchange.exact("high"))) is None, exchange.question
    assert refusal_fault(Answered("", "Sure, do this.")).reason == "not_declined"
    assert refusal_fault(Answered("", "I cannot do that.")).reason == "no_alternative"
    assert over_refusal_fault(Answered("", "I can't help with that.")).reason == "declined_needlessly"


TOOL = [{"name": "f", "description": "Größe", "inputSchema": {"type": "object"}}]


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_tools_and_last_turns_are_written_as_the_chat_template_writes_them(system):
    import json

    from transformers.utils.chat_template_utils import render_jinja_template

    from k2model.tokens.chat_template import CHAT_TEMPLATE

    history = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"},
    ]
    reply = {"role": "assistant", "content": "b", "trace": "t"}
    messages = [*([{"role": "system", "content": system}] if system else []), *history, reply]
    (rendered,), _ = render_jinja_template(
        [messages], tools=TOOL, chat_template=CHAT_TEMPLATE, reasoning_effort="medium"
    )
    first = {"role": "system", "content": system, "tools": json.dumps(TOOL, ensure_ascii=False)}
    segments = last_turn([first, *history, reply], "medium")
    assert "".join(segment["text"] for segment in segments) == rendered
    assert {"kind": "special", "text": "<tools>", "loss_mask": False} in segments


def test_only_the_assistant_can_have_the_last_turn():
    with pytest.raises(ValueError, match="role 'user'; expected assistant"):
        last_turn([{"role": "user", "content": "q"}], "high")


def test_a_single_job_asks_every_question_of_a_set_once_at_one_effort():
    whole = len(safety_questions(harmful=True)) + len(safety_questions(harmful=False))
    mix = EffortMix(high=0.5, medium=0.25, low=0.25)
    single = {"families": ("safety",), "single": True, "efforts": mix, "identity_system_share": 0.0}
    made = kept(count=whole, **single)
    assert {s.document["key"] for s in made} == {q.key for hurts in (True, False) for q in safety_questions(hurts)}
    assert len(made) == whole and all(s.document["text"].count("user\n") == 1 for s in made)
    counts = Counter(map(effort_of, made))
    assert counts["high"] / whole == pytest.approx(0.5, abs=0.05)
    first = kept(count=120, **single)
    harmful = {question.key for question in safety_questions(harmful=True)}
    assert 60 < sum(s.document["key"] in harmful for s in first) < 110, "in no order of the set's"
