"""The tokenizer as the rest of the project uses it: text is text, special tokens come by name.

Tokens that a file flags as special are control tokens: a tag written inside a document is encoded as the bytes it is
and can never act as markup. Other added tokens are vocabulary and are found in text. Learning the BPE is
`k2model.tokens.bpe`, taking one that exists `k2model.tokens.adoption`; there is no normaliser, so any text survives
encode and decode unchanged.

`cut` says where a text may be cut so that its pieces, encoded apart, give the ids of the whole. BPE merges within
pre-tokens only, so any border between two pre-tokens will do that is still one when the text ends there. Finding
pre-tokens means matching Unicode classes as `tokenizers` does; finding *some* of their borders takes ASCII and white
space alone, whose classes never change. What is not plain ASCII stays together up to the next white space. That cuts
are right is tested against the whole text's ids, for every code point.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from k2model.documents.markup import BOS, EOS, PAD, SPECIAL_TOKENS
from k2model.errors import TokensError

#: Isolated before merging: any numeric character, any ASCII punctuation mark.
ISOLATED = r"\p{N}|[!-/:-@\[-`{-~]"

#: One after another: a word of any script with at most one space or mark before it, one digit, marks and the line
#: breaks behind them, white space up to a line break, white space but for the character that goes with a word.
BY_SCRIPT = r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # White_Space, fixed since Unicode 6.3
_MARK = r"!-/:-@\[-`{-~"
_PLAIN = r"(?![^\x00-\x7f])"
_ON = rf"[^{_SPACE}]*+(?:[\r\n][{_SPACE}]*+[^{_SPACE}]*+)*+"  # up to white space that no mark binds as its line break

_CUT_ISOLATED = rf"""
    \ ?[A-Za-z]++(?:{_PLAIN}[{_MARK}]*|[^{_SPACE}]*)  # a word and the marks behind it, each of which ends a pre-token
    |[{_MARK}]+
    |[0-9]{{1,3}}
    |[{_SPACE}]+(?=[{_SPACE}][A-Za-z])                # white space but for its last character
    |[{_SPACE}](?=[A-Za-z])
    |[{_SPACE}]+(?=[{_MARK}0-9])                      # whole before what is isolated
    |[{_SPACE}]*[^{_SPACE}]+
    |[{_SPACE}]+
"""

_CUT_BY_SCRIPT = rf"""
    \ ?[A-Za-z]++(?:{_PLAIN}|{_ON})
    |[0-9]{{1,3}}
    |\ ?[{_MARK}]++(?:[\r\n]++|[A-Za-z]++{_PLAIN}|(?=[0-9\t\x0b\x0c\ ]))
    |[{_SPACE}]*[\r\n]++(?=[^{_SPACE}])
    |[{_SPACE}]+(?=\ [A-Za-z{_MARK}])                 # what goes with a word or with marks is a space alone
    |[{_SPACE}]*[^{_SPACE}]{_ON}
    |[{_SPACE}]+
