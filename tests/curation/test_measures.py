"""Measures and rules against plain Python, one text at a time, and against texts made to break each rule."""

import re
import unicodedata
from collections import Counter
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from k2model.curation import measures as repetition
from k2model.curation.filters import rejecting_rules
from k2model.curation.measures import MEASURES, first_occurrence, measure
from k2model.curation.texts import Texts, by_bytes
from k2model.errors import CorpusError
from k2model.recipe.curation import CODE, PROSE, WEB, CurationProfile, QualityRule
from tests.curation.planted import GOOD, sentences

HAND = [
    "",
    "   \n\t\n",
    GOOD,
    "# Title\n\n- one...\n- two…\n* three\n\nShort line\nA line that ends with a full stop and is longer than that.\n",
    "Ça va? Été 2024, naïve cafés: 12.5% — Straße! ÄÖÜ äöü\nмир и труд. 你好世界。 مرحبا بالعالم؟",
    "a b a b a b a b a b a b\na b a b\n\na b a b\n\n\nend",
    "今天天气很好，我们一起去公园散步，今天天气很好，我们一起去公园。\n"
    "・看到了很多盛开的花、東京タワーとGoogleは2024年の冬です。\n● ok।",
    "วันนี้อากาศดีมากเราไปเดินเล่นที่สวนสาธารณะวันนี้อากาศดีมากเราไป ๑๒๓ ข้อ",
    "हिन्दी में लिखा हुआ एक छोटा वाक्य है।\nमी‌خواهم به خانه‌ها بروم ـــ مُحَمَّد۔ 👩‍👧 ❤\ufe0f",
    "x" * 50 + " _under_score_ 123 4five ....",
]


def random_texts(count=60):
    rng = Random(3)
    pieces = [
        "the",
        "of",
        "and",
        "Bär",
        "x1",
        "...",
        "\n",
        "\n\n",
        "#",
        "- item",
        "same line here",
        "42",
        "ok.",
        " ",
        "مرحبا",
        "今天天气",
        "冬はとても",
        "हिन्दी",
    ]
    return [" ".join(rng.choice(pieces) for _ in range(rng.randrange(120))) for _ in range(count)]


LINES = ["_a b_ __init__(self, x_1) _", "a__b _", "__", "_\u0301x y\u0301_z", "中_国 _中_ a_中", "e\u0301_ _é"]
TEXTS = HAND + LINES + random_texts()


UNITS = {"CJK": 1 / 2, "HIRAGANA": 1 / 3, "KATAKANA": 1 / 3, "THAI": 1 / 4, "KHMER": 1 / 3}  # of a word


def script(character):
    return re.split("[ -]", unicodedata.name(character, ""))[0]


