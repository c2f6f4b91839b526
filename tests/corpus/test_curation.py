"""Curation on planted rows: what must go goes, what must stay stays, and the account adds up."""

import json
import shutil
from dataclasses import replace
from random import Random

import pytest

from k2model.corpus.curation import duplicates
from k2model.corpus.curation.decontamination import Contamination
from k2model.corpus.curation.normalise import normalise
from k2model.corpus.curation.quality import CODE_RULES, PROSE_RULES, rejecting_rule
from k2model.corpus.curation.step import curate_folder
from k2model.corpus.documents import (
    make_document,
    make_item,
    read_documents,
    read_items,
    source_file,
    write_documents,
    write_items,
)
from k2model.corpus.errors import CorpusError
from k2model.corpus.markup import chat, plain
from k2model.recipe.schema import CorpusConfig, SourceConfig

GOOD = (
    "The quick module reads a file in small parts and returns the lines of it to the caller. "
    "When the file is missing, the function raises an error that names the path and the mode. "
    "A second argument sets the size of the buffer, which is a number of bytes and not of lines. "
)
CONFIG = CorpusConfig(sources=(SourceConfig("prose"), SourceConfig("chat/tools")))


def prose(text, origin="m"):
    return make_document("prose", "prose", "PSF-2.0", origin, plain(text))


def tool_document(key):
    turns = [{"role": "user", "content": f"What is {key}?"}, {"role": "assistant", "content": "A"}]
    return make_document("chat/tools", "tools", "Apache-2.0", "t", chat(turns, "low"), key=f"calc {key}")


def curated(tmp_path, train, heldout=(), tools=("1+1",), items=(), config=CONFIG):
    """Curate planted documents; returns (trained prose, tool documents, the account)."""
    raw, folder = tmp_path / "raw", tmp_path / "curated"
    folder.mkdir()
    write_documents(raw / "train" / "prose" / "00000.parquet", train)
    write_documents(raw / "heldout" / "prose" / "00000.parquet", heldout)
    write_documents(raw / "train" / "chat-tools" / "00000.parquet", [tool_document(key) for key in tools])
    write_documents(raw / "heldout" / "chat-tools" / "00000.parquet", [])
    for family in {item["family"] for item in items} | {"tools"}:
        write_items(raw, family, [item for item in items if item["family"] == family])
    curate_folder(raw, folder, config)
    account = json.loads((folder / "curation.json").read_text())
    return (
        read_documents(folder / "train" / "prose" / "00000.parquet"),
        read_documents(folder / "train" / "chat-tools" / "00000.parquet"),
        account,
    )


def sentences(rng, count):
    nouns = (
        "module",
        "file",
        "error",
        "value",
        "list",
        "class",
        "method",
        "object",
        "string",
        "number",
        "path",
        "name",
    )
    return " ".join(f"the {rng.choice(nouns)}{rng.randrange(500)} of a {rng.choice(nouns)}." for _ in range(count))


def test_exact_copies_are_counted_on_the_first(tmp_path):
    rng = Random(0)
    other = sentences(rng, 30)
    train = [prose(GOOD, f"m{i}") for i in range(3)] + [prose(other)]
    kept, tools, account = curated(tmp_path, train, tools=("1+1", "1+1", "2+2"))
    assert [(d["origin"], d["duplicates"]) for d in kept] == [("m0", 3), ("m", 1)]
    assert [d["duplicates"] for d in tools] == [2, 1]
    assert account["duplicates"]["prose"] == {
        "1": 1, "2-5": 1, "6-10": 0, "11-100": 0, "101-1000": 0, "1001+": 0,
    }  # fmt: skip
    assert account["duplicates"]["all"]["2-5"] == 2


def test_a_copy_of_heldout_text_leaves_training(tmp_path):
    other = sentences(Random(0), 30)
    kept, _, account = curated(tmp_path, [prose(GOOD, "copy"), prose(other)], heldout=[prose(GOOD, "original")])
    assert [d["origin"] for d in kept] == ["m"]
    assert account["train"]["prose"]["rejects"]["exact_duplicate"]["documents"] == 1


def test_near_duplicates_are_found_and_unlike_texts_kept():
    rng = Random(1)
    originals = [sentences(rng, 60) for _ in range(40)]

    def edited(text):
        """Three words changed far apart: 15 of about 300 word 5-grams, Jaccard about 0.9."""
        words = text.split()
        for place in (50, 150, 200):
            words[place] = "changed"
        return " ".join(words)

    def half(text, other):
        words = text.split()
        return " ".join(words[: len(words) // 2] + other.split()[len(words) // 2 :])

    copies = [edited(text) for text in originals[:20]]
    unlike = [half(text, other) for text, other in zip(originals[20:30], originals[30:], strict=True)]
    found = duplicates.near(originals + copies + unlike, threshold=0.8, permutations=128)
    assert found[:40] == list(range(40))
    assert sum(found[40 + i] == i for i in range(20)) >= 19  # recall
    assert found[60:] == list(range(60, 70))  # precision


def test_near_duplicate_counts_add_up_over_both_kinds(tmp_path):
    text = sentences(Random(2), 60)
    near = text.replace("the ", "this ", 1)
    kept, _, account = curated(tmp_path, [prose(text, "a"), prose(text, "b"), prose(near, "c"), prose(near, "d")])
    assert [(d["origin"], d["duplicates"]) for d in kept] == [("a", 4)]
    rejects = account["train"]["prose"]["rejects"]
    assert {rule: entry["documents"] for rule, entry in rejects.items()} == {"exact_duplicate": 2, "near_duplicate": 1}


def test_jaccard_of_shingles_by_hand():
    one, other = duplicates.shingles("a b c d e f g"), duplicates.shingles("A B C D E F X")
    assert len(one) == len(other) == 3  # abcde bcdef cdefg
    assert duplicates.jaccard(one, other) == pytest.approx(2 / 4)
    assert len(duplicates.shingles("two words")) == 1


@pytest.mark.parametrize(
    ("count", "name"),
    [(1, "1"), (2, "2-5"), (5, "2-5"), (6, "6-10"), (10, "6-10"), (11, "11-100"), (101, "101-1000"), (1001, "1001+")],
)
def test_buckets_are_those_of_k2(count, name):
    assert duplicates.bucket(count) == name


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (GOOD, None),
        ("Too short.", "few_words"),
        ("the a of to " * 2 + "internationalization " * 30, "mean_word_length"),
        ("the value of a list is in the table " + "+-*/ = {} () " * 20, "symbols"),
        ("the table of values " + "1234567 " * 20, "digits"),
        ("\n".join(["the same line of words again"] * 6 + ["and another one to end with"]), "repeated_lines"),
        ("Reads values quickly, returns lines, raises errors, never blocks.", "no_stop_words"),
        (GOOD + "Copyright. All rights reserved.", "boilerplate"),
    ],
)
def test_each_prose_rule_rejects_its_text(text, rule):
    assert rejecting_rule(text, PROSE_RULES) == rule


