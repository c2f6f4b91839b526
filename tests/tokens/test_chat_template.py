"""Rows of chats in the forms they come in have the ids that transformers gives their messages by the released template,
and the targets that it marks as the assistant's."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from k2model.curation.normalise import clean_characters
from k2model.documents.chats import read_dialogue
from k2model.documents.json_text import BadMessages
from k2model.documents.markup import chat
from k2model.documents.schema import DOCUMENT_SCHEMA, parts_of, read_documents, write_items
from k2model.documents.spans import FlatSpans
from k2model.recipe.schema import CorpusConfig, FieldMapping
from k2model.tokens import K2Tokenizer
from k2model.tokens.adoption import adopt_folder
from k2model.tokens.encoder import Encoder
from k2model.tokens.shard_writer import encode_documents
from tests.curation.chain import curate_folder
from tests.documents.chat_forms import FORMS, TOOL, A, Q, call, mutated
from tests.ingest.samples import ingest, source, write_jsonl, write_parquet

SEED = 16


def loaded(folder: Path, at: Path) -> Any:
    """The tokenizer as a user loads it: from the folder of an exported model."""
    from transformers import AutoTokenizer

    shutil.copytree(folder, at, dirs_exist_ok=True)
    (at / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return AutoTokenizer.from_pretrained(at)


@pytest.fixture(scope="module")
def released(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return loaded(tokenizer_folder, tmp_path_factory.mktemp("released"))


def rendered(tokenizer: Any, messages: Any, effort: str, tools: Any = None) -> tuple[list[int], list[bool]]:
    """Ids and what is marked as the assistant's, by transformers."""
    found = tokenizer.apply_chat_template(
        messages, tools=tools, reasoning_effort=effort, return_dict=True, return_assistant_tokens_mask=True
    )
    return found["input_ids"], [bool(one) for one in found["assistant_masks"]]


def whole(tokenizer: K2Tokenizer, messages: Any, **beside: Any) -> tuple[list[int], list[bool], list[bool], str]:
    """Ids, targets, what would be targets if all turns counted, and the effort, of a row that is read."""
    read = read_dialogue(messages, **beside)
    ids, targets = tokenizer.encode_segments(chat(read.messages, read.effort))
    all_count = [{name: value for name, value in one.items() if name != "loss"} for one in read.messages]
    return ids, targets, tokenizer.encode_segments(chat(all_count, read.effort))[1], read.effort


@pytest.mark.parametrize("name", FORMS)
def test_every_form_has_the_ids_that_its_messages_are_rendered_to(
    released: Any, tokenizer: K2Tokenizer, name: str
) -> None:
    form = FORMS[name]
    ids, targets, _, effort = whole(tokenizer, form.messages, **form.beside)
    assert (ids, targets) == rendered(released, form.messages, effort, form.beside.get("tools"))
    assert released.decode(ids) == form.text
    if effort != "low":  # K2's names say it; else it is high, whatever a source of rows says
        assert released.apply_chat_template(form.messages, return_dict=False) == ids or "inline" in name


def test_any_chat_that_is_read_has_the_ids_of_its_messages(released: Any, tokenizer: K2Tokenizer) -> None:
    rng = Random(SEED)
    forms = [form for form in FORMS.values() if "system" not in form.beside]
    accepted = refused = apart = 0
    while accepted < 400:
        form = rng.choice(forms)
        messages, tools = [*form.messages, *rng.choice(forms).messages], form.beside.get("tools")
        messages = mutated(rng, messages) if rng.random() < 0.7 else messages
        if rng.random() < 0.3 and isinstance(messages, list):
            messages = [one | {"weight": 0} if one == A else one for one in messages]
        try:
            ids, targets, all_count, effort = whole(tokenizer, messages, tools=tools)
        except BadMessages:
            refused += 1
            continue
        if in_texts(messages):  # Jinja reads no JSON: a template takes what these texts say
            messages, tools, apart = read_dialogue(messages, tools=tools).messages, None, apart + 1
        found, marked = rendered(released, messages, effort, tools)
        assert (ids, all_count) == (found, marked), messages
        turns = turns_of(ids, released)
        counted = [any(targets[start:end]) for start, end in turns]
        expected = [mark and any(c and s <= i < e for c, (s, e) in zip(counted, turns, strict=True))
                    for i, mark in enumerate(marked)]  # fmt: skip
        assert targets == expected
        accepted += 1
    assert refused > 50 and apart < 100


def in_texts(messages: Any) -> bool:
    """Whether objects stand as JSON text where a template looks for objects."""
    if isinstance(messages, str):
        return True
    listed = [one.get("tool_calls") or one.get("function_call") or one.get("tool_call") for one in messages]
    called = [one.get("value") or one.get("content") for one in messages
              if "function_call" in (one.get("role"), one.get("from"))]  # fmt: skip
    texts = [text for text in [*listed, *called, messages[0].get("tools")] if isinstance(text, str)]
    inside = [text for one in listed if isinstance(one, list) for text in one if isinstance(text, str)]
    return any(not isinstance(json.loads(text), dict) or set(json.loads(text)) != {"name", "arguments"}
               or not isinstance(json.loads(text)["arguments"], dict) for text in [*texts, *inside])  # fmt: skip


