"""Overlap with evaluation items: found word by word as a plain search finds it, with the right spans."""

import json
import re
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.curation.decontamination import Decontamination, Tally
from k2model.curation.overlap import EvaluationItem, ItemIndex, external, item_files
from k2model.curation.texts import Texts
from k2model.errors import CorpusError
from k2model.recipe.curation import DecontaminationConfig
from tests.curation.planted import GOOD

CONFIG = DecontaminationConfig()


def item(prompt, answer="", key="k", family="code", worded=True, holds_out=True):
    return EvaluationItem(family, f"id of {prompt[:20]}", key, prompt, answer, worded, holds_out)


LONG = item(
    "    def read_header(self, size, offset):\n        position = offset + self.start\n"
    "        data = self.file.read(size)\n",
    "        return data[1]",
)
SHORT = item("The capital of Peru is", " Lima")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("size, offset):\n position=offset+self.start\n data = self.file.read(size)\n return data[1]", True),
        ("x(offset, position * offset * self.start); data = self.file.read(size); return data[1]", True),
        ("x(offset, position * offset * self.start); data = self.file.read(size); return data", False),  # 12 in a row
        ("As we know, the CAPITAL of Peru is Lima.", True),
        ("It says: _The capital of Peru is_ __Lima__.", True),
        ("The capital of Peruvian provinces is", False),
        (GOOD, False),
        ("", False),
    ],
)
def test_thirteen_words_or_a_short_prompt_are_overlap(text, found):
    assert bool(len(ItemIndex([LONG, SHORT], CONFIG).overlaps(Texts.of([GOOD, text])).text)) is found


def test_spans_and_coverage_by_hand():
    texts = ["", "x. Say: The capital of\nPERU is Lima, " + " ".join("abcdefghij"), GOOD]
    long = item("a b c d e f g h i j k l m n o p q r s t", family="facts_heldout")
    texts.append("... a b c d e f g h i j k l m n z " + "c d e f g h i j k l m n o p q r")
    found = ItemIndex([SHORT, long], CONFIG).overlaps(Texts.of(texts))
    assert found.text.tolist() == [1, 3] and found.item.tolist() == [0, 1]
    assert texts[1][found.text_start[0] : found.text_end[0]] == "The capital of\nPERU is"
    assert texts[3][found.text_start[1] : found.text_end[1]] == "c d e f g h i j k l m n o p q r"  # the longest run
    assert long.text[found.item_start[1] : found.item_end[1]] == "c d e f g h i j k l m n o p q r"
    assert found.coverage.tolist() == [5 / 6, 18 / 20]  # a to r


def searched(texts, items):
    """Every (text, item) pair that shares 13 words, and the share of the item covered, by plain search."""
    made = {}
    for t, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        runs = {tuple(words[i : i + 13]) for i in range(len(words) - 12)}
        for k, entry in enumerate(items):
            own = re.findall(r"\w+", entry.text.lower())
            covered = {i + j for i in range(len(own) - 12) if tuple(own[i : i + 13]) in runs for j in range(13)}
            if covered:
                made[t, k] = len(covered) / len(own)
    return made


def test_equals_a_plain_search_on_random_texts():
    rng = Random(0)
    words = [f"w{i}" if i % 3 else f"Ünïcode{i}" for i in range(60)]
    sources = [[rng.choice(words) for _ in range(120)] for _ in range(12)]
    items = [item(" ".join(s[i : i + 40])) for s in sources for i in (0, 30, 70)]
    items += [item(" ".join(sources[0][0:40]))]  # two items with the same words
    texts = []
    for _ in range(80):
        source = rng.choice(sources)
        start = rng.randrange(100)
        texts.append(
            " ".join([rng.choice(words) for _ in range(20)] + source[start : start + rng.randrange(8, 30)]).upper()
        )
    found = ItemIndex(items, CONFIG).overlaps(Texts.of(texts))
    pairs = dict(zip(zip(found.text.tolist(), found.item.tolist(), strict=True), found.coverage.tolist(), strict=True))
    expected = searched(texts, items)
    assert len(expected) > 40 and pairs == pytest.approx(expected)


