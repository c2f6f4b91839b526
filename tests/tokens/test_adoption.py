"""An adopted tokenizer keeps its own ids, gets K2's special tokens, and serves from documents to packed rows."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from k2model.artifacts import Identity, Store, make
from k2model.corpus import markup
from k2model.corpus.documents import read_documents
from k2model.corpus.markup import SPECIAL_TOKENS
from k2model.recipe.schema import TokenizerConfig, ValidationConfig
from k2model.tokens import K2Tokenizer, PackedSequences, TokensError, sequences_step, tokenizer_step, tokens_step
from k2model.tokens.adoption import adopted, fuzz_texts
from k2model.tokens.validation.check import sequence_findings, token_findings
from tests.tokens.conftest import WORDS
from tests.tokens.phases import PHASE

OWN = ["<|endoftext|>", "<|im_start|>"]  # the second is one of K2's too


def gpt2_like() -> Tokenizer:
    """GPT-2's layout: bytes and merges first; its special tokens behind them, one of which K2 has as well."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    rng = random.Random(0)
    tokenizer.train_from_iterator([" ".join(rng.choices(WORDS, k=50)) for _ in range(40)], trainer)
    tokenizer.add_special_tokens(OWN)
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=4)
    return tokenizer


@pytest.fixture(scope="module")
def specification() -> bytes:
    return gpt2_like().to_str().encode()


