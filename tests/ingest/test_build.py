"""The tiny corpus: layout, the held-out split over every form, and equal bytes in every run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from k2model.artifacts import make
from k2model.documents import DOCUMENT_SCHEMA, FAMILIES, ITEM_SCHEMA, read_items
from k2model.documents.markup import plain
from k2model.documents.schema import choices_of, is_heldout, make_document, read_documents, source_file, sources_of
from k2model.documents.spans import segments_of
from k2model.documents.standard_library import modules
from k2model.errors import CorpusError
from k2model.ingest import raw_step
from k2model.ingest.builtin import Material, build
from k2model.recipe.laptop import SOURCES as LAPTOP_SOURCES
from k2model.recipe.schema import CorpusConfig, SourceConfig
from k2model.recipe.tasks import domain_of
from tests import tiny_corpus as tiny

ROOT = Path(__file__).parents[2]


def documents(folder, side="train"):
    return [d for path in sorted((folder / side).glob("*/*.parquet")) for d in read_documents(path)]


def test_layout_and_schemas(tiny_corpus):
    for part in ("raw", "curated"):
        for side in ("train", "heldout"):
            assert set(sources_of(tiny_corpus / part, side)) == {source_file(s.name) for s in tiny.CONFIG.sources}
            for path in (tiny_corpus / part / side).glob("*/*"):
                assert pq.read_schema(path).equals(DOCUMENT_SCHEMA)
        assert {path.stem for path in (tiny_corpus / part / "items").glob("*")} == set(FAMILIES)
        for path in (tiny_corpus / part / "items").glob("*"):
            assert pq.read_schema(path).equals(ITEM_SCHEMA)


def test_ids_are_unique_and_text_is_its_segments(tiny_corpus):
    everything = documents(tiny_corpus / "curated") + documents(tiny_corpus / "curated", "heldout")
    assert len({d["id"] for d in everything}) == len(everything)
    for document in everything:
        assert document["text"] == "".join(segment["text"] for segment in segments_of(document))
        assert segments_of(document)[0] == {"kind": "special", "text": "<|begin_of_text|>", "loss_mask": False}
        assert any(segment["loss_mask"] for segment in segments_of(document))


def test_caps_are_kept_and_families_have_their_items(tiny_corpus):
    for source in tiny.CONFIG.sources:
        rows = read_documents(tiny_corpus / "raw" / "train" / source_file(source.name) / "00000.parquet")
        assert len(rows) == source.documents or (source.documents == 0 and len(rows) > 100), source.name
    counts = {family: len(read_items(tiny_corpus / "raw", family)) for family in FAMILIES}
    fact_families = {family: 128 for family in FAMILIES if family.startswith("facts")}
    assert counts == {family: 24 for family in FAMILIES} | fact_families | {"retrieval": 48}


def test_natural_text_is_split_by_module_on_both_sources_alike(tiny_corpus):
    for source in ("prose", "code"):
        sides = [
            {d["origin"] for d in read_documents(tiny_corpus / "raw" / side / source / "00000.parquet")}
            for side in ("train", "heldout")
        ]
        assert not any(map(is_heldout, sides[0])) and all(map(is_heldout, sides[1]))


def canonical_content(document):
    """What a generated document is about, read from its text alone, without its `key` column."""
    text = document["text"]
    if match := re.search(r"Compute ([\d+-]+)=", text):
        return "sum", match[1]
    if match := re.search(r"Reverse (\w+):", text):
        return "word", match[1]
    if match := re.search(r"Countdown (\d) (\d) (\d) to (\d+):", text):
        return "countdown", (*sorted(match.groups()[:3]), match[4])
    if match := re.search(r"Knights A:(.*);B:(.*)\?", text):
        exchanged = [side.translate(str.maketrans("AB", "BA")) for side in match.groups()]
        return "knights", frozenset([match.groups(), tuple(reversed(exchanged))])
    if match := re.search(r'"arguments": (\{.*?\})', text):
        return "tool", match[1]
    return None


def test_nothing_heldout_is_trained_in_any_form(tiny_corpus):
    folder = tiny_corpus / "curated"
    trained = {canonical_content(d) for d in documents(folder)} - {None}
    heldout = {canonical_content(d) for d in documents(folder, "heldout")} - {None}
    kinds = {kind for kind, _ in trained}
    assert kinds == {"sum", "word", "countdown", "knights", "tool"} == {kind for kind, _ in heldout}
    assert not trained & heldout
    for family in ("arithmetic", "spelling", "knights", "countdown"):
        asked = {canonical_content({"text": i["prompt"]}) for i in read_items(folder, family)}
        assert len(asked) == 24 and not asked & trained
    assert not {canonical_content({"text": i["answer"]}) for i in read_items(folder, "tools")} & trained


def test_heldout_fact_wordings_appear_nowhere_in_training(tiny_corpus):
    folder = tiny_corpus / "curated"
    text = "\n".join(d["text"] for d in documents(folder))
    for family in ("facts_heldout", "facts_chat_heldout"):
        assert not [i["prompt"] for i in read_items(folder, family) if i["prompt"] in text]
    seen = [i["prompt"] + i["answer"] for i in read_items(folder, "facts_seen")]
    assert all(statement in text for statement in seen)


def test_a_recipe_knows_the_domains_that_its_sources_hold_out(tiny_corpus):
    found = {document["source"]: document["domain"] for document in documents(tiny_corpus / "raw", "heldout")}
    assert found == {source.name: domain_of(source) for source in tiny.CONFIG.sources}


def test_code_items_offer_the_true_line_among_three_of_other_modules(tiny_corpus):
    texts = {module.name: module.text for module in modules()}
    for made in read_items(tiny_corpus / "raw", "code"):
        choices, index = choices_of(made)
        meta = json.loads(made["meta"])
        assert is_heldout(meta["module"]) and len(set(choices)) == 4
        assert choices[index] == made["answer"]
        assert f"{made['prompt']}{made['answer']}\n" in texts[meta["module"]]
        assert len({len(choice) - len(choice.lstrip()) for choice in choices}) == 1


def test_efforts_show_in_chat_documents(tiny_corpus):
    rows = read_documents(tiny_corpus / "raw" / "train" / "chat-arithmetic" / "00000.parquet")
    by_tag = {tag: [r for r in rows if f"<{tag}>" in r["text"]] for tag in ("think", "think_fast", "think_faster")}
    assert all(len(found) > 10 for found in by_tag.values()) and sum(map(len, by_tag.values())) == len(rows)
    assert all("<think_faster></think_faster>" in r["text"] for r in by_tag["think_faster"])
    assert all(re.search(r"<think>[^<]+</think>", r["text"]) for r in by_tag["think"])


def test_equal_bytes_under_another_hash_seed(tiny_corpus):
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.tiny_corpus"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == tiny.digests(tiny_corpus)


def test_every_source_of_the_laptop_recipe_that_is_built_is_known():
    names = {source.name for source in LAPTOP_SOURCES if not source.job}
    assert {source.name for source in tiny.CONFIG.sources} | {"retrieval/256", "retrieval/1024"} == names


def test_an_unknown_source_is_named_with_the_nearest_known_one():
    config = CorpusConfig(sources=(SourceConfig("arithmetic/thnik"),))
    with pytest.raises(CorpusError, match="'arithmetic/thnik' is not known; did you mean 'arithmetic/think'"):
        build(config.sources[0], Material(config))


def test_another_seed_gives_other_documents_but_the_same_split():
    config = CorpusConfig(sources=(SourceConfig("spelling/direct", 50),), seed=1, heldout_items=8)
    trained, heldout = build(config.sources[0], Material(config))
    other = build(config.sources[0], Material(CorpusConfig(config.sources, seed=2, heldout_items=8)))
    assert {d["key"] for d in trained} != {d["key"] for d in other.trained}
    assert not {d["key"] for d in trained} & {d["key"] for d in other.heldout}
    assert not {d["key"] for d in other.trained} & {d["key"] for d in heldout}


def test_the_step_is_made_once_in_a_store(tmp_path):
    from k2model.artifacts import Store

    store = Store.open(str(tmp_path))
    config = CorpusConfig(sources=(SourceConfig("chat/identity"),), heldout_items=4)
    first = make(store, raw_step(config))
    assert first.kind == "corpus_raw" and first.stats["documents"] > 100
    assert make(store, raw_step(config)) == first
    assert (store.fetch(first) / "train" / "chat-identity" / "00000.parquet").exists()


def test_a_tag_inside_prose_is_ordinary_text():
    document = make_document("prose", "prose", "PSF-2.0", "m", plain("Write <think> and <|im_end|>."))
    kinds = [(segment["kind"], segment["text"]) for segment in segments_of(document)]
    assert kinds[1] == ("text", "Write <think> and <|im_end|>.")
    assert [text for kind, text in kinds if kind == "special"] == ["<|begin_of_text|>", "<|end_of_text|>"]


def test_a_tag_inside_prose_is_encoded_as_ordinary_bytes(tiny_corpus, tmp_path):
    from k2model.recipe.schema import TokenizerConfig
    from k2model.tokens.bpe import train_folder
    from k2model.tokens.tokenizer import K2Tokenizer

    train_folder(tiny_corpus / "curated", TokenizerConfig(vocab_size=300, sample_bytes=20_000), tmp_path)
    tokenizer = K2Tokenizer.load(tmp_path)
    ids, loss = tokenizer.encode_segments(plain("a <think> b"))
    assert tokenizer.special("<think>") not in ids
    assert (ids[0], ids[-1]) == (tokenizer.bos, tokenizer.eos) and loss[0] is False and all(loss[1:])
