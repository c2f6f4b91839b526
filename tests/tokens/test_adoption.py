"""An adopted tokenizer keeps its own ids, gets K2's special tokens, and serves from documents to packed rows."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from k2model.artifacts import Identity, Store, make
from k2model.documents import markup
from k2model.documents.markup import SPECIAL_TOKENS
from k2model.documents.schema import read_documents
from k2model.documents.spans import segments_of
from k2model.recipe.schema import TokenizerConfig, ValidationConfig
from k2model.tokens import K2Tokenizer, PackedSequences, TokensError, sequences_step, tokenizer_step, tokens_step
from k2model.tokens.adoption import adopt_folder, adopted, fuzz_texts
from k2model.tokens.encoder import Encoder
from k2model.validation.tokens import tokens_checks_step
from k2model.validation.tokens.step import sequence_findings
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


def removing(own: Tokenizer) -> None:
    own.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), own.pre_tokenizer])


def metaspace(own: Tokenizer) -> None:
    own.pre_tokenizer, own.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()


def by_chance(own: Tokenizer) -> None:
    own.model.dropout = 0.1


def suffixed(own: Tokenizer) -> None:
    own.model.end_of_word_suffix = "</w>"


def other_decoder(own: Tokenizer) -> None:
    own.decoder = decoders.BPEDecoder()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lowercase, "it has the normalizer Lowercase"),
        (composed, "it has the normalizer NFC"),
        (prefixed, '"add_prefix_space": true.* does not keep text'),
        (removing, '"Removed".* does not keep text'),
        (metaspace, "Metaspace.* does not keep text"),
        (by_chance, r"its BPE has dropout=0\.1"),
        (suffixed, "its BPE has end_of_word_suffix='</w>'"),
        (other_decoder, "it is not byte-level"),
    ],
)
def test_what_changes_text_is_refused_by_name(spoil: Callable[[Tokenizer], None], message: str) -> None:
    own = gpt2_like()
    spoil(own)
    with pytest.raises(TokensError, match=rf"^here: .*{message}.*; adopt a plain byte-level BPE"):
        adopted(own.to_str().encode(), "here")


def test_another_model_and_missing_bytes_are_refused_by_name() -> None:
    content = json.loads(gpt2_like().to_str())
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]], "byte_fallback": False}
    with pytest.raises(TokensError, match="here: its model is Unigram, not BPE"):
        adopted(json.dumps(content | {"model": unigram, "added_tokens": []}).encode(), "here")
    vocabulary = content["model"]["vocab"]
    for unused in "Àÿ":  # what UTF-8 never has may be missing
        vocabulary[f"unused {unused}"] = vocabulary.pop(unused)
    assert adopted(json.dumps(content).encode(), "here")
    vocabulary["rare"] = vocabulary.pop("ñ")
    with pytest.raises(TokensError, match="lacks 1 of the bytes of UTF-8, among them the one written 'ñ'"):
        adopted(json.dumps(content).encode(), "here")  # its added tokens stand behind the vocabulary
    inside = {token["content"]: token["id"] for token in content["added_tokens"]}
    whole, appended = adopted(
        json.dumps(content | {"model": content["model"] | {"vocab": vocabulary | inside}}).encode(), "here"
    )
    assert (
        K2Tokenizer(whole.to_str(), "here").decode(K2Tokenizer(whole.to_str(), "here").encode("\U00070000"))
        == "\U00070000"
    )
    assert (
        whole.token_to_id("ñ") == len(vocabulary | inside)
        and whole.get_vocab_size() == whole.token_to_id("ñ") + appended
    )
    vocabulary["ñ"] = vocabulary.pop("rare")
    vocabulary["unused"] = vocabulary.pop("Ġ")
    content["model"]["merges"] = []
    with pytest.raises(TokensError, match="lacks 1 of the bytes of UTF-8, among them the one written 'Ġ'"):
        adopted(json.dumps(content).encode(), "here")


def with_added(*tokens: AddedToken) -> bytes:
    own = gpt2_like()
    for token in tokens:  # one by one, so that each has the next id
        (own.add_special_tokens if token.special else own.add_tokens)([token])
    return own.to_str().encode()


def added(content: str, special: bool = False, **flags: bool) -> AddedToken:
    return AddedToken(content, special=special, **{"normalized": False, **flags})


SPACES = [added("        "), added("    "), added("  ")]
#: Added tokens of kinds that are about: each file is a list of them.
ADDED: dict[str, list[AddedToken]] = {
    "spaces": [*SPACES, added("<tool_call>")],
    "normalized": [added("\n\n", normalized=True), added("  ", normalized=True), added("<tool_call>"), added("  \n")],
    "single_word": [added("the", single_word=True), added("of", single_word=True, normalized=True), added("  ")],
    "between control tokens": [added("<mask>", special=True, lstrip=True), *SPACES, added("<s>", True), added("quiet")],
    "K2's own": [added("<think>"), added("</think>", rstrip=True), added("<|im_end|>", True, rstrip=True), *SPACES],
    "overlapping": [added("<tool"), added("<tool_call>"), added("tool_call>\n"), added("|||")],
    "letters of other scripts": [added("東京"), added("😀"), added("▁")],
}


def mixed_texts(own: Tokenizer, count: int = 400) -> list[str]:
    """Texts of the added tokens, of their pieces and of others."""
    tokens = [token.content for token in own.get_added_tokens_decoder().values()]
    bits = [content[start:end] for content in tokens for start in range(2) for end in (-1, None)]
    rng = random.Random(1)
    kinds = [tokens, bits, WORDS, [" ", "   ", "\n", "\t", "\r\n", ".", "e\u0301", "\0", "return x", "12"]]
    return ["".join(rng.choice(rng.choice(kinds)) for _ in range(rng.randint(1, 14))) for _ in range(count)]


@pytest.mark.parametrize("name", ADDED)
def test_any_text_has_the_ids_of_the_file_in_every_encoder(name: str, tmp_path: Path) -> None:
    """But for control tokens, which are never made from text here."""
    specification = with_added(*ADDED[name])
    theirs = Tokenizer.from_str(specification.decode())
    theirs.no_truncation()
    theirs.no_padding()
    adopt_folder(specification, 1_000, tmp_path, "here")
    ours = K2Tokenizer.load(tmp_path)
    released = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    control = {*SPECIAL_TOKENS, *(token.content for token in ADDED[name] if token.special), *OWN}
    texts = mixed_texts(theirs)
    ids, lengths = Encoder(ours).encode(texts)
    assert [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] == ours.encode_batch(texts)
    free = [text for text in texts if not any(one in text for one in control)]
    assert len(free) > 80
    for text in free:
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == expected, repr(text)
        assert released(text, add_special_tokens=False)["input_ids"] == expected, repr(text)
    markers = {theirs.token_to_id(one) for one in control} | {ours.special(one) for one in SPECIAL_TOKENS}
    assert not markers & {i for own in ours.encode_batch(texts) for i in own}
    assert [ours.decode(own) for own in ours.encode_batch(texts)] == texts
    vocabulary = {theirs.token_to_id(token.content) for token in ADDED[name] if token.content not in control}
    assert vocabulary <= {i for own in ours.encode_batch(free) for i in own}
    for text in free:
        turns = [{"role": role, "content": text} for role in ("system", "user", "tool")]
        turns.append({"role": "assistant", "trace": text, "content": text})
        rendered = released.apply_chat_template(turns, reasoning_effort="high", return_dict=False)
        assert rendered == ours.encode_segments(markup.chat(turns, "high"))[0], repr(text)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (added("<x>", lstrip=True), "its added token '<x>' has lstrip, which takes white space"),
        (added("<x>", rstrip=True), "its added token '<x>' has rstrip, which takes white space"),
        (added("<|im_end|>\n"), r"added token '<\|im_end\|>\\n' would hide K2's special token '<\|im_end\|>'"),
        (added("\n<"), r"added token '\\n<' would hide K2's special token"),
        (added("_</thi", special=True), "added token '_</thi' would hide K2's special token '</think>'"),
        (added("naïve"), "'naïve' comes back from its ids as 'na.ve'"),
        (added("\nthe", special=True), r"special token '\\nthe' has a line feed"),
        (added("user", special=True), "an added token is a part of the frame of chats"),
    ],
)
def test_added_tokens_that_break_text_or_markup_are_refused_by_name(token: AddedToken, message: str) -> None:
    with pytest.raises(TokensError, match=rf"^here: .*{message}.*; adopt a plain byte-level BPE"):
        adopted(with_added(token), "here")


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

    checks = make(store, tokens_checks_step(store, ValidationConfig(), tokens))
    assert checks.stats["warnings"] == 0
    found = sequence_findings(rows, ValidationConfig(max_padding=0.5), PHASE).outcomes
    assert not {outcome.name for outcome in found if not outcome.success}

    texts = {
        "".join(segment["text"] for segment in segments_of(document))
        for file in (corpus / "train").glob("*/*.parquet")
        for document in read_documents(file)
    }
    batch = PackedSequences(rows).batch(0, PHASE.global_batch)
    back = set()
    for row, document in zip(batch["tokens"], batch["document"], strict=True):
        pieces = [row[document == number].tolist() for number in range(int(document.max()) + 1)]
        back |= {words.decode(ids) for ids in pieces if (ids[0], ids[-1]) == (words.bos, words.eos)}
    assert len(back) > 8 and back <= texts
