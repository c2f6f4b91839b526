"""The measures against counts done by hand, the peer against its own vocabulary file, losing text is an error."""

import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers

from k2model.cli.main import main
from k2model.inspect.artifact import LookingError, view_of
from k2model.inspect.statistics import texts_by_domain
from k2model.tokens import K2Tokenizer, TokensError
from k2model.tokens.fertility import TEKKEN_FILE, Fertility, fertility, open_peer, reference_texts, words_of


class Pairs:
    """Two bytes to a token, a last odd byte one of its own: everything can be counted by hand."""

    vocab_size = 65_536 + 256

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[256 + data[i] * 256 + data[i + 1] if i + 1 < len(data) else data[i] for i in range(0, len(data), 2)]
                for data in (text.encode() for text in texts)]  # fmt: skip

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(bytes([i]) if i < 256 else bytes(divmod(i - 256, 256)) for i in ids).decode()


def test_measures_equal_those_counted_by_hand() -> None:
    # "a cat, a1" is 9 bytes: 5 pairs. " a" (3 times with the text "a") is 1 token, " cat" 2. "é" is 2 bytes, " é" 3: 2.
    rows = fertility(Pairs(), {"prose": ["a cat, a1", "a"], "marks": ["12"], "accents": ["é"], "none": []})
    assert rows == [
        Fertility("prose", texts=2, bytes=10, tokens=6, words=4, word_tokens=5, one_token_words=3),
        Fertility("marks", texts=1, bytes=2, tokens=1, words=0, word_tokens=0, one_token_words=0),
        Fertility("accents", texts=1, bytes=2, tokens=1, words=1, word_tokens=2, one_token_words=0),
        Fertility("none", texts=0, bytes=0, tokens=0, words=0, word_tokens=0, one_token_words=0),
    ]
    assert [row.tokens_per_word for row in rows] == [5 / 4, None, 2, None]
    assert [row.bytes_per_token for row in rows] == [10 / 6, 2, 2, None]
    assert [row.one_token_share for row in rows] == [3 / 4, None, 0, None]


def test_words_are_letters_with_their_marks_in_any_script() -> None:
    assert words_of("don't x_1 = 3e5; naïve") == ["don", "t", "x", "e", "naïve"]
    assert words_of("كِتَاب، 12 دينار e\u0301t") == ["كِتَاب", "دينار", "e\u0301t"]


def test_a_text_that_does_not_come_back_is_named() -> None:
    class Lower(Pairs):
        def decode(self, ids: Sequence[int]) -> str:
            return super().decode(ids).lower()

    with pytest.raises(TokensError, match=r"lower: text 1 of prose .* 'Bc' at character 1 comes back as 'bc'"):
        fertility(Lower(), {"prose": ["fine", "aBc"]}, "lower")


def test_own_texts_have_four_domains_and_twenty_arabic_sentences() -> None:
    texts = reference_texts()
    assert list(texts) == ["english", "arabic", "code", "mathematics"]
    assert len(set(texts["arabic"])) >= 20
    assert all("\u0600" <= word[0] <= "\u06ff" for text in texts["arabic"] for word in words_of(text))
    assert all(len(own) == len(set(own)) >= 8 for own in texts.values())


def test_tekken_gives_the_tokens_of_its_vocabulary_file() -> None:
    import mistral_common

    peer = open_peer("tekken")
    content = json.loads((Path(str(mistral_common.__file__)).parent / TEKKEN_FILE).read_text())
    special = content["config"]["default_num_special_tokens"]
    rank = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in content["vocab"][:130_072]}
    assert peer.vocab_size == 131_072
    # A word of the vocabulary is one token whose id is its rank behind the special tokens; digits stand alone.
    for word in (" river", " the", " كتاب", "7"):
        assert peer.encode_batch([word]) == [[rank[word.encode()] + special]]
    assert len(peer.encode_batch(["2024"])[0]) == 4
    rows = fertility(peer, reference_texts(), "tekken")
    english, arabic = rows[0], rows[1]
    assert english.tokens_per_word and arabic.tokens_per_word
    assert 1 < english.tokens_per_word < arabic.tokens_per_word < 2.5


def test_a_peer_that_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TokensError, match=r"'tekkn' is no tokenizer .* expected 'tekken', or a folder"):
        open_peer("tekkn")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokensError, match=r"tokenizer.json: not a tokenizer"):
        open_peer(str(tmp_path))
    monkeypatch.setitem(sys.modules, "mistral_common", None)
    with pytest.raises(TokensError, match=r"pip install 'mistral-common==1\.8\.5'"):
        open_peer("tekken")


def test_a_plain_tokenizer_json_is_a_peer(tmp_path: Path) -> None:
    own = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own.save(str(tmp_path / "tokenizer.json"))
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        assert open_peer(str(place)).encode_batch(["a b", "b"]) == [[0, 1], [1]]
    with pytest.raises(TokensError, match=r"text 0 of x does not come back"):
        fertility(open_peer(str(tmp_path)), {"x": ["ab"]})


def test_texts_of_a_corpus_come_by_domain_and_stop_at_the_limit(corpus: Path, tokens: Path) -> None:
    view = view_of(str(corpus), "")
    texts = texts_by_domain(view, "heldout", 10**9)
    assert list(texts) == ["knowledge", "mathematics", "prose", "tools"]
    assert len(texts["knowledge"]) == 6 and len(texts["prose"]) == 12
    assert len(texts_by_domain(view, "train", 1)["prose"]) == 1
    assert texts_by_domain(view, "train", 1)["prose"] == texts_by_domain(view, "train", 10**9)["prose"][:1]
    with pytest.raises(LookingError, match="no column 'domain'; expected the documents"):
        texts_by_domain(view_of(str(tokens), ""), "train", 100)


def test_the_command_measures_both_on_a_corpus(corpus: Path, tokenizer_folder: Path, tokenizer: K2Tokenizer) -> None:
    arguments = ["tokenizer", str(tokenizer_folder), "--corpus", str(corpus), "--against", str(tokenizer_folder)]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["vocabulary"] == {str(tokenizer_folder): 340}
    rows = found["domains"]
    assert [row["domain"] for row in rows[::2]] == ["knowledge", "mathematics", "prose", "tools"]
    texts = texts_by_domain(view_of(str(corpus), ""), "heldout", 10**9)["prose"]
    assert rows[4] == rows[5]
    assert rows[4]["tokens"] == sum(len(tokenizer.encode(text)) for text in texts)
    table = CliRunner().invoke(main, arguments)
    assert table.exit_code == 0 and f"{rows[4]['bytes per token']:.3f}" in table.output
    nothing = CliRunner().invoke(main, ["tokenizer", str(corpus)])
    assert nothing.exit_code == 1 and "holds no tokenizer.json" in nothing.output
