"""How well a tokenizer, ours or another's, fits a kind of text: tokens per word, bytes per token, one-token words.

A word is a run of letters and combining marks of any script, encoded for itself with one space before it (the form in
which it mostly occurs), and counted as often as it occurs. So tokens per word, the fertility of Rust et al. 2021
(arXiv:2012.15613), says nothing of digits and marks, whose splitting is a rule and not learned; bytes per token is of
whole texts and includes them. Scripts without spaces between words give long "words": compare tokenizers there, not
languages. A text that does not come back from its ids is an error: what loses text needs no comparison.

Another's tokenizer is asked for no more than ids of a text and the text of ids (`Codec`). `tekken` is Mistral's
(Apache-2.0), whose vocabulary of 131,072 entries comes with the wheel of `mistral-common` and so
needs no network. Any other is read from its `tokenizer.json`. Not for training: what K2 adopts as its own tokenizer
goes through `TokenizerConfig.adopt`.
"""

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from k2model.errors import TokensError

TEKKEN = "tekken"
TEKKEN_FILE = "data/tekken_240911.json"
TEKKEN_PACKAGE = "mistral-common==1.8.5"


class Codec(Protocol):
    """What is compared; `K2Tokenizer` is one. No special token is added."""

    @property
    def vocab_size(self) -> int: ...

    def encode_batch(self, texts: Sequence[str], /) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int], /) -> str: ...


class _Peer(NamedTuple):
    """Another's tokenizer as a `Codec`."""

    vocab_size: int
    encode_batch: Callable[[Sequence[str]], list[list[int]]]
    decode: Callable[[Sequence[int]], str]


def open_peer(name: str) -> Codec:
    """`tekken`, through its own implementation, or the `tokenizer.json` at the file or folder `name`, without its
    post-processor. Raises TokensError when there is none, or `mistral-common` is not installed."""
    if name == TEKKEN:
        return _tekken()
    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise TokensError(
            f"'{name}' is no tokenizer to compare with; expected '{TEKKEN}', or a folder or file of tokenizer.json"
        )
    from tokenizers import Tokenizer

    try:
        own = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # `tokenizers` raises nothing more exact
        raise TokensError(f"{file}: not a tokenizer.json that `tokenizers` reads: {error}") from error
    return _Peer(
        own.get_vocab_size(),
        lambda texts: [one.ids for one in own.encode_batch_fast(list(texts), add_special_tokens=False)],
        lambda ids: own.decode(list(ids), skip_special_tokens=False),
    )


def _tekken() -> Codec:
    try:
        import mistral_common
        from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    except ImportError as error:
        raise TokensError(
            f"the tokenizer '{TEKKEN}' comes with a package that cannot be imported ({error}); "
            f"pip install '{TEKKEN_PACKAGE}', or install this project with its extra 'dev'"
        ) from error
    own = Tekkenizer.from_file(Path(str(mistral_common.__file__)).parent / TEKKEN_FILE)
    return _Peer(
        own.n_words,
        lambda texts: [own.encode(text, bos=False, eos=False) for text in texts],
        lambda ids: own.decode(list(ids), special_token_policy=SpecialTokenPolicy.KEEP),
    )


REFERENCE_TEXTS = Path(__file__).with_name("reference_texts.toml")


@dataclass(frozen=True)
class Fertility:
    """Counts of one tokenizer on the texts of one domain; measures are None where they have no denominator."""

    domain: str
    texts: int
    bytes: int  # of UTF-8
    tokens: int  # of the whole texts
    words: int  # with repetition
    word_tokens: int  # of the words, each with a space before it
    one_token_words: int

    @property
    def tokens_per_word(self) -> float | None:
        return self.word_tokens / self.words if self.words else None

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.tokens else None

    @property
    def one_token_share(self) -> float | None:
        return self.one_token_words / self.words if self.words else None


def fertility(tokenizer: Codec, texts: Mapping[str, Sequence[str]], name: str = "the tokenizer") -> list[Fertility]:
    """One row for each domain of `texts`, in their order.

    Raises TokensError, which calls the tokenizer `name`, for a text that does not come back from its ids.
    """
    return [_measured(tokenizer, domain, list(own), name) for domain, own in texts.items()]


def reference_texts() -> dict[str, list[str]]:
    """The project's own texts (CC0): English and Arabic prose, code, mathematics."""
    with REFERENCE_TEXTS.open("rb") as file:
        return {domain: table["texts"] for domain, table in tomllib.load(file).items()}


def words_of(text: str) -> list[str]:
    """Runs of letters and combining marks."""
    return [piece for piece, _ in _splitter().pre_tokenize_str(text)]


def _measured(tokenizer: Codec, domain: str, texts: list[str], name: str) -> Fertility:
    ids = tokenizer.encode_batch(texts)
    for number, (text, own) in enumerate(zip(texts, ids, strict=True)):
        _check_round_trip(text, tokenizer.decode(own), f"{name}: text {number} of {domain}")
    words = Counter(word for text in texts for word in words_of(text))
    lengths = [len(own) for own in tokenizer.encode_batch([f" {word}" for word in words])]
    counted = list(zip(lengths, words.values(), strict=True))
    return Fertility(
        domain=domain,
        texts=len(texts),
        bytes=sum(len(text.encode("utf-8")) for text in texts),
        tokens=sum(map(len, ids)),
        words=words.total(),
        word_tokens=sum(length * times for length, times in counted),
        one_token_words=sum(times for length, times in counted if length == 1),
    )


def _check_round_trip(text: str, back: str, where: str) -> None:
    if back == text:
        return
    at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    raise TokensError(
        f"{where} does not come back from its ids: {text[at : at + 20]!r} at character {at} comes back as "
        f"{back[at : at + 20]!r}; expected a byte-level tokenizer without a normaliser"
    )


@lru_cache(maxsize=1)
def _splitter() -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(r"[\p{L}\p{M}]+"), behavior="removed", invert=True)
