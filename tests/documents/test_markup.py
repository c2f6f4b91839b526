"""Segments and loss rules, written out by hand."""

import pytest

from k2model.documents import SPECIAL_TOKENS, chat_prompt, plain_prompt, reasoning_prompt
from k2model.documents.markup import chat, joined, plain, reasoning


def written(segments):
    """One line a segment: `*` marks a target, then the first letter of its kind."""
    return [("*" if s["loss_mask"] else " ") + f"{s['kind'][0].upper()}:{s['text']}" for s in segments]


def test_special_tokens_begin_with_bos_eos_pad_and_are_distinct():
    assert SPECIAL_TOKENS[:3] == ("<|begin_of_text|>", "<|end_of_text|>", "<|pad|>")
    assert len(set(SPECIAL_TOKENS)) == len(SPECIAL_TOKENS) == 18


def test_plain_text_is_all_target_but_bos():
    assert written(plain("Hi")) == [" S:<|begin_of_text|>", "*T:Hi", "*S:<|end_of_text|>"]


def test_reasoning_targets_trace_closing_tag_answer_and_eos():
    assert written(reasoning("Q", "t", "A")) == [
        " S:<|begin_of_text|>", " T:Q", " S:<think>", "*T:t", "*S:</think>", "*T:A", "*S:<|end_of_text|>",
    ]  # fmt: skip


def test_direct_form_does_not_target_the_empty_trace():
    assert written(reasoning("Q", "", "A")) == [
        " S:<|begin_of_text|>", " T:Q", " S:<think>", " S:</think>", "*T:A", "*S:<|end_of_text|>",
    ]  # fmt: skip


@pytest.mark.parametrize(("effort", "tag"), [("low", "think_faster"), ("medium", "think_fast"), ("high", "think")])
def test_chat_targets_the_assistant_after_its_opening_tag(effort, tag):
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "trace": "t", "content": "A"}]
    assert written(chat(messages, effort)) == [
        " S:<|begin_of_text|>", " S:<|im_start|>", " F:user\n", " T:Q", " S:<|im_end|>",
        " F:\n", " S:<|im_start|>", " F:assistant\n", f" S:<{tag}>",
        "*T:t", f"*S:</{tag}>", "*T:A", "*S:<|im_end|>",
    ]  # fmt: skip


def test_tool_dialogue_targets_call_and_final_answer_but_not_the_result():
    messages = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "tool_call": "{}"},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": "It is 7."},
    ]
    segments = chat(messages, "low")
    assert joined(segments) == (
        "<|begin_of_text|><|im_start|>user\nQ<|im_end|>\n"
        "<|im_start|>assistant\n<think_faster></think_faster><tool_calls>{}</tool_calls><|im_end|>\n"
        "<|im_start|>tool\n7<|im_end|>\n"
        "<|im_start|>assistant\n<think_faster></think_faster>It is 7.<|im_end|>"
    )
    assert joined(s for s in segments if s["loss_mask"]) == (
        "</think_faster><tool_calls>{}</tool_calls><|im_end|></think_faster>It is 7.<|im_end|>"
    )


def test_prompts_are_the_beginning_of_the_documents():
    asked = [{"role": "user", "content": "Q"}]
    whole = chat([*asked, {"role": "assistant", "trace": "t", "content": "A"}], "high")
    start = chat_prompt(asked, "high")
    assert start == whole[: len(start)]
    assert written(start)[-1] == " S:<think>"
    for think, trace in ((True, "t"), (False, "")):
        start = reasoning_prompt("Q", think)
        assert start == reasoning("Q", trace, "A")[: len(start)]
        assert not any(segment["loss_mask"] for segment in start)
    assert joined(plain_prompt("The capital")) == "<|begin_of_text|>The capital"


def test_a_later_prompt_has_no_targets_in_earlier_turns():
    asked = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "tool_call": "{}"},
        {"role": "tool", "content": "7"},
    ]
    assert not any(segment["loss_mask"] for segment in chat_prompt(asked, "medium"))


def test_unknown_effort_and_role_are_named():
    with pytest.raises(ValueError, match="'hard' is not a reasoning effort"):
        chat_prompt([{"role": "user", "content": "Q"}], "hard")
    with pytest.raises(ValueError, match="role 'robot'"):
        chat_prompt([{"role": "robot", "content": "Q"}], "high")
