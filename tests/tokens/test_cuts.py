"""Cut and encoded piece by piece, a text has the ids it has as a whole: the speed of tokenising rests on this."""

import json
import random

import numpy as np
import pytest

from k2model.recipe.schema import PreTokens
from k2model.tokens import K2Tokenizer, encoder
from k2model.tokens.bpe import learn
from k2model.tokens.encoder import Encoder
from k2model.tokens.tokenizer import cuts_of, whole

#: What has a rule of its own, and what Unicode disagrees with ASCII about.
BITS = [
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "\x0b",
    "\x85",
    "\xa0",
    "\u3000",
    "\u2028",
    "a",
    "Zz",
    "foo",
    "(",
    "))",
    ".",
    "'s",
    "'",
    "_",
    "0",
    "12",
    "2024",
    "é",
    "é",
    "́",
    "ب",
    "كتاب",
    "ً",
    "٣",
    "²",
    "½",
    "東京",
    "😀",
    "\u200d",
    "\x00",
    "\x1f",
    "\x7f",
    "\x1c",
    "\u200b",
    "\ufeff",
    "ǅ",
    "ª",
    "Ⅷ",
    "\u180e",
    "\U000e0001",
]


@pytest.fixture(scope="module", params=list(PreTokens))
def tokenizer(request: pytest.FixtureRequest) -> K2Tokenizer:
    return K2Tokenizer(learn(["the (tokens) of\n    كتاب é's 12"] * 50, 300, request.param).to_str())


def split(tokenizer: K2Tokenizer, text: str) -> list[str]:
    """The pre-tokens of `tokenizers` itself."""
    return [piece for piece, _ in tokenizer._own.pre_tokenizer.pre_tokenize_str(text)]


def test_every_cut_is_a_border_between_pre_tokens(tokenizer: K2Tokenizer) -> None:
    rng = random.Random(0)
    cuts = 0
    for _ in range(15_000):
        text = "".join(rng.choice(BITS) for _ in range(rng.randint(1, 9)))
        pieces = tokenizer.cut(text)
        cuts += len(pieces) - 1
        assert [part for piece in pieces for part in split(tokenizer, piece)] == split(tokenizer, text), repr(text)
    assert cuts > 10_000


def test_every_code_point_is_cut_rightly(tokenizer: K2Tokenizer) -> None:
    """All of them where scripts differ most, a sample of the planes above."""
    points = [*range(0x3100), *range(0x3100, 0xD800, 61), *range(0xE000, 0x110000, 199)]
    for start in range(0, len(points), 64):
        text = "b  ".join(f"a{c} {c}a {c}1 ({c}) {c}\n{c}  {c}  " for c in map(chr, points[start : start + 64]))
        pieces = tokenizer.cut(text)
        assert "".join(pieces) == text
        assert [part for piece in pieces for part in split(tokenizer, piece)] == split(tokenizer, text), repr(text)


@pytest.mark.parametrize("remembered", [0, 500_000])
def test_what_is_remembered_never_shows(
    tokenizer: K2Tokenizer, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr(encoder, "REMEMBERED_PIECES", remembered)
    monkeypatch.setattr(encoder, "CHARACTERS_PER_CALL", 50)
    rng = random.Random(1)
    fast = Encoder(tokenizer)
    for _ in range(4):
        texts = ["", *("".join(rng.choices(BITS, k=rng.randint(0, 40))) for _ in range(50)), ""]
        ids, lengths = fast.encode(texts)
        wanted = tokenizer.encode_batch(texts)
        assert [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] == wanted
    assert fast.encode([])[0].tolist() == []


def test_a_tokenizer_of_another_kind_is_not_cut(tokenizer: K2Tokenizer) -> None:
    specification = json.loads(tokenizer._own.to_str())
    assert cuts_of(specification) is not whole
    assert cuts_of(specification | {"normalizer": {"type": "NFC"}}) is whole
    assert cuts_of(specification | {"pre_tokenizer": {"type": "Whitespace"}}) is whole
    spaces = specification["added_tokens"][0] | {"content": "  ", "special": False}
    assert cuts_of(specification | {"added_tokens": [spaces]}) is whole
    dropping = specification["model"] | {"dropout": 0.1}
    assert cuts_of(specification | {"model": dropping}) is whole
