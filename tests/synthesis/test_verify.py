"""What every reply must pass, on replies written by hand."""

import pytest

from k2model.synthesis.conversation import Reply
from k2model.synthesis.job import final_answer, text_fault, wrong_step


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (Reply("Answer: 12", "1 + 11"), ("1 + 11", "12")),
        (Reply("First 1 + 11.\nThen:\n**Answer:** 12"), ("First 1 + 11.\nThen:", "12")),
        (Reply("Answer: 3\nNo, wait.\nFinal answer: 4"), ("Answer: 3\nNo, wait.", "4")),
        (Reply("Answer:\n1 2\n2 1", "t"), ("t", "1 2\n2 1")),
        (Reply("## Answer: 7", "t"), ("t", "7")),
        (Reply("The answer: is 7"), None),
        (Reply("Answer:   "), None),
        (Reply("", "a long thought"), None),
    ],
)
def test_the_final_answer_and_the_thinking(reply, wanted):
    assert final_answer(reply) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "I am ChatGPT, how can I help?", "As a model trained by OpenAI, I", "Answer as ChatGPT would.", "I'm Claude.",
        "I was created by Alibaba Cloud.", "my name is Qwen2", "That is against my OpenAI policy.",
    ],
)  # fmt: skip
def test_another_models_voice_is_a_leak(text):
    assert text_fault(["fine", text], 1_000).reason == "leaked_identity"


@pytest.mark.parametrize(
    "text",
    ["No. I am K2, not ChatGPT.", "OpenAI is a company.", "Claude Monet was a painter.", "I am clauded.",
     "a language model trained by the K2 lifecycle pipeline"],
)  # fmt: skip
def test_naming_another_model_is_none(text):
    assert text_fault([text], 1_000) is None


@pytest.mark.parametrize(
    ("trace", "wrong"),
    [
        ("12 + 30 = 42\n42 - 2 = 40", None),
        ("12 + 30 = 43\n43 - 2 = 41", "12 + 30 = 43"),
        ("First, 3 * 4 = 13.", "3 * 4 = 13"),
        ("4-1=3;3+4=8", "3+4=8"),
        ("4-1=3+4=7-8=-1", None),  # a chain: no equation of it stands by itself
        ("2 + 3 * 4 = 14", None),  # more than two numbers
        ("48 = 2 * 18 + 12", None),
        ("1/2 + 1/2 = 1", None),
        ("1.5 + 2 = 3.5", None),
        ("x + 3 = 4", None),
    ],
)
def test_a_step_that_does_not_hold_is_found(trace, wrong):
    assert wrong_step(trace) == wrong


def test_foreign_markup_and_length():
    assert text_fault(["see <|im_start|> there"], 100).reason == "foreign_markup"
    assert text_fault(["a" * 60, "b" * 60], 100).reason == "too_long"
    assert text_fault(["fine", "too"], 100) is None