def test_ordinary_code_passes_the_code_rules():
    code = "def add(first, second):\n    total = first + second\n    return total\n\nprint(add(1, 2), add(3, 4))\n"
    assert rejecting_rule(code, CODE_RULES) is None
    assert rejecting_rule("TABLE = [" + "0x1f, 0x2e, 0x3d, " * 40 + "]", CODE_RULES) is not None


def test_length_bounds_come_from_the_config(tmp_path):
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


def test_an_emptied_source_is_an_error_that_says_why(tmp_path):
    with pytest.raises(CorpusError, match=r"'prose' has no training document left.*few_words"):
        curated(tmp_path, [prose("Too short.")])


def test_text_is_brought_into_one_form():
    messy = prose("Cafe\u0301  \r\nnext\x0c line\ufeff \n\n\n\n\n\nend\n\n")
    clean = normalise(messy, natural=True)
    assert clean["segments"][1]["text"] == "Café\nnext line\n\n\nend"
    assert clean["text"] == "<|begin_of_text|>Café\nnext line\n\n\nend<|end_of_text|>"
    assert clean["segments"][1]["loss"] is True
    answer = normalise(prose(" t e n "), natural=False)
    assert answer["segments"][1]["text"] == " t e n "


LONG_PROMPT = """\
    def read_header(self, size, offset):
        position = offset + self.start
        data = self.file.read(size)
"""
LONG_ITEM = make_item("code", "m:7", LONG_PROMPT, "        return data[1]")
SHORT_ITEM = make_item("facts_heldout", "statement capital Peru 0", "The capital of Peru is", " Lima")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("size, offset):\n position=offset+self.start\n data = self.file.read(size)\n return data[1]", True),
        ("x(offset, position * offset * self.start); data = self.file.read(size); return data[1]", True),
        (
            "x(offset, position * offset * self.start); data = self.file.read(size); return data",
            False,
        ),  # 12 words in a row
        ("As we know, the CAPITAL of Peru is Lima.", True),
        ("The capital of Peruvian provinces is", False),
        (GOOD, False),
    ],
)
def test_overlapping_words_are_found_and_others_not(text, found):
    contamination = Contamination([LONG_ITEM, SHORT_ITEM])
    assert (contamination.matching_words(text) is not None) is found


def test_planted_items_leave_training_with_a_sample(tmp_path):
    item = make_item("tools", "calc 3+4", "What is 3+4?", "{}")
    train = [prose(GOOD), prose(GOOD.upper() + " In short, the capital of Peru is Lima. " + sentences(Random(5), 40))]
    kept, tools, account = curated(tmp_path, train, tools=("3+4", "3+5"), items=[item, SHORT_ITEM])
    assert len(kept) == 1 and [d["key"] for d in tools] == ["calc 3+5"]
    assert account["train"]["chat/tools"]["rejects"]["item_key"] == {"documents": 1, "samples": ["calc 3+4"]}
    assert account["train"]["prose"]["rejects"]["item_words"] == {
        "documents": 1, "samples": ["the capital of peru is"],
    }  # fmt: skip


def test_any_of_several_keys_is_enough_and_seen_items_hold_nothing_out():
    contamination = Contamination([SHORT_ITEM, make_item("facts_seen", "", "The capital of Chile is", " Santiago")])
    sheet = "statement capital Chile 0\nstatement capital Peru 0"
    assert contamination.matching_key(sheet) == "statement capital Peru 0"
    assert contamination.matching_key("") is None
    assert contamination.matching_words("The capital of Chile is Santiago") is None


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


def test_a_generated_item_planted_in_the_tiny_corpus_is_found(tiny_corpus, tmp_path):
    from tests.corpus.tiny import CONFIG as TINY

    raw = tmp_path / "raw"
    shutil.copytree(tiny_corpus / "raw", raw)
    stem = raw / "train" / "countdown-think" / "00000.parquet"
    leak = read_documents(raw / "heldout" / "countdown-think" / "00000.parquet")
    asked = {item["key"] for item in read_items(raw, "countdown")}
    planted = [{**d, "id": f"x{i}", "text": d["text"] + " "} for i, d in enumerate(leak) if d["key"] in asked][:5]
    write_documents(stem, read_documents(stem) + planted)
    (tmp_path / "out").mkdir()
    stats = curate_folder(raw, tmp_path / "out", TINY)
    account = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert account["train"]["countdown/think"]["rejects"]["item_key"]["documents"] == len(planted) == 5
    assert stats["contaminated"] >= 5