def words(text):
    """Runs of letters and digits with their marks and low lines between them; of scripts without spaces each letter."""
    found, last, lines = [], "", ""
    for c in text:
        if c == "\u0640" or (unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf") and c != "\u200b"):
            if last:
                found[-1] += lines + c
            lines = ""
            continue
        if c == "_":
            lines += c
            continue
        if not c.isalnum():
            last = lines = ""
            continue
        alone = any(one.isalpha() and script(one) in UNITS for one in (c, last))
        if last and not alone:
            found[-1] += lines + c
        else:
            found.append(c)
        last, lines = c, ""
    return found


def units(word):
    return UNITS.get(script(word[0]), 1) if word[0].isalpha() else 1


def gram(some, start, width):
    """The shortest run from `start` on that comes to `width` words, or None."""
    total = 0.0
    for end in range(start, len(some)):
        total += units(some[end])
        if total > width - 1e-9:
            return tuple(some[start : end + 1])
    return None


def spaced(text):
    letters = Counter()
    for one in filter(str.isalpha, text):
        letters[script(one)] += round(12 * UNITS.get(script(one), 1 / 6))
    return max(letters, key=lambda name: (letters[name], name not in UNITS), default="") not in UNITS


def whitespace_words(text):
    return text.split() if spaced(text) else words(text)


def count(text):
    return len(text.split()) if spaced(text) else sum(map(units, words(text)))


def lines(text):
    return [line.strip() for line in text.split("\n") if line.strip()]


def paragraphs(text):
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def share(chosen, of):
    return len(chosen) / max(1, len(of))


def visible(text):
    return [c for c in text if not c.isspace() and c != "\u0640" and unicodedata.category(c) not in ("Mn", "Mc", "Cf")]


def repeated(spans, of_characters):
    seen, again, total = set(), 0, 0
    for span in spans:
        weight = len(span) if of_characters else 1
        total += weight
        again += weight if span.lower() in seen else 0
        seen.add(span.lower())
    return again / max(1, total)


def grams(text, width):
    w = words(text.lower())
    return w, [made for i in range(len(w)) if (made := gram(w, i, width))]


def top(text, width):
    """Gopher's top n-gram, straight from its description."""
    w, made = grams(text, width)
    often = {one: n for one, n in Counter(made).items() if n > 1}
    if not often:
        return 0.0
    best, n = max(often.items(), key=lambda entry: (entry[1], sum(map(len, entry[0]))))
    return min(1.0, n * sum(map(len, best)) / sum(map(len, w)))


def repeated_grams(text, width):
    w, made = grams(text, width)
    seen, covered = set(), set()
    for i, one in enumerate(made):
        if one in seen:
            covered.update(range(i, i + len(one)))
        seen.add(one)
    return sum(len(w[i]) for i in covered) / max(1, sum(map(len, w)))


REFERENCE = {
    "words": lambda t: sum(map(units, words(t))),
    "characters": len,
    "mean_word_length": lambda t: sum(map(len, words(t))) / max(1, sum(map(units, words(t)))),
    "whitespace_word_length": lambda t: sum(map(len, whitespace_words(t))) / max(1, len(whitespace_words(t))),
    "symbol_share": lambda t: share([c for c in visible(t) if not c.isalnum()], visible(t)),
    "digit_share": lambda t: share([c for c in visible(t) if c.isdigit()], visible(t)),
    "uppercase_share": lambda t: share([c for c in visible(t) if c.isupper()], visible(t)),
    "alphabetic_words": lambda t: share(
        [w for w in whitespace_words(t) if any(map(str.isalpha, w))], whitespace_words(t)
    ),
    "hashes_per_word": lambda t: t.count("#") / max(1, count(t)),
    "ellipses_per_word": lambda t: (len(re.findall(r"\.{3,}", t)) + t.count("…")) / max(1, count(t)),
    "bullet_lines": lambda t: share([x for x in lines(t) if x[0] in "•‣▶◀◦■□▪▫–-*●・"], lines(t)),
    "ellipsis_lines": lambda t: share([x for x in lines(t) if x.endswith(("...", "…"))], lines(t)),
    "punctuated_lines": lambda t: share([x for x in lines(t) if x[-1] in ".!?\"'”’。！？؟…।۔"], lines(t)),
    "short_lines": lambda t: share([x for x in lines(t) if len(x) <= 30], lines(t)),
    "repeated_lines": lambda t: repeated(lines(t), False),
    "repeated_line_characters": lambda t: repeated(lines(t), True),
    "repeated_paragraphs": lambda t: repeated(paragraphs(t), False),
    "repeated_paragraph_characters": lambda t: repeated(paragraphs(t), True),
    **{f"top_{n}gram": lambda t, n=n: top(t, n) for n in (2, 3, 4)},
    **{f"repeated_{n}grams": lambda t, n=n: repeated_grams(t, n) for n in range(5, 11)},
}


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_every_measure_equals_its_description(name):
    found = measure(name, Texts.of(TEXTS))
    np.testing.assert_allclose(found, [REFERENCE[name](text) for text in TEXTS], atol=1e-12)


def test_stop_words_are_counted_once_each_whatever_their_case():
    texts = Texts.of(["The THE the cat", "of and the thesis", ""])
    assert measure("stop_words", texts, ("the", "of", "and")).tolist() == [1, 3, 0]


def test_an_unknown_measure_is_named_with_the_nearest():
    with pytest.raises(CorpusError, match=r"'word'.*did you mean 'words'"):
        measure("word", Texts.of([GOOD]))


def test_a_text_measures_the_same_in_any_batch():
    together = {name: measure(name, Texts.of(TEXTS)) for name in ("repeated_5grams", "top_2gram", "repeated_lines")}
    for name, values in together.items():
        assert [measure(name, Texts.of([text]))[0] for text in TEXTS] == values.tolist()
    assert repetition.top_ngram(Texts.of([]), 2).tolist() == []


def test_first_occurrence_is_that_of_a_dictionary():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 3_000, 20_000, dtype=np.uint64) << np.uint64(52)
    first: dict[int, int] = {}
    assert first_occurrence(keys).tolist() == [first.setdefault(int(key), i) for i, key in enumerate(keys)]


