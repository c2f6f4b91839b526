"""Other people's tokenizers, as far as a comparison needs them: ids of a text, and the text of ids.

`tekken` is Mistral's (Apache-2.0), whose vocabulary of 131,072 entries comes with the wheel of `mistral-common` and so
needs no network. Any other is read from its `tokenizer.json`. Not for training: what K2 adopts as its own tokenizer
goes through `TokenizerConfig.adopt`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from k2model.tokens.errors import TokensError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEKKEN = "tekken"
TEKKEN_FILE = "data/tekken_240911.json"
TEKKEN_PACKAGE = "mistral-common==1.8.5"


class Codec(Protocol):
    """What is compared; `K2Tokenizer` is one. No special token is added."""

    @property
    def vocab_size(self) -> int: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Tekken:
    """Mistral's tekken, through its own implementation."""

    def __init__(self) -> None:
        """Raises TokensError when `mistral-common` is not installed."""
        try:
            import mistral_common
            from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
            from mistral_common.tokens.tokenizers.tekken import Tekkenizer
        except ImportError as error:
            raise TokensError(
                f"the tokenizer '{TEKKEN}' comes with a package that cannot be imported ({error}); "
                f"pip install '{TEKKEN_PACKAGE}', or install this project with its extra 'dev'"
            ) from error
        self._policy = SpecialTokenPolicy.KEEP
        self._own: Any = Tekkenizer.from_file(Path(str(mistral_common.__file__)).parent / TEKKEN_FILE)

    @property
    def vocab_size(self) -> int:
        return int(self._own.n_words)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._own.encode(text, bos=False, eos=False) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._own.decode(list(ids), special_token_policy=self._policy))


class HuggingFace:
    """A `tokenizer.json` as it is, without its post-processor."""

    def __init__(self, own: "Tokenizer") -> None:
        self._own = own

    @property
    def vocab_size(self) -> int:
        return int(self._own.get_vocab_size())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._own.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._own.decode(list(ids), skip_special_tokens=False))


def open_peer(name: str) -> Codec:
    """`tekken`, or the tokenizer in the folder or `tokenizer.json` called `name`. Raises TokensError."""
    if name == TEKKEN:
        return Tekken()
    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise TokensError(
            f"'{name}' is no tokenizer to compare with; expected '{TEKKEN}', or a folder or file of tokenizer.json"
        )
    from tokenizers import Tokenizer

    try:
        return HuggingFace(Tokenizer.from_str(file.read_text(encoding="utf-8")))
    except Exception as error:  # `tokenizers` raises nothing more exact
        raise TokensError(f"{file}: not a tokenizer.json that `tokenizers` reads: {error}") from error
