"""Whether an answer is the one that is wanted. Evaluation and synthesis both ask here, and nowhere else.

In this order: letters of choices; times and dates; words, in NFKC and without case, spaces and closing marks; numbers
with their units, exactly; codes and chemical formulas; and what is left, which is mathematics (`\\sqrt{8}` is
`2\\sqrt{2}`), by math-verify in a process that can be ended (`verifying`). Of math-verify's leniency remain that `x=3`
equals 3, that a list without brackets has no order, and that irrational numbers equal their first six decimals.
"""

import re
import unicodedata
from collections.abc import Sequence

from k2model.documents.answers.extraction import final
from k2model.documents.answers.numbers import Quantity, equal_quantities, number, one_form, quantity
from k2model.documents.answers.units import Unit, unit_of
from k2model.documents.answers.verifying import SECONDS, equal_mathematics

LONGEST = 2_000  # characters of mathematics that is compared
DEEPEST = 50  # brackets in one another

_DELIMITERS = re.compile(r"^(?:\$\$?(?!\s*-?[\d.])|\\\(|\\\[)|(?:(?<=\D)\$\$?|\\\)|\\\])$")
_SPACED = re.compile(r"(?<!\\)\\[,!;: ]|~|\\(?:left|right|displaystyle)(?![a-zA-Z])")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm)\s*\{([^{}]*)\}")
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s+)?\(?([A-Za-z])(?:\)\.?|[.:\]])?(?:(?<=[).:\]])\s+(.+))?", re.I | re.S
)
_MATHEMATICS = re.compile(r"[\d\\^_=+*/<>{}|$√∞π°%≤≥≠±×÷∪∩∈]")
_CLOSING = " .!?…*_`\"'“”‘’«»„,;:؟۔،؛।॥。！？、，「」『』《》〈〉"
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?(?::(\d\d))?\s*(?:([ap])\.?\s?m\.?)?", re.IGNORECASE)
_ASSIGNED = re.compile(r"\\?([A-Za-z]\w{0,9}(?:_\{?\w+\}?)?)\s*=\s*([^=]+)")
_SMALL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻₀₁₂₃₄₅₆₇₈₉", "0123456789-0123456789")
_RAISED, _LOWERED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+"), re.compile(r"[₀₁₂₃₄₅₆₇₈₉]+")
_ROOT = re.compile(r"√\s*(\d+|\w|\([^()]*\)|\{[^{}]*\})")
_LETTERS = {ord(sign): rf"\mathbb{{{letter}}}" for sign, letter in zip("ℂℕℚℝℤ", "CNQRZ", strict=True)}
_SIGNS = {"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ",
          "π": r"\pi ", "∞": r"\infty ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
          r"\varnothing": r"\emptyset "}  # fmt: skip
_SCIENTIFIC = re.compile(r"(?<![\w.\\])((?:\d+\.?\d*|\.\d+))[eE]([-+]?\d{1,3})(?![\w.])")
_TRAILING_UNIT = re.compile(
    r"(?<=[\d)}\]])(?:(?:\s|\\[,;:!])*\\(?:text|mathrm|mbox)\s*\{\s*([^{}]*\}(?:\^\{?-?\d)?)\}?"
    r"|\s+([A-Za-z°][A-Za-z°/^0-9]*))\s*$"
)
_BASED = re.compile(r"(\w+?)_\{?(\d+)\}?")
#: Versions and addresses, and what has digits behind letters: H2O, B12. Read as mathematics they would be products.
_CODE = re.compile(r"\d+(?:\.\d+){2,}|[A-Za-z]+\d[A-Za-z\d]*")
_CODED = re.compile(r"[A-Za-z\d.]+")
_BRACKETED = re.compile(r"\\?[({\[](?=.*,)")
_NAMED = re.compile(r"[^\W\d_]{3,}")
_FUNCTIONS = re.compile(r"(?:sin|cos|tan|cot|sec|csc|log|exp|sqrt|mod|lcm|gcd|max|min|pi|inf)\b")
_FORMULA = re.compile(r"[\\^_=+*<>{}|$√∞]")

_NUMERALS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_WRITTEN_OUT = {word: str(value) for value, word in enumerate(_NUMERALS.split())} | {"infinity": r"\infty"}

