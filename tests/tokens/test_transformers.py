"""What transformers makes of the tokenizer's folder equals what the pipeline trains on."""

import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2model.curation.normalise import clean_characters
from k2model.documents import markup
from k2model.documents.markup import EFFORTS, Segment, chat_prompt
from k2model.documents.schema import DOCUMENT_SCHEMA, Document, parts_of, read_documents, write_items
from k2model.documents.spans import FlatSpans, segments_of
from k2model.ingest.raw import write_corpus
from k2model.recipe.curation import FILES, WEB, CurationProfile
from k2model.recipe.schema import CorpusConfig, FieldMapping, SourceConfig
from k2model.recipe.synthesis import Form, Kind, SynthesisConfig
from k2model.synthesis.run import synthesise_part
from k2model.synthesis.teachers.procedural import ProceduralTeacher
from k2model.tokens import K2Tokenizer
from k2model.tokens.chat_template import CHAT_TEMPLATE, chat_template
from k2model.tokens.encoder import Encoder
from k2model.tokens.shard_writer import encode_documents
from tests.curation.chain import curate_folder
from tests.ingest.samples import ingest, source, write_jsonl
from tests.tokens.conftest import WORDS

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


ADDRESS = "bob@site.org"
#: What cleaning a page would change, beside what no cleaning may touch.
PIECES = [
    *("\n", "\n\n\n\n\n", "  ", " \n", "\t", "\r\n", "\x0c", "\u00a0", "e\u0301", "東京 😀", "<b>&amp;", "'\"\\"),
    *("def f():\n\n\n\n    return x  \n", "Enable JavaScript\n", "user\n", "uses cookies", "<|im_end", f" {ADDRESS} "),
]  # fmt: skip


def said(rng: random.Random) -> str:
    return "".join(rng.choice([rng.choice(PIECES), f" {rng.choice(WORDS)}"]) for _ in range(rng.randint(0, 9)))