def test_equal_hashes_of_unlike_words_are_no_overlap():
    """Every run of the index is made to collide with the text's first run."""
    index = ItemIndex([LONG], CONFIG)
    text = Texts.of([GOOD])
    run = index.runs[0]
    forged = np.full_like(run.hashes, text.ngrams(run.width)[0][0])
    index.runs = [run._replace(hashes=forged, table=np.ones_like(run.table))]
    assert len(index._hits(text, index.runs[0], *[np.zeros(0, dtype=np.int64)] * 2)[0]) > 0
    assert len(index.overlaps(text).text) == 0


def table(*rows):
    return pa.table({"text": [text for text, _ in rows], "key": [key for _, key in rows]})


def test_any_of_several_keys_is_enough_and_seen_items_hold_nothing_out():
    seen = item("The capital of Chile is", " Santiago", key="", family="facts_seen", holds_out=False)
    judge = Decontamination([SHORT._replace(key="peru"), seen], CONFIG)
    tally = Tally(judge.items)
    rows = table(("sheet", "chile\nperu"), ("The capital of Chile is Santiago", ""), ("nothing", ""), ("none", "per"))
    matches = judge.judge(rows, True, tally)
    assert [(match.row, match.rule, match.item.key) for match in matches] == [(0, "item_key", "peru")]
    assert tally.documents.tolist() == [[0, 1], [1, 0]]
    assert tally.coverage.tolist() == [[0.0, pytest.approx(5 / 6)], [1.0, 0.0]]


def test_formulas_are_matched_by_key_alone():
    sums = item("1 + 2 + 3 + 4 =", " 10", key="sum", family="arithmetic", worded=False)
    judge = Decontamination([sums, SHORT], CONFIG)
    rows = table(("1 + 2 + 3 + 4 = 10", ""), ("so", "sum"), ("The capital of Peru is Lima", ""))
    assert [match.row for match in judge.judge(rows, True, Tally(judge.items))] == [1, 2]
    assert [match.row for match in judge.judge(rows, False, Tally(judge.items))] == [1]


def test_tallies_of_parts_add_up():
    judge = Decontamination([SHORT], CONFIG)
    whole, total = Tally(judge.items), Tally(judge.items)
    for text in ("The capital of Peru is Lima", "the capital of Peru is big", "no"):
        part = Tally(judge.items)
        judge.judge(table((text, "")), True, part)
        judge.judge(table((text, "")), True, whole)
        total.add(part.table())
    assert total.table().equals(whole.table())
    row = whole.table().to_pylist()[0]
    assert (row["removed"], row["kept"], row["removed_coverage"]) == (2, 0, 0.833333)  # five of six words


def test_further_items_come_from_jsonl_and_parquet(tmp_path):
    jsonl, parquet = tmp_path / "quiz.jsonl", tmp_path / "exam.parquet"
    jsonl.write_text('{"question": "Who is it?", "answer": 7, "id": "q1"}\n\n{"question": "Where?"}\n')
    pq.write_table(pa.table({"question": ["Why?"], "answer": ["So."]}), parquet)
    config = DecontaminationConfig(prompt_field="question")
    read = list(external(item_files([str(jsonl), str(parquet)]), config))
    assert [(i.family, i.id, i.text) for i in read] == [
        ("quiz", "q1", "Who is it?\n7"), ("quiz", "1", "Where?"), ("exam", "0", "Why?\nSo."),
    ]  # fmt: skip
    assert all(entry.worded and entry.holds_out and not entry.key for entry in read)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}\n{"question": "b"}\n', "line 2 has no text in 'prompt'; it has question"),
        ('{"prompt": "a"}\nnot json\n', "line 2 is not JSON"),
        (json.dumps(["prompt"]) + "\n", "line 1 is a list; expected one object a line"),
    ],
)
def test_a_bad_file_of_items_is_named_with_its_row(tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(CorpusError, match=f"bad.jsonl: {message}"):
        list(external(item_files([str(path)]), CONFIG))
    with pytest.raises(CorpusError, match="there is no file"):
        list(external(item_files([str(tmp_path / "none.jsonl")]), CONFIG))