"""


def whole(text: str) -> list[str]:
    """No cut at all: right for every tokenizer."""
    return [text]


def cuts_of(specification: dict[str, Any]) -> Callable[[str], list[str]]:
    """How to cut texts for a `tokenizer.json`; `whole` unless its pre-tokeniser is one of this module's.

    Added tokens that are not special are found before pre-tokens are: a cut might go through one.
    """
    model = specification["model"]
    plain = specification.get("normalizer") is None and all(t["special"] for t in specification.get("added_tokens", []))
    if plain and model.get("type") == "BPE" and not model.get("dropout"):
        found = _CUTS.get(json.dumps(specification.get("pre_tokenizer"), sort_keys=True))
        if found is not None:
            return found
    return whole


def _pre_tokenizer(pattern: str, use_regex: bool) -> str:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    return json.dumps({"type": "Sequence", "pretokenizers": [split, level]}, sort_keys=True)


_CUTS = {
    _pre_tokenizer(ISOLATED, True): re.compile(_CUT_ISOLATED, re.VERBOSE).findall,
    _pre_tokenizer(BY_SCRIPT, False): re.compile(_CUT_BY_SCRIPT, re.VERBOSE).findall,
}


TOKENIZER_FILE = "tokenizer.json"


class K2Tokenizer:
    """Byte-level BPE with K2's special tokens, whose ids are looked up by name."""

    def __init__(self, specification: str, where: str = TOKENIZER_FILE) -> None:
        """`specification` is the text of a `tokenizer.json`. Raises TokensError when it is not one of ours."""
        from tokenizers import Tokenizer

        try:
            content = json.loads(specification)
            control = {token["content"] for token in content.get("added_tokens", []) if token["special"]}
            self._own = Tokenizer.from_str(specification)
        except Exception as error:  # the library's own errors are of no other type
            raise TokensError(
                f"{where} is no tokenizer.json ({type(error).__name__}: {str(error)[:200]}); get it again, or "
                "train the tokenizer again"
            ) from error
        self._own.encode_special_tokens = True  # as the text they are
        found = {name: self._own.token_to_id(name) for name in SPECIAL_TOKENS if name in control}
        self._special = {name: index for name, index in found.items() if index is not None}
        if missing := [name for name in SPECIAL_TOKENS if name not in self._special]:
            raise TokensError(
                f"{where}: has no special token '{missing[0]}' ({len(missing)} of {len(SPECIAL_TOKENS)} are missing); "
                "train the tokenizer again, or name this file in tokenizer.adopt, which appends them"
            )
        #: Cuts a text into pieces whose ids, one after another, are the text's.
        self.cut = cuts_of(content)

    @classmethod
    def load(cls, folder: Path | str) -> "K2Tokenizer":
        """Read `tokenizer.json` of a tokenizer artifact or an exported model."""
        path = Path(folder) / TOKENIZER_FILE
        if not path.is_file():
            raise TokensError(f"{path}: no such file; expected the folder of a tokenizer artifact")
        return cls(path.read_text(encoding="utf-8"), str(path))

    @property
    def vocab_size(self) -> int:
        return self._own.get_vocab_size()

    @property
    def bos(self) -> int:
        return self._special[BOS]

    @property
    def eos(self) -> int:
        return self._special[EOS]

    @property
    def pad(self) -> int:
        return self._special[PAD]

    def special(self, name: str) -> int:
        """The id of special token `name`; raises TokensError when there is no such token."""
        if name not in self._special:
            raise TokensError(f"'{name}' is not a special token; there are {', '.join(SPECIAL_TOKENS)}")
        return self._special[name]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no special token is added, none is recognised. Raises TokensError for a lone surrogate."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, on as many threads as `TOKENIZERS_PARALLELISM` allows."""
        try:
            return [encoding.ids for encoding in self._own.encode_batch_fast(texts, add_special_tokens=False)]
        except (TypeError, UnicodeEncodeError) as error:
            raise _not_text(texts) or error from error

    def encode_segments(self, segments: Iterable[Mapping[str, Any]]) -> tuple[list[int], list[bool]]:
        """Ids of a document, and for each whether it is a target.

        Neighbouring text segments of equal loss mask are encoded as one text, so that ids depend on what is
        written and not on how it was put together. The first id is never a target.
        """
        ids: list[int] = []
        loss_mask: list[bool] = []
        for kind, text, target in joined_texts(segments):
            piece = [self.special(text)] if kind == "special" else self.encode(text)
            ids += piece
            loss_mask += [target] * len(piece)
        if loss_mask:
            loss_mask[0] = False
        return ids, loss_mask

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens by name. Bytes that are no valid UTF-8 become U+FFFD."""
        return self._own.decode(list(ids), skip_special_tokens=False)


def _not_text(texts: Sequence[str]) -> TokensError | None:
    """What is wrong with the first of `texts` that has no UTF-8."""
    for number, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return TokensError(
                f"text {number} has half a character, U+{ord(text[error.start]):04X} at character {error.start}, which "
                "has no UTF-8; decode its source with errors='replace', or join the surrogate pair it was cut from"
            )
    return None


def joined_texts(segments: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """(kind, text, loss_mask), `text` or `special`; neighbouring text and frame of equal loss mask are one text."""
    pending: tuple[str, str, bool] | None = None
    for segment in segments:
        kind, text, loss_mask = segment["kind"], segment["text"], bool(segment["loss_mask"])
        if kind not in ("text", "frame", "special"):
            raise TokensError(f"a segment has kind '{kind}'; expected 'text', 'frame' or 'special'")
        kind = "special" if kind == "special" else "text"
        if pending and kind == "text" and (pending[0], pending[2]) == ("text", loss_mask):
            pending = (kind, pending[1] + text, loss_mask)
            continue
        if pending:
            yield pending
        pending = (kind, text, loss_mask)
    if pending:
        yield pending