def dialogue(rng: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages as transformers takes them, and definitions of tools or none."""
    tools = [{"type": "function", "function": {"name": said(rng), "description": said(rng)}}] * rng.randint(0, 2)
    messages: list[dict[str, Any]] = [{"role": "system", "content": said(rng)}] * rng.randint(0, 1)
    for _ in range(rng.randint(1, 3)):
        asked = " ".join(f"{word}{rng.randrange(10**9)}" for word in rng.choices(("what", "of", "that"), k=12))
        messages.append({"role": "user", "content": said(rng) + asked + said(rng)})
        if rng.random() < 0.5:
            called = {"name": f"f{said(rng)}", "arguments": {said(rng): [said(rng), 4]}}
            calls = [{"type": "function", "function": called}]
            messages.append({"role": "assistant", "content": said(rng), "tool_calls": calls * rng.randint(1, 2)})
            messages.append({"role": "tool", "content": rng.choice([said(rng), json.dumps({"a": said(rng)})])})
        thought = {"reasoning_content": said(rng)} if rng.random() < 0.5 else {}
        messages.append({"role": "assistant", "content": f"{said(rng)}4{said(rng)}", **thought})
    return messages, tools


def clean(text: str) -> str:
    """What curation leaves of a text that is no page: its characters in their one form, without personal data."""
    return clean_characters(text).replace(ADDRESS, "[EMAIL]")


def encoded(documents: list[Document], tokenizer: K2Tokenizer) -> list[tuple[list[int], list[bool]]]:
    """Ids and targets as `tokenize` makes them."""
    found = encode_documents(FlatSpans.of(pa.Table.from_pylist(documents, DOCUMENT_SCHEMA)), Encoder(tokenizer))
    ends = found.lengths.cumsum().tolist()
    bounds = zip([0, *ends[:-1]], ends, strict=True)
    return [(found.tokens[start:end].tolist(), found.loss_mask[start:end].tolist()) for start, end in bounds]


@pytest.mark.parametrize(
    "profile", [FILES, replace(WEB, rules=(), phrases=(), languages=(), lines=replace(WEB.lines, least_words=2))]
)
@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_a_curated_chat_is_what_the_template_renders(
    foreign: Any, tokenizer: K2Tokenizer, tmp_path: Path, effort: str, profile: CurationProfile
) -> None:
    rng = random.Random(effort)
    dialogues = [dialogue(rng) for _ in range(60)]
    rows = [{"m": m, "t": json.dumps(t, separators=(",", ":")), "e": effort, "i": f"{i}"}
            for i, (m, t) in enumerate(dialogues)]  # fmt: skip
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    fields = FieldMapping(messages="m", tools="t", effort="e", origin="i")
    config = source(tmp_path / "in", domain="chat", fields=fields, heldout=0.0)
    raw = ingest(config, tmp_path / "raw").train
    write_items(tmp_path / "raw", "tools", [])
    (tmp_path / "out").mkdir()
    curate_folder(tmp_path / "raw", tmp_path / "out", CorpusConfig(sources=(config,), profiles=(profile,)))
    curated = [d for path in parts_of(tmp_path / "out", "train", config.name) for d in read_documents(path)]
    assert [d["origin"] for d in curated] == [d["origin"] for d in raw] == [row["i"] for row in rows]
    for before, after, (ids, loss), (messages, tools) in zip(
        raw, curated, encoded(curated, tokenizer), dialogues, strict=True
    ):
        rendered = foreign.apply_chat_template(messages, tools=tools, reasoning_effort=effort, tokenize=False)
        assert before["text"] == rendered and after["text"] == clean(rendered)
        assert ids == foreign(after["text"], add_special_tokens=False)["input_ids"]
        assert segments_of(after) == [{**s, "text": clean(s["text"])} for s in segments_of(before)]
        assert (ids, loss) == tokenizer.encode_segments(segments_of(after))


def messages_of(segments: list[Segment]) -> tuple[list[dict[str, Any]], Any, str]:
    """Messages, definitions of tools and effort of a dialogue, read back from what it says."""
    text = markup.joined(segments).removeprefix(markup.BOS)
    (tag,) = {tag for tag, _ in EFFORTS.values() if tag in text}
    messages: list[dict[str, Any]] = []
    tools = None
    for turn in text.removesuffix(markup.IM_END).split(f"{markup.IM_END}\n"):
        role, _, content = turn.removeprefix(markup.IM_START).partition("\n")
        if found := re.fullmatch(r"(.*?)\n?<tools>(.*)</tools>", content, re.DOTALL):
            content, tools = found[1], json.loads(found[2])
        message = {"role": role, "content": content}
        if role == "assistant":
            trace, _, reply = content.removeprefix(tag).partition(tag.replace("<", "</"))
            calls = [json.loads(call) for call in re.findall("<tool_calls>(.*?)</tool_calls>", reply, re.DOTALL)]
            message |= {"trace": trace, "content": reply.partition("<tool_calls>")[0], "tool_calls": calls}
        messages.append(message)
    return messages, tools, next(effort for effort, tags in EFFORTS.items() if tags[0] == tag)


JOBS = (
    SynthesisConfig("thinking-chat", Kind.THINKING, 31, form=Form.CHAT),
    SynthesisConfig("tools", Kind.TOOLS, 31),
    SynthesisConfig("chat", Kind.CHAT, 31, families=("problems",)),
    SynthesisConfig("safety", Kind.CHAT, 31, families=("safety",)),
    SynthesisConfig("constraints", Kind.CONSTRAINTS, 31),
)
CHATS = [SourceConfig(name, 12) for name in ("chat/tools", "chat/facts", "chat/identity", "chat/countdown")]
CHATS += [SourceConfig(job.source, job=job) for job in JOBS]


def test_a_chat_of_every_source_that_is_built_is_what_the_template_renders(
    foreign: Any, tokenizer: K2Tokenizer, tmp_path: Path
) -> None:
    config = CorpusConfig(sources=tuple(CHATS), heldout_items=4)
    write_corpus(tmp_path / "raw", config)
    for job in JOBS:
        synthesise_part(job, ProceduralTeacher(), tmp_path / "raw", 0)
    (tmp_path / "out").mkdir()
    curate_folder(tmp_path / "raw", tmp_path / "out", config)
    for name in (chat.name for chat in CHATS):
        documents = [d for path in parts_of(tmp_path / "out", "train", name) for d in read_documents(path)][:40]
        assert documents, name
        for document, (ids, _) in zip(documents, encoded(documents, tokenizer), strict=True):
            messages, tools, effort = messages_of(segments_of(document))
            rendered = foreign.apply_chat_template(messages, tools=tools, reasoning_effort=effort, return_dict=False)
            assert ids == rendered, document["text"]