_ABOUT = re.compile(r"^(?:about|approximately|approx\.?|roughly|≈|~|\\approx)\s*(?=[-+$€£]?\s*[\d.\\])", re.IGNORECASE)
_NEGATIVE = re.compile(r"^(?:minus|negative)\s+(?=[\d.])", re.IGNORECASE)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_DATE_IN_WORDS = (
    re.compile(r"(?P<d>\d{1,2})(?:st|nd|rd|th)?(?: of)? (?P<m>[a-z]{3,9})\.?,? (?P<y>\d{4})", re.IGNORECASE),
    re.compile(r"(?P<m>[a-z]{3,9})\.? (?P<d>\d{1,2})(?:st|nd|rd|th)?,? (?P<y>\d{4})", re.IGNORECASE),
)
_DATED = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}")


def is_accepted(answer: str, accepted: Sequence[str], seconds: float = SECONDS) -> bool | None:
    """Whether the final answer in a text is one of those that are accepted; None where no accepted one can be read.

    A text in which no final answer is found is compared whole. Raises EvaluationError without math-verify.
    """
    given = final(answer) or answer
    verdicts = []
    for one in accepted:
        verdicts.append(same(final(one) or one, given, seconds))
        if verdicts[-1]:
            return True
    return False if False in verdicts else None


def same(wanted: str, answer: str | None, seconds: float = SECONDS) -> bool | None:
    """Whether two answers are equal; False where that takes longer than `seconds` of a processor's time, None where
    `wanted` says nothing or is mathematics that cannot be read.

    Raises EvaluationError without math-verify, where it has to be asked.
    """
    one, other = bare(wanted), bare(answer or "")
    if not one:
        return None
    if not other:
        return False
    named = [_ASSIGNED.fullmatch(text) for text in (one, other)]
    if named[0] and named[1] and named[0][1] != named[1][1]:
        return False
    if all(found or "=" not in text for found, text in zip(named, (one, other), strict=True)):  # x=5 says 5
        one, other = (found[2].strip() if found else text for found, text in zip(named, (one, other), strict=True))
    if one == other:
        return True
    for decide in (_by_letter, _by_time, _by_words, _by_value, _by_code, _by_phrase):
        if (verdict := decide(one, other)) is not None:
            return verdict
    if max(len(one), len(other)) > LONGEST or max(map(_depth, (one, other))) > DEEPEST:
        return False
    return equal_mathematics(_mathematics(one), _mathematics(other), seconds)


def bare(text: str) -> str:
    """An answer without delimiters and spacing of LaTeX, marks of Markdown and a full stop around it, in one form."""
    text = one_form(text).translate(_LETTERS).strip().strip("*`").strip()
    text = _NEGATIVE.sub("-", _ABOUT.sub("", text, count=1), count=1)
    text = _RAISED.sub(lambda found: f"^{{{found[0].translate(_SMALL)}}}", text)
    text = _LOWERED.sub(lambda found: f"_{{{found[0].translate(_SMALL)}}}", text)
    while (inside := _DELIMITERS.sub("", text).strip()) != text:
        text = inside
    if (found := _TEXT.fullmatch(text)) is not None:
        text = found[1].strip()
    if text.startswith("$") and text.endswith("$") and len(text) > 2:
        text = text[1:-1].strip()
    text = text if text.endswith("..") else text.removesuffix(".").strip()
    if len(text) == 1 and (value := unicodedata.numeric(text, None)) is not None and value == int(value):
        return str(int(value))  # V of the Roman numerals and 五
    return _WRITTEN_OUT.get(text.casefold(), text)


def words(text: str) -> str | None:
    """What a text of words says, whatever its case, spaces and closing marks; None where it may be mathematics."""
    text = _TEXT.sub(r"\1", text)
    letters = [one for one in text if one.isalpha()]
    single = len(letters) < 2 and "".join(letters) < "\u0530"  # of Latin, Greek and Cyrillic: a variable
    return None if _MATHEMATICS.search(text) or single or set(letters) <= set("abcxyz") else _phrase(text)


