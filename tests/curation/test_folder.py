"""A whole corpus folder through curation: what must go goes, what must stay stays, and the account adds up."""

import json
import shutil
from dataclasses import replace
from random import Random

import pyarrow.parquet as pq
import pytest

from k2model.curation.clean import profile_of
from k2model.documents.markup import chat, joined
from k2model.documents.schema import (
    make_document,
    make_item,
    part_path,
    read_documents,
    read_items,
    source_file,
    write_documents,
)
from k2model.documents.spans import segments_of, to_spans
from k2model.errors import CorpusError
from k2model.recipe.curation import CHATS, GENERATED, PROSE, CurationProfile
from k2model.recipe.schema import CorpusConfig, FieldMapping, SourceConfig
from tests.curation.chain import curate_folder
from tests.curation.planted import CONFIG, GOOD, curated, prose, sentences, write_raw

SHORT_ITEM = make_item("facts_heldout", "statement capital Peru 0", "The capital of Peru is", " Lima")


def test_exact_copies_are_counted_on_the_first(tmp_path):
    train = [prose(GOOD, f"m{i}") for i in range(3)] + [prose(sentences(Random(0), 30))]
    kept, tools, account = curated(tmp_path, train, tools=("1+1", "1+1", "2+2"))
    assert [(d["origin"], d["duplicates"]) for d in kept] == [("m0", 3), ("m", 1)]
    assert [d["duplicates"] for d in tools] == [2, 1]
    assert account["duplicates"]["prose"] == {
        "1-1": 1, "2-5": 1, "6-10": 0, "11-100": 0, "101-1000": 0, "1001+": 0,
    }  # fmt: skip
    assert account["duplicates"]["all"]["2-5"] == 2


def test_a_copy_of_heldout_text_leaves_training(tmp_path):
    other = sentences(Random(0), 30)
    kept, _, account = curated(tmp_path, [prose(GOOD, "copy"), prose(other)], heldout=[prose(GOOD, "original")])
    assert [d["origin"] for d in kept] == ["m"]
    assert account["train"]["prose"]["rejects"]["exact_duplicate"]["documents"] == 1


def test_near_duplicate_counts_add_up_over_both_kinds(tmp_path):
    text = sentences(Random(2), 60)
    near = text.replace("the ", "this ", 1)
    kept, _, account = curated(tmp_path, [prose(text, "a"), prose(text, "b"), prose(near, "c"), prose(near, "d")])
    assert [(d["origin"], d["duplicates"]) for d in kept] == [("a", 4)]
    rejects = account["train"]["prose"]["rejects"]
    assert {rule: entry["documents"] for rule, entry in rejects.items()} == {"exact_duplicate": 2, "near_duplicate": 1}


def test_length_bounds_come_from_the_config_and_what_they_cost_is_said(tmp_path, caplog):
    config = replace(CONFIG, min_characters=200, max_characters=2_000)
    kept, tools, account = curated(
        tmp_path,
        [prose(GOOD, "good"), prose(sentences(Random(0), 200), "long")],
        tools=("1+1", "2" * 100),
        config=config,
    )
    assert [d["origin"] for d in kept] == ["good"] and len(tools) == 1
    assert account["train"]["chat/tools"]["rejects"]["too_short"]["documents"] == 1
    assert account["train"]["prose"]["rejects"]["too_long"]["documents"] == 1
    (told,) = [record.getMessage() for record in caplog.records if "'prose' loses" in record.getMessage()]
    assert "to 'length' (corpus.min_characters=200, max_characters=2,000)" in told and "too_long 1" in told


def test_an_emptied_source_is_an_error_that_says_why(tmp_path):
    with pytest.raises(CorpusError, match=r"'prose' has no training document left.*few_words"):
        curated(tmp_path, [prose("Too short.")])


def test_personal_data_goes_from_text_and_spans_and_is_counted(tmp_path):
    train = [prose(GOOD + "Write to jane.doe@corp-mail.com or call +41 44 668 18 00.", "mine")]
    kept, _, account = curated(tmp_path, train)
    assert kept[0]["text"].endswith("Write to [EMAIL] or call [PHONE].<|end_of_text|>")
    assert segments_of(kept[0])[1]["text"] == GOOD + "Write to [EMAIL] or call [PHONE]."
    assert account["train"]["prose"]["personal_data"] == account["personal_data"] == {"email": 1, "phone": 1}