def test_batches_are_cut_by_bytes_and_no_row_is_lost():
    batch = pa.record_batch({"text": ["a" * n for n in (5, 5, 30, 1, 0, 9, 2)]})
    pieces = list(by_bytes(batch, "text", 10))
    assert [piece.num_rows for piece in pieces] == [2, 1, 3, 1]
    assert pa.Table.from_batches(pieces).to_pylist() == batch.to_pylist()


def rejected(text, profile):
    strings = pa.array([text], type=pa.large_string())
    return rejecting_rules(strings, Texts(strings), profile)[0]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (GOOD, ""),
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
    assert rejected(text, PROSE) == rule


PAGE = sentences(Random(7), 40) + "\nThis line is here to have another one, and it ends well.\n"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (PAGE, ""),
        (GOOD[:200], "few_words"),
        (PAGE + "# " * 60, "hash_symbols"),
        (PAGE + "... and the " * 40, "ellipses"),
        (
            "\n".join(f"- the point{i} of some list{i}, which has part{i}, words{i} in it." for i in range(20)),
            "bullet_lines",
        ),
        ("\n".join(f"the {i} of a story that goes on and {i * 7}..." for i in range(3)) + PAGE, "ellipsis_lines"),
        ("the of " + " ".join(f"{i * 7919 + 10_000} and value{i}" for i in range(40)), "alphabetic_words"),
        (PAGE + (GOOD + "\n") * 8, "repeated_lines"),
        (PAGE + " ".join(f"and case{i} was as before in all of its parts then," for i in range(12)), "repeated_5grams"),
        (" ".join(f"of the {i}th value" for i in range(60)) + " a", "top_2gram"),
        ("\n".join(sentences(Random(i), 2)[:-1] for i in range(20)), "punctuated_lines"),
        (PAGE + "\n".join(f"short {chr(97 + i)}{i}." for i in range(12)), "short_lines"),
        (PAGE + "function() { return; }", "curly_bracket"),
        (PAGE + "Lorem ipsum dolor sit amet.", "lorem_ipsum"),
    ],
)
def test_each_web_rule_rejects_its_text(text, rule):
    assert rejected(text, WEB) == rule


def test_ordinary_code_passes_the_code_rules():
    code = "def add(first, second):\n    total = first + second\n    return total\n\nprint(add(1, 2), add(3, 4))\n"
    assert rejected(code, CODE) == ""
    assert rejected("TABLE = [" + "0x1f, 0x2e, 0x3d, " * 40 + "]", CODE) != ""


def test_bounds_are_inclusive_and_short_texts_are_spared_by_from_lines():
    rules = (QualityRule("lines", "repeated_lines", at_most=0.5, from_lines=3), QualityRule("few", "words", at_least=2))
    profile = CurationProfile("p", ("*",), rules=rules)
    assert [rejected(t, profile) for t in ("a\na", "a\na\na", "a\na\nb", "a", "a b")] == ["", "lines", "", "few", ""]