def turns_of(ids: list[int], tokenizer: Any) -> list[tuple[int, int]]:
    starts = [i for i, one in enumerate(ids) if one == tokenizer.convert_tokens_to_ids("<|im_start|>")]
    return list(pairwise([*starts, len(ids)]))


def test_rows_of_every_form_are_curated_to_what_is_rendered(
    released: Any, tokenizer: K2Tokenizer, tmp_path: Path
) -> None:
    """From the file to the ids, by Parquet and JSON lines, with columns of tools and of the system."""
    texts = {name: form for name, form in FORMS.items() if clean_characters(form.text) == form.text}
    rows = []
    for number, form in enumerate(texts.values()):
        asked = " ".join(f"word{number}x{i}" for i in range(9))  # so that none is another's copy
        first = {"role": "user", "content": f"{asked}\n\n\n\n  ?  "}
        rows.append(
            {"messages": [*form.messages, first, A], "origin": f"{number}", "effort": form.effort, **form.beside}
        )
    rows.append({"messages": [{**Q, "content": "an x of y"}, A], "system": "Be brief.\n\n\n\n", "origin": "system"})
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    fields = FieldMapping(messages="messages", origin="origin", effort="effort")
    config = source(tmp_path / "in", domain="chat", fields=fields, heldout=0.0)
    assert not ingest(config, tmp_path / "raw").quarantine
    write_items(tmp_path / "raw", "tools", [])
    (tmp_path / "out").mkdir()
    curate_folder(tmp_path / "raw", tmp_path / "out", CorpusConfig(sources=(config,)))
    curated = [one for path in parts_of(tmp_path / "out", "train", config.name) for one in read_documents(path)]
    assert len(curated) == len(rows)
    found = encode_documents(FlatSpans.of(pa.Table.from_pylist(curated, DOCUMENT_SCHEMA)), Encoder(tokenizer))
    start = 0
    for length, document in zip(found.lengths.tolist(), curated, strict=True):
        row = next(one for one in rows if one["origin"] == document["origin"])
        system = [{"role": "system", "content": row["system"]}] if "system" in row else []
        expected = rendered(released, system + row["messages"], row.get("effort", "low"), row.get("tools"))
        end = start + length
        assert (found.tokens[start:end].tolist(), found.loss_mask[start:end].tolist()) == expected
        start = end


def test_null_filled_structs_are_rendered_as_they_are_read(
    released: Any, tokenizer: K2Tokenizer, tmp_path: Path
) -> None:
    calls = [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "add", "arguments": {"a": 2, "b": 3}}]
    tools = [[{"name": "weather", "parameters": {"city": {"type": "string"}}}], [TOOL]]
    replies = [{"role": "assistant", "content": "", "tool_calls": [call({}) | {"function": one}]} for one in calls]
    rows = [{"messages": [Q, reply], "tools": offered} for reply, offered in zip(replies, tools, strict=True)]
    write_parquet(tmp_path / "in/a.parquet", rows)
    filled = pa.Table.from_pylist(rows).to_pylist()
    assert filled[0]["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo", "a": None, "b": None}
    found = ingest(source(tmp_path / "in", domain="chat", fields=FieldMapping(messages="messages")), tmp_path / "out")
    for document, row, one, offered in zip(found.documents, filled, calls, tools, strict=True):
        assert f"<tools>{json.dumps(offered)}</tools>" in document["text"]
        assert f"<tool_calls>{json.dumps(one)}</tool_calls>" in document["text"]
        ids, _ = rendered(released, row["messages"], "low", row["tools"])
        assert released.decode(ids) == document["text"]


def test_a_rendered_text_that_is_tokenised_has_one_bos(released: Any) -> None:
    text = released.apply_chat_template([Q], add_generation_prompt=True, tokenize=False)
    apart = released(text, add_special_tokens=False)["input_ids"]
    assert apart == released.apply_chat_template([Q], add_generation_prompt=True, return_dict=False)
    assert apart.count(released.bos_token_id) == 1


def test_an_adopted_vocabulary_has_the_same_ids(tokenizer_folder: Path, tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer, learned.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    learned.train_from_iterator(["assistant user system tool name arguments"] * 20, trainer)
    learned.add_tokens([AddedToken("  ", normalized=False), AddedToken("<tool_call>", normalized=False)])
    adopt_folder(learned.to_str().encode(), 500, tmp_path / "adopted", "here")
    ours, theirs = K2Tokenizer.load(tmp_path / "adopted"), loaded(tmp_path / "adopted", tmp_path / "released")
    for form in FORMS.values():
        messages = [*form.messages, {**Q, "content": "<tool_call>  x\n\n  y  "}, A]
        ids, targets, _, effort = whole(ours, messages, **form.beside)
        assert (ids, targets) == rendered(theirs, messages, effort, form.beside.get("tools"))


def test_the_mark_is_spelled_as_trl_looks_for_it(released: Any) -> None:
    assert released.chat_template.count("{% generation %}") == 1