def test_every_reject_is_listed_with_row_rule_and_what_it_copies(tmp_path):
    train = [prose("Too short."), prose(GOOD, "a"), prose("No."), prose(GOOD, "b"), prose(sentences(Random(1), 30))]
    curated(tmp_path, train)
    listed = pq.read_table(tmp_path / "curated/rejects/train/prose/00000.parquet", partitioning=None).to_pylist()
    assert [(r["row"], r["rule"], r["detail"]) for r in listed] == [
        (0, "few_words", ""), (2, "few_words", ""), (3, "exact_duplicate", "train/prose/00000:0"),
    ]  # fmt: skip
    assert [r["id"] for r in listed] == [train[row]["id"] for row in (0, 2, 3)]


def test_languages_hosts_and_lines_are_those_of_the_profile(tmp_path):
    profile = CurationProfile(
        "prose", ("prose",), languages=("en",), blocked_hosts=("bad.org",), blocked_origin_words=("casino",),
        lines=replace(PROSE.lines, drop=(r"(?i)cookies",)),
    )  # fmt: skip
    german = (
        "Der Leser liest die Datei in kleinen Stücken und gibt die Zeilen an den Aufrufer zurück, wenn er fertig ist."
    )
    train = [
        prose(GOOD.replace(". ", ".\n") + "We use cookies.\nThe end.", "https://good.org/page"),
        prose(german, "https://good.org/seite"),
        prose(sentences(Random(1), 20), "https://www.bad.org:80/x"),
        prose(sentences(Random(2), 20), "https://notbad.org/casino-royale"),
        prose(sentences(Random(3), 20), "https://notbad.org/occasional"),
    ]
    kept, _, account = curated(tmp_path, train, config=replace(CONFIG, profiles=(profile, GENERATED)))
    assert [d["origin"] for d in kept] == ["https://good.org/page", "https://notbad.org/occasional"]
    assert "cookies" not in kept[0]["text"] and segments_of(kept[0])[1]["text"].endswith("\nThe end.")
    found = account["train"]["prose"]
    assert {rule: entry["documents"] for rule, entry in found["rejects"].items()} == {
        "blocked_origin": 2,
        "language": 1,
    }
    assert found["languages"]["de"] == 1
    steps = {step: totals["documents"] for step, totals in found["steps"].items()}
    assert (steps["raw"], steps["origin"], steps["length"], steps["language"]) == (5, 3, 3, 2)


def test_sources_read_from_files_are_curated_and_generated_ones_are_not():
    chats = SourceConfig("chats", location="/data/chats", fields=FieldMapping(messages="messages"))
    config = CorpusConfig(sources=(SourceConfig("chat/new"), SourceConfig("crawl", location="/data/crawl"), chats))
    names = [profile_of(name, config).name for name in ("chat/new", "crawl", "chats", "prose")]
    assert names == ["generated", "files", "chats", "prose"]


def test_a_chat_from_files_is_judged_as_a_whole(tmp_path):
    """Its roles are no words and no lines, and two texts never make one word."""
    greeting = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    long = [
        turn
        for sentence in sentences(Random(0), 10).split(".")
        for turn in ({"role": "user", "content": "Go on."}, {"role": "assistant", "content": sentence})
    ]
    said = [{"role": "user", "content": "?!"}, {"role": "assistant", "content": "..."}]
    config = CorpusConfig(
        sources=(SourceConfig("mine", location="x", fields=FieldMapping(messages="m")),),
        profiles=(CHATS, GENERATED),
    )
    documents = [make_document("mine", "chat", "CC0-1.0", f"{i}", chat(turns, "low"))
                 for i, turns in enumerate((greeting, long, said))]  # fmt: skip
    write_raw(tmp_path / "raw", {("train", "mine", 0): documents})
    (tmp_path / "out").mkdir()
    curate_folder(tmp_path / "raw", tmp_path / "out", config)
    kept = read_documents(part_path(tmp_path / "out", "train", "mine"))
    assert kept == documents[:2]
    rejects = json.loads((tmp_path / "out/curation.json").read_text())["train"]["mine"]["rejects"]
    assert list(rejects) == ["symbols"]


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ((replace(PROSE, pii=("e-mail",)), GENERATED), "profiles.prose.pii: 'e-mail'.*did you mean 'email'"),
        ((PROSE,), "matches source 'chat/tools'"),
    ],
)
def test_a_profile_that_cannot_be_is_an_error(tmp_path, profiles, message):
    with pytest.raises(CorpusError, match=message):
        curated(tmp_path, [prose(GOOD)], config=replace(CONFIG, profiles=profiles))


