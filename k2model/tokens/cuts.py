r"""Where a text may be cut so that its pieces, encoded apart, give the ids of the whole.

BPE merges within pre-tokens only, so any border between two pre-tokens will do that is still one when
the text ends there. Finding pre-tokens means matching Unicode classes as `tokenizers` does; finding
*some* of their borders takes ASCII and white space alone, whose classes never change. What is not plain
ASCII stays together up to the next white space. Pieces may hold several pre-tokens; that cuts are right
is tested against the whole text's ids, for every code point.
"""

import json
import re
from collections.abc import Callable
from typing import Any

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