def _phrase(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("i\u0307", "i").replace("\u0131", "i")  # Turkish
    return " ".join(folded.split()).strip(_CLOSING)


def letter_of(text: str) -> tuple[str, str] | None:
    """A choice by its letter (`B`, `(b)`, `B) Paris`, `option B`): in capitals, with what stands behind it."""
    found = _CHOICE.fullmatch(_TEXT.sub(r"\1", text).strip())
    return (found[1].upper(), found[2] or "") if found else None


def _by_letter(one: str, other: str) -> bool | None:
    wanted, given = letter_of(one), letter_of(other)
    if wanted is None or given is None:
        return None
    texts = bool(wanted[1] and given[1])
    return wanted[0] == given[0] and (not texts or bool(same(wanted[1], given[1])))


def _by_time(one: str, other: str) -> bool | None:
    """Dates and times of day, which are no quotients and differences of their numbers."""
    dates = _date(one), _date(other)
    if all(dates):
        return dates[0] == dates[1]
    if any(dates) or _DATED.fullmatch(one) or _DATED.fullmatch(other):
        return False
    clock = _clock(one)
    return None if clock is None else clock == _clock(other)


def _by_words(one: str, other: str) -> bool | None:
    wanted, given = words(one), words(other)
    if wanted is None:
        return False if given is not None and quantity(one) else None
    return wanted == (given if given is not None else other.casefold())


def _by_value(one: str, other: str) -> bool | None:
    wanted, given = quantity(one), quantity(other)
    if wanted and given:
        return equal_quantities(wanted, given)
    parts = {part.value for part in map(number, other.split("=")) if part is not None}
    if len(parts) > 1:
        return False  # 3=5, of which math-verify would take the last
    units = [_unit_behind(text, of) for text, of in ((one, wanted), (other, given))]
    brackets = {found[0].lstrip("\\") for found in map(_BRACKETED.match, (one, other)) if found}
    return False if (all(units) and units[0] != units[1]) or (len(brackets) > 1 and "{" in brackets) else None


def _by_code(one: str, other: str) -> bool | None:
    """Codes and chemical formulas, with their subscripts in any writing."""
    based = [_BASED.fullmatch(text) for text in (one, other)]
    if based[0] and based[1] and one[0].isdigit() and other[0].isdigit():  # 101_2
        return based[0].groups() == based[1].groups()
    plain = [re.sub(r"[_{}\s]", "", _TEXT.sub(r"\1", text)) for text in (one, other)]
    if not all(map(_CODED.fullmatch, plain)) or not any(map(_CODE.fullmatch, plain)):
        return None
    same_code = plain[0].casefold() == plain[1].casefold()
    return None if not same_code and "_" in one + other else same_code  # a_1b_2 is b_2a_1


def _by_phrase(one: str, other: str) -> bool | None:
    """Names and sentences with digits in them, which math-verify would read as products of letters in any order."""
    if all(_NAMED.search(_FUNCTIONS.sub("", text)) and not _FORMULA.search(text) for text in (one, other)):
        return _phrase(one) == _phrase(other)
    return None


def _unit_behind(text: str, of: Quantity | None) -> Unit | str | None:
    """The unit at the end of an expression, which math-verify leaves out."""
    if of:
        return of.unit or None
    found = _TRAILING_UNIT.search(text)
    behind = re.sub(r"[{}]", "", found[1] or found[2] or "").strip() if found else ""
    return unit_of(behind) or behind


def _mathematics(text: str) -> str:
    """As math-verify reads it rightly: 1e3 in digits (it takes e for Euler's number), a set as one, LaTeX for signs."""
    text = _ROOT.sub(lambda found: rf"\sqrt{{{found[1].strip('(){}')}}}", text)
    for sign, tex in _SIGNS.items():
        text = text.replace(sign, tex)
    text = (
        _SPACED.sub("", text)
        .replace("{,}", ",")
        .replace("\\%", "%")
        .replace("\\$", "")
        .replace("$", "")
        .replace("**", "^")
    )
    if re.fullmatch(r"\{[^{}]*\}", text):
        text = rf"\{text[:-1]}\}}"
    return _SCIENTIFIC.sub(r"\1 \\cdot 10^{\2}", text).strip()


def _depth(text: str) -> int:
    depth = deepest = 0
    for one in text:
        depth += (one in "({[") - (one in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _date(text: str) -> tuple[int, int, int] | None:
    """(year, month, day) where a date can be read in one way; 1/2/2024 cannot."""
    if found := _ISO_DATE.fullmatch(text):
        year, month, day = map(int, found.groups())
        return (year, month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None
    for pattern in _DATE_IN_WORDS:
        if (found := pattern.fullmatch(text)) and found["m"][:3].lower() in _MONTHS:
            return int(found["y"]), _MONTHS.index(found["m"][:3].lower()) + 1, int(found["d"])
    return None


def _clock(text: str) -> tuple[int, int, int] | None:
    """(hour, minute, second) of a time of day: with minutes, or with a.m. or p.m."""
    found = _CLOCK.fullmatch(text)
    if not found or not (found[2] or found[4]):
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    if found[4]:
        hour = hour % 12 + (12 if found[4].lower() == "p" else 0)
    return (hour, minute, second) if hour < 24 and minute < 60 and second < 60 else None