def test_own_ids_stay_and_special_tokens_are_appended(specification: bytes) -> None:
    theirs = Tokenizer.from_str(specification.decode())
    size = theirs.get_vocab_size()
    made, appended = adopted(specification, "here")
    ours = K2Tokenizer(made.to_str())
    assert appended == len(SPECIAL_TOKENS) - 1
    assert ours.vocab_size == size + appended
    assert ours.special(markup.IM_START) == theirs.token_to_id(markup.IM_START) == size - 1
    rest = [name for name in SPECIAL_TOKENS if name != markup.IM_START]
    assert [ours.special(name) for name in rest] == list(range(size, size + appended))
    theirs.no_truncation()
    theirs.no_padding()
    for text in ("the quiet rivers; 東京 12", "x"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    assert made.encode("the").ids == [ours.bos, *ours.encode("the")]


def test_no_text_becomes_a_special_token(specification: bytes) -> None:
    ours = K2Tokenizer(adopted(specification, "here")[0].to_str())
    text = "".join([*SPECIAL_TOKENS, *OWN])
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert not {*ids} & {
        *map(ours.special, SPECIAL_TOKENS),
        Tokenizer.from_str(specification.decode()).token_to_id(OWN[0]),
    }


def test_the_sample_holds_all_planes_and_is_the_same_each_time() -> None:
    texts = fuzz_texts()
    assert texts == fuzz_texts()
    points = {ord(character) for text in texts for character in text}
    assert {point >> 16 for point in points} >= set(range(17)) and min(points) < 32
    assert all(any(name in text for text in texts) for name in SPECIAL_TOKENS)


def lowercase(own: Tokenizer) -> None:
    own.normalizer = normalizers.Lowercase()


def composed(own: Tokenizer) -> None:
    own.normalizer = normalizers.NFC()


def prefixed(own: Tokenizer) -> None:
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


@pytest.mark.parametrize("spoil", [lowercase, composed, prefixed])
def test_what_loses_text_is_refused(spoil: Callable[[Tokenizer], None]) -> None:
    own = gpt2_like()
    spoil(own)
    with pytest.raises(TokensError, match=r"^here: .* comes back from its ids as .*; adopt a byte-level BPE"):
        adopted(own.to_str().encode(), "here")


def test_a_prefix_that_decoding_strips_is_refused() -> None:
    """Each text comes back alone, and yet two pieces of a document would lose what is between them."""
    own = Tokenizer(models.BPE({"▁": 0, **{f"<0x{i:02X}>": i + 1 for i in range(256)}}, [], byte_fallback=True))
    own.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    own.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    assert own.decode(own.encode("a b").ids) == "a b"
    with pytest.raises(TokensError, match="here: texts that are encoded apart do not decode to their concatenation"):
        adopted(own.to_str().encode(), "here")


def test_a_merge_that_forges_markup_is_refused() -> None:
    content = json.loads(gpt2_like().to_str())
    content["model"]["ignore_merges"] = True
    content["pre_tokenizer"]["use_regex"] = False
    size = len(content["model"]["vocab"])
    content["model"]["vocab"]["<think>"] = size
    for number, token in enumerate(content["added_tokens"]):
        token["id"] = size + 1 + number
    with pytest.raises(TokensError, match="plain text '<think>' gives the special token '<think>'"):
        adopted(json.dumps(content).encode(), "here")


def test_holes_and_nonsense_are_refused() -> None:
    content = json.loads(gpt2_like().to_str())
    content["added_tokens"][1]["id"] = 400
    with pytest.raises(TokensError, match=r"here: the added token '<\|im_start\|>' has id 400, but loads as"):
        adopted(json.dumps(content).encode(), "here")
    content = json.loads(gpt2_like().to_str())
    content["added_tokens"] = []
    size = len(content["model"]["vocab"])
    content["model"]["vocab"]["far away"] = 400
    with pytest.raises(TokensError, match=rf"here: no token has id {size}, though ids go up to 400"):
        adopted(json.dumps(content).encode(), "here")
    with pytest.raises(TokensError, match=r"here: not a tokenizer\.json"):
        adopted(b"{}", "here")


def test_a_plain_file_without_special_tokens_is_not_ours(specification: bytes) -> None:
    with pytest.raises(TokensError, match=r"no special token '<\|begin_of_text\|>' \(17 of 18 .* tokenizer\.adopt"):
        K2Tokenizer(specification.decode())


def put_corpus(store: Store, corpus: Path) -> Any:
    def copy(folder: Path) -> dict[str, float]:
        shutil.copytree(corpus, folder, dirs_exist_ok=True)
        return {}

    return store.build(Identity("corpus", "0", {}, {}), copy)


def test_identity_is_the_content_and_not_the_place(tmp_path: Path, specification: bytes, corpus: Path) -> None:
    store = Store.open(tmp_path / "store")
    source = put_corpus(store, corpus)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_bytes(specification)
    places = [str(tmp_path / "a"), f"file://{tmp_path}/b", str(tmp_path / "b" / "tokenizer.json")]
    made = [
        make(store, tokenizer_step(store, TokenizerConfig(vocab_size=400, adopt=place), source)) for place in places
    ]
    assert made[0] == made[1] == made[2]
    (tmp_path / "b" / "tokenizer.json").write_bytes(specification + b"\n")
    changed = make(store, tokenizer_step(store, TokenizerConfig(vocab_size=400, adopt=places[1]), source))
    assert changed.identity != made[0].identity
    with pytest.raises(TokensError, match=r"\d+ entries .* 17 were appended, .*vocab_size=300; set tokenizer.vocab_s"):
        make(store, tokenizer_step(store, TokenizerConfig(vocab_size=300, adopt=places[0]), source))
    with pytest.raises(TokensError, match=r"tokenizer\.adopt='.*/c': no tokenizer\.json there"):
        make(store, tokenizer_step(store, TokenizerConfig(vocab_size=400, adopt=str(tmp_path / "c")), source))


def test_documents_become_rows_and_come_back(tmp_path: Path, specification: bytes, corpus: Path) -> None:
    store = Store.open(tmp_path / "store")
    (tmp_path / "tokenizer.json").write_bytes(specification)
    source = put_corpus(store, corpus)
    tokenizer = make(store, tokenizer_step(store, TokenizerConfig(vocab_size=400, adopt=str(tmp_path)), source))
    tokens = make(store, tokens_step(store, source, tokenizer))
    rows = store.fetch(make(store, sequences_step(store, PHASE, tokens)))
    words = K2Tokenizer.load(store.fetch(tokenizer))
    counts = json.loads((store.fetch(tokens) / "counts.json").read_text())
    assert (counts["bos"], counts["pad"], counts["vocab_size"]) == (words.bos, words.pad, words.vocab_size)
    assert words.bos > 256 + len(OWN)

    found = [
        *token_findings(store.fetch(tokens), ValidationConfig()).outcomes,
        *sequence_findings(rows, ValidationConfig(max_padding=0.5), PHASE).outcomes,
    ]
    broken = {outcome.name for outcome in found if not outcome.success}
    assert not broken

    texts = {
        "".join(segment["text"] for segment in document["segments"])
        for file in (corpus / "train").glob("*/*.parquet")
        for document in read_documents(file)
    }
    batch = PackedSequences(rows).batch(0, PHASE.global_batch)
    back = set()
    for row, document in zip(batch["tokens"], batch["document"], strict=True):
        pieces = [row[document == number].tolist() for number in range(int(document.max()) + 1)]
        back |= {words.decode(ids) for ids in pieces if (ids[0], ids[-1]) == (words.bos, words.eos)}
    assert len(back) > 8 and back <= texts
