"""Text survives, markup is never forged by text, and a tokenizer is a function of its corpus."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from k2model.documents import markup
from k2model.documents.markup import SPECIAL_TOKENS
from k2model.documents.schema import read_documents, write_documents
from k2model.recipe.schema import PreTokens, TokenizerConfig
from k2model.tokens import K2Tokenizer, TokensError
from k2model.tokens.bpe import draw_sample, even_quotas, learn, train_folder

TRAIN = """
import sys
from pathlib import Path
from k2model.recipe.schema import TokenizerConfig
from k2model.tokens.bpe import train_folder
train_folder(Path(sys.argv[1]), TokenizerConfig(vocab_size=340, sample_bytes=60_000), Path(sys.argv[2]))
"""


def random_text(rng: random.Random) -> str:
    """Any code points but surrogates, with tags and white space mixed in."""
    parts = []
    for _ in range(rng.randint(0, 30)):
        kind = rng.randrange(4)
        if kind == 0:
            parts.append(rng.choice([*SPECIAL_TOKENS, " ", "\r\n", "\t  ", "\0", "  \n \n", "12", "don't", "e\u0301"]))
        elif kind == 1:
            parts.append("".join(chr(rng.randrange(0x80)) for _ in range(rng.randint(1, 8))))
        else:
            limit = 0x3000 if kind == 2 else 0x110000
            points = (rng.randrange(limit) for _ in range(rng.randint(1, 6)))
            parts.append("".join(chr(p) for p in points if not 0xD800 <= p < 0xE000))
    return "".join(parts)


def test_any_text_survives_encode_and_decode(tokenizer: K2Tokenizer) -> None:
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(600)]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
        assert ids == tokenizer.encode(text)


def test_tags_in_text_stay_bytes(tokenizer: K2Tokenizer) -> None:
    text = "a " + " ".join(SPECIAL_TOKENS)
    ids, _ = tokenizer.encode_segments([markup.special(markup.BOS), markup.text(text)])
    assert ids[0] == tokenizer.bos
    assert min(ids[1:]) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids[1:]) == text
    assert min(tokenizer.encode(text)) >= len(SPECIAL_TOKENS)


def test_special_tokens_of_a_learned_vocabulary_come_first(tokenizer: K2Tokenizer) -> None:
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (0, 1, 2)
    assert [tokenizer.special(name) for name in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert [tokenizer.decode([i]) for i in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)
    assert tokenizer.vocab_size == 340
    with pytest.raises(TokensError, match="<thinking>"):
        tokenizer.special("<thinking>")


def test_digits_and_punctuation_stand_alone_and_a_space_stays_with_its_word() -> None:
    texts = ["the 2024 (the) the-the 2024", "  the 2024;2024"] * 500
    tokenizer = K2Tokenizer(learn(texts, 300).to_str())
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode("the the 2024;")]
    assert pieces == ["the", " the", " ", "2", "0", "2", "4", ";"]


def test_words_of_any_script_keep_their_marks_and_digits_stand_alone() -> None:
    text = "x = (foo_bar)); कि कितना\u0301 كِتَاب 2024\n\n    return"
    tokenizer = learn([text], 300, PreTokens.BY_SCRIPT)
    pieces = [text[a:b] for _, (a, b) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    assert pieces == [
        "x", " =", " (", "foo", "_bar", "));", " कि", " कितना\u0301", " كِتَاب", " ", "2", "0", "2", "4", "\n\n",
        "   ", " return",
    ]  # fmt: skip
    rng = random.Random(3)
    full = K2Tokenizer(tokenizer.to_str())
    for _ in range(300):
        odd = random_text(rng)
        assert full.decode(full.encode(odd)) == odd


def test_half_a_character_is_refused(tokenizer: K2Tokenizer) -> None:
    with pytest.raises(TokensError, match=r"text 1 .* U\+D83D at character 2"):
        tokenizer.encode_batch(["fine", "a \ud83d b"])
    with pytest.raises(TokensError, match=r"U\+DC00"):
        tokenizer.encode("\udc00")


def test_targets_follow_the_segments(tokenizer: K2Tokenizer) -> None:
    ids, loss = tokenizer.encode_segments(markup.reasoning("C 1+2=", "1+2=3", "3"))
    targets = [tokenizer.decode([i]) for i, target in zip(ids, loss, strict=True) if target]
    assert "".join(targets) == "1+2=3</think>3<|end_of_text|>"
    _, loss = tokenizer.encode_segments([markup.text("abc", loss_mask=True)])
    assert loss[0] is False and all(loss[1:]), "nothing predicts the first token of a document"


def test_neighbouring_texts_are_encoded_as_one(tokenizer: K2Tokenizer) -> None:
    ids, _ = tokenizer.encode_segments([markup.text("the capi"), markup.text("tal")])
    assert ids == tokenizer.encode("the capital")
    apart, loss = tokenizer.encode_segments([markup.text("the capi"), markup.text("tal", loss_mask=True)])
    assert apart == tokenizer.encode("the capi") + tokenizer.encode("tal")
    assert sum(loss) == len(tokenizer.encode("tal"))


def test_training_is_a_function_of_the_corpus_alone(corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    for seed, parallel in (("1", "false"), ("77", "true")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": parallel}
        folder = tmp_path / seed
        subprocess.run([sys.executable, "-c", TRAIN, str(corpus), str(folder)], env=environment, check=True)
        names = sorted(path.name for path in tokenizer_folder.iterdir())
        assert sorted(path.name for path in folder.iterdir()) == names
        for name in names:
            assert (folder / name).read_bytes() == (tokenizer_folder / name).read_bytes(), name


def test_sample_is_even_over_sources(corpus: Path) -> None:
    # Worked by hand: the source of 10 gives all it has, the others share the remaining 80.
    assert even_quotas([10, 500, 1000], 90) == [10, 40, 40]
    assert even_quotas([5, 5], 100) == [5, 5]
    assert sum(even_quotas([7, 30, 50], 50)) == 50
    drawn = list(draw_sample(corpus, 8_000, seed=0))
    assert 8_000 <= sum(len(text.encode()) for text in drawn) <= 8_000 + 4 * 1500
    assert drawn != list(draw_sample(corpus, 8_000, seed=1))
    assert not set(drawn) & set(SPECIAL_TOKENS)


def test_sample_does_not_see_how_a_source_is_cut_into_parts(corpus: Path, tmp_path: Path) -> None:
    for path in sorted((corpus / "train").glob("*/*.parquet")):
        rows = read_documents(path)
        for part, some in enumerate((rows[:17], [], rows[17:])):
            write_documents(tmp_path / "train" / path.parent.name / f"{part:05d}.parquet", some)
    assert list(draw_sample(tmp_path, 8_000, seed=0)) == list(draw_sample(corpus, 8_000, seed=0))


def test_what_cannot_be_trained_or_loaded_is_named(corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="vocab_size=100 must be at least 274"):
        train_folder(corpus, TokenizerConfig(vocab_size=100), tmp_path)
    with pytest.raises(TokensError, match="no text to train"):
        train_folder(tmp_path, TokenizerConfig(vocab_size=512), tmp_path / "out")
    with pytest.raises(TokensError, match=r"tokenizer\.json: no such file"):
        K2Tokenizer.load(tmp_path)
    foreign = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    foreign["added_tokens"][5]["content"] = "<other>"
    del foreign["model"]["vocab"]["<think>"]
    foreign["model"]["vocab"]["<other>"] = 5
    (tmp_path / "tokenizer.json").write_text(json.dumps(foreign))
    with pytest.raises(TokensError, match=r"no special token '<think>' .* tokenizer.adopt"):
        K2Tokenizer.load(tmp_path)