def test_planted_items_leave_training_with_both_texts_shown(tmp_path):
    item = make_item("tools", "calc 3+4", "What is 3+4?", "{}")
    seen = make_item("facts_seen", "", "The capital of Chile is", " Santiago")
    leaks = GOOD.upper() + " In short, the CAPITAL of Peru is Lima. " + sentences(Random(5), 40)
    train = [prose(GOOD + "The capital of Chile is Santiago."), prose(leaks)]
    kept, tools, account = curated(tmp_path, train, tools=("3+4", "3+5"), items=[item, SHORT_ITEM, seen])
    assert len(kept) == 1 and [d["key"] for d in tools] == ["calc 3+5"]
    assert account["train"]["chat/tools"]["rejects"]["item_key"] == {"documents": 1, "samples": ["calc 3+4"]}
    assert account["train"]["prose"]["rejects"]["item_words"]["samples"] == ["the CAPITAL of Peru is"]
    by_rule = {match["rule"]: match for match in account["decontamination"]["matches"]}
    words = by_rule["item_words"]
    assert words["item_id"] == SHORT_ITEM["id"] and words["coverage"] == round(5 / 6, 4)
    assert words["document"]["match"] == "the CAPITAL of Peru is" and words["document"]["after"].startswith(" Lima. ")
    assert words["item"] == {"start": 0, "end": 22, "before": "", "match": "The capital of Peru is", "after": " Lima"}
    assert account["decontamination"]["families"] == {
        "facts_heldout": {"items": 1, "holds_out": True, "touched": 1, "overlapping": 0, "removed": 1, "kept": 0},
        "facts_seen": {"items": 1, "holds_out": False, "touched": 1, "overlapping": 1, "removed": 0, "kept": 1},
        "tools": {"items": 1, "holds_out": True, "touched": 1, "overlapping": 0, "removed": 1, "kept": 0},
    }
    counted = pq.read_table(tmp_path / "curated" / "contamination.parquet").to_pylist()
    assert {row["family"]: row["kept"] for row in counted} == {"facts_heldout": 0, "facts_seen": 1, "tools": 0}


def test_the_account_of_the_tiny_corpus_adds_up(tiny_corpus):
    account = json.loads((tiny_corpus / "curated" / "curation.json").read_text())
    for side in ("train", "heldout"):
        for source, entry in account[side].items():
            kept = read_documents(tiny_corpus / "curated" / side / source_file(source) / "00000.parquet")
            raw = read_documents(tiny_corpus / "raw" / side / source_file(source) / "00000.parquet")
            steps = [step["documents"] for step in entry["steps"].values()]
            assert steps == sorted(steps, reverse=True)
            assert (steps[0], steps[-1]) == (len(raw), len(kept))
            assert sum(reject["documents"] for reject in entry["rejects"].values()) == len(raw) - len(kept)
            assert entry["steps"]["decontaminated"]["bytes"] == sum(len(d["text"].encode()) for d in kept)
            listed = tiny_corpus / "curated" / "rejects" / side / source_file(source) / "00000.parquet"
            gone = {d["id"] for d in raw} - {d["id"] for d in kept}
            assert set(pq.read_table(listed, partitioning=None)["id"].to_pylist()) == gone


def test_a_generated_item_planted_in_the_tiny_corpus_is_found(tiny_corpus, tmp_path):
    from tests.tiny_corpus import CONFIG as TINY

    raw = tmp_path / "raw"
    shutil.copytree(tiny_corpus / "raw", raw)
    stem = raw / "train" / "countdown-think" / "00000.parquet"
    leak = read_documents(raw / "heldout" / "countdown-think" / "00000.parquet")
    asked = {item["key"] for item in read_items(raw, "countdown")}
    planted = [{**d, "id": f"x{i}"} for i, d in enumerate(leak) if d["key"] in asked][:5]
    for document in planted:
        *first, last = segments_of(document)
        segments = [*first, {"kind": "text", "text": " ", "loss_mask": False}, last]
        document.update(text=joined(segments), spans=to_spans(segments))
    write_documents(stem, read_documents(stem) + planted)
    (tmp_path / "out").mkdir()
    stats = curate_folder(raw, tmp_path / "out", TINY)
    account = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert account["train"]["countdown/think"]["rejects"]["item_key"]["documents"] == len(planted) == 5
    assert stats["contaminated"] >= 5
