"""Personal data and secrets in natural text, replaced by a placeholder that names their kind.

As K2's curation (personal data removed from web text) with more kinds. Each kind has a quick expression that finds the
texts worth a look and a function that finds it in one: a form, a check of what was found (check digits, numbering
plans, public network addresses only, no documentation examples), and words beside it where digits alone cannot tell.
Numbers in code are never touched (`k2model.curation.code_spans`). Names and postal addresses are not looked for: that
takes a model of language. A text that is JSON (a call of a tool, its definition, its result) stays JSON.

Precision and recall of each kind are measured on tests/curation/data/personal_data.jsonl (docs/data_platform.md).
"""

import json
import re
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation import pii_numbers, pii_strings
from k2model.curation.code_spans import code_spans
from k2model.curation.filters import matches


class Kind(NamedTuple):
    """`hint` (RE2 syntax) occurs in every text that holds one; `find` gives where they stand in a text in `one_form`.

    `number`: not looked for in code, where it is a literal. `again`: `find` takes longer than a look for the hint, so
    texts that any hint is in are asked for this one before.
    """

    hint: str
    find: Callable[[str], Iterator[tuple[int, int]]]
    placeholder: str
    number: bool = True
    again: bool = False


class Found(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int
    kind: str


def remove(strings: pa.LargeStringArray, names: Sequence[str]) -> tuple[pa.LargeStringArray, Counter[str]]:
    """The strings without personal data of these kinds, and how many of each were replaced."""
    found = Counter[str]()
    hints = dict.fromkeys(KINDS[name].hint for name in names)
    suspect = matches(strings, "|".join(f"(?:{hint})" for hint in hints))  # few texts are: one look tells
    suspects = strings.filter(pa.array(suspect))
    flags = {name: matches(suspects, KINDS[name].hint) for name in names if KINDS[name].again}
    made = [
        masked(text, [name for name in names if name not in flags or flags[name][row]], found)
        for row, text in enumerate(suspects.to_pylist())
    ]
    if found:
        strings = pc.replace_with_mask(strings, pa.array(suspect), pa.array(made, type=pa.large_string()))
    return strings, found


_HALF = re.compile("[\ud800-\udfff]")  # of a character: it can be escaped and not encoded
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*')
_KEY = re.compile(r'"((?:[^"\\]|\\.){1,60})"\s*:\s*$')


def masked(text: str, kinds: Sequence[str], found: Counter[str], key: str = "") -> str:
    """One text without personal data of these kinds; how many were replaced is added to `found`.

    In a JSON object or array only strings and numbers change, all else stays byte for byte as it was. A string is
    masked as what it says, so escapes are no part of what is found; a number becomes a string. `key` is what a JSON
    object calls the text: it tells what a number is, as a word before it does.
    """
    if _is_json(text):
        return _LITERAL.sub(lambda match: _masked_literal(match, kinds, found), text)
    before = f"{key}: " if key else ""
    pieces, end = list[str](), 0
    for start, stop, kind in spans(before + text, kinds):
        if start >= len(before):
            pieces += text[end : start - len(before)], KINDS[kind].placeholder
            end = stop - len(before)
            found[kind] += 1
    return "".join([*pieces, text[end:]])


def _masked_literal(match: re.Match[str], kinds: Sequence[str], found: Counter[str]) -> str:
    before, literal = found.total(), match[0]
    key = _KEY.search(match.string, max(0, match.start() - 70), match.start())
    made = masked(json.loads(literal) if literal.startswith('"') else literal, kinds, found, key[1] if key else "")
    if found.total() == before:
        return literal
    return json.dumps(made, ensure_ascii=literal.isascii() or _HALF.search(made) is not None)


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def spans(text: str, kinds: Sequence[str]) -> list[Found]:
    """Where personal data of these kinds stands in a text that is no JSON, in order and apart.

    Of two kinds that claim the same characters the one that `KINDS` has first is meant.
    """
    plain = one_form(text)
    taken = list[Found]()
    code: list[tuple[int, int]] | None = None
    for name, kind in KINDS.items():
        if name not in kinds:
            continue
        for start, end in kind.find(plain):
            if kind.number:
                code = code_spans(plain) if code is None else code
                if _overlaps(code, start, end):
                    continue
            if not _overlaps(taken, start, end):
                insort(taken, Found(start, end, name))
    return taken


def _overlaps(those: Sequence[tuple[int, int] | Found], start: int, end: int) -> bool:
    """Whether any of those, which are in order and apart, shares a character with [start, end)."""
    place = bisect_left(those, end, key=lambda one: one[0])
    return place > 0 and those[place - 1][1] > start


# Each becomes one ASCII character, so places stay: digits of other scripts, what stands for a blank, hyphen, plus, @
_DIGITS = "٠۰߀०০੦૦୦௦౦೦൦๐໐༠０"
_PLAIN = (
    {chr(ord(zero) + value): str(value) for zero in _DIGITS for value in range(10)}
    | {chr(code): " " for code in (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)}
    | dict.fromkeys("‐‑‒–−﹣－", "-")
    | {"＋": "+", "﹢": "+", "（": "(", "）": ")", "：": ":", "．": ".", "＠": "@", "／": "/"}
)


_OTHER = re.compile(f"[{''.join(_PLAIN)}]")


def one_form(text: str) -> str:
    """The text with digits, blanks and signs of all scripts as ASCII has them, and every character where it was."""
    return text if text.isascii() else _OTHER.sub(lambda match: _PLAIN[match[0]], text)


#: Of what several claim the first is meant: a password in an address is no e-mail address.
KINDS: dict[str, Kind] = {
    "secret": Kind(pii_strings.SECRET_HINT, pii_strings.secrets, "[SECRET]", number=False, again=True),
    "email": Kind(pii_strings.EMAIL_HINT, pii_strings.email_addresses, "[EMAIL]", number=False, again=True),
    "ip_address": Kind(pii_strings.NETWORK_HINT, pii_strings.network_addresses, "[IP_ADDRESS]", again=True),
    "iban": Kind(pii_numbers.DIGITS_HINT, pii_strings.bank_accounts, "[IBAN]"),
    "credit_card": Kind(pii_numbers.DIGITS_HINT, pii_numbers.payment_cards, "[CREDIT_CARD]"),
    "us_ssn": Kind(pii_numbers.DIGITS_HINT, pii_numbers.social_security_numbers, "[US_SSN]"),
    "phone": Kind(pii_numbers.DIGITS_HINT, pii_numbers.telephone_numbers, "[PHONE]"),
}
