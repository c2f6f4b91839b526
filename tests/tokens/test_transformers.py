"""What transformers makes of the tokenizer's folder equals what the pipeline trains on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from k2model.corpus import markup
from k2model.corpus.markup import chat_prompt
from k2model.tokens import K2Tokenizer
from k2model.tokens.chat_template import CHAT_TEMPLATE, chat_template

TOOLS = [{"type": "function", "function": {"name": "calc", "parameters": {"a": {"type": "integer"}}}}]
DIALOGUES: dict[str, list[dict[str, Any]]] = {
    "question": [{"role": "user", "content": "What is 4+5?"}],
    "white space": [{"role": "user", "content": "  lines\n\nand 'quotes' & <b>\t\n"}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "東京 😀"}],
    "history": [
        {"role": "user", "content": "C 1+2="},
        {"role": "assistant", "trace": "1+2=3", "content": "3"},
        {"role": "user", "content": "And 2+2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Sure?"},
    ],
    "tool": [
        {"role": "user", "content": "What is 47*83?"},
        {"role": "assistant", "tool_call": '{"name": "calc", "arguments": {"a": 47, "op": "*", "b": 83}}'},
        {"role": "tool", "content": "3901"},
    ],
}


@pytest.fixture(scope="module")
def foreign(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenizer as a user loads it: from the folder of an exported model."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return AutoTokenizer.from_pretrained(folder)


def test_special_tokens_and_text_agree(foreign: Any, tokenizer: K2Tokenizer) -> None:
    assert (foreign.bos_token_id, foreign.eos_token_id, foreign.pad_token_id) == (0, 1, 2)
    assert len(foreign) == tokenizer.vocab_size
    text = "The capital of  x_1 is 42;\n    naïve 東京 😀"
    assert foreign(text)["input_ids"] == [tokenizer.bos, *tokenizer.encode(text)]
    assert foreign(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert foreign.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
@pytest.mark.parametrize("name", list(DIALOGUES))
def test_chat_template_gives_the_ids_of_chat_prompt(
    foreign: Any, tokenizer: K2Tokenizer, name: str, effort: str
) -> None:
    rendered = foreign.apply_chat_template(
        DIALOGUES[name], reasoning_effort=effort, add_generation_prompt=True, return_dict=False
    )
    assert rendered == tokenizer.encode_segments(chat_prompt(DIALOGUES[name], effort))[0]


def test_whole_dialogue_gives_the_ids_of_a_training_document(foreign: Any, tokenizer: K2Tokenizer) -> None:
    messages = DIALOGUES["tool"] + [{"role": "assistant", "content": "The answer is 3901."}]
    rendered = foreign.apply_chat_template(messages, reasoning_effort="medium", return_dict=False)
    assert rendered == tokenizer.encode_segments(markup.chat(messages, "medium"))[0]


@pytest.mark.parametrize("settings", [{}, {"reasoning_effort": "extreme"}, {"reasoning_effort": None}])
def test_effort_falls_back_to_high(foreign: Any, settings: dict[str, Any]) -> None:
    text = foreign.apply_chat_template(DIALOGUES["question"], add_generation_prompt=True, tokenize=False, **settings)
    assert text == ("<|begin_of_text|><|im_start|>user\nWhat is 4+5?<|im_end|>\n<|im_start|>assistant\n<think>")


@pytest.mark.parametrize(
    ("trained", "means"),
    [
        (["low"], {"low": "think_faster", "high": "think_faster", None: "think_faster"}),
        (["low", "medium"], {"low": "think_faster", "high": "think_fast", "x": "think_fast", None: "think_fast"}),
        (["high", "low"], {"low": "think_faster", "medium": "think", None: "think"}),
    ],
)
def test_a_release_asks_for_no_effort_that_was_not_trained(
    foreign: Any, trained: list[str], means: dict[str | None, str]
) -> None:
    for effort, tag in means.items():
        settings = {} if effort is None else {"reasoning_effort": effort}
        text = foreign.apply_chat_template(
            DIALOGUES["history"], chat_template=chat_template(trained), add_generation_prompt=True, tokenize=False,
            **settings,
        )  # fmt: skip
        assert text.endswith(f"assistant\n<{tag}>") and text.count(f"<{tag}>") == 3
    assert chat_template(["low", "medium", "high"]) == CHAT_TEMPLATE


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_tools_are_listed_in_the_system_turn(foreign: Any, tokenizer: K2Tokenizer, system: str) -> None:
    messages = ([{"role": "system", "content": system}] if system else []) + DIALOGUES["question"]
    rendered = foreign.apply_chat_template(
        messages, tools=TOOLS, add_generation_prompt=True, reasoning_effort="low", return_dict=False
    )
    expected = [
        *[markup.special(markup.BOS), markup.special(markup.IM_START)],
        markup.text("system\nBe brief.\n" if system else "system\n"),
        *[markup.special("<tools>"), markup.text(json.dumps(TOOLS)), markup.special("</tools>")],
        *[markup.special(markup.IM_END), markup.text("\n")],
        *chat_prompt(DIALOGUES["question"], "low")[1:],
    ]
    assert rendered == tokenizer.encode_segments(expected)[0]


def test_tool_calls_in_the_form_of_transformers(foreign: Any) -> None:
    function = {"name": "calc", "arguments": {"a": 47, "op": "*", "b": 83}}
    ours = DIALOGUES["tool"]
    for call in ({"type": "function", "function": function}, function):
        theirs = [ours[0], {"role": "assistant", "content": None, "tool_calls": [call]}, ours[2]]
        rendered = [foreign.apply_chat_template(m, tokenize=False, add_generation_prompt=True) for m in (ours, theirs)]
        assert rendered[0] == rendered[1]
