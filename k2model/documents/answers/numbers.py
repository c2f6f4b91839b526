"""Numbers as people and models write them, read exactly: `1,234.50`, `.5`, `1e3`, `2.5 × 10^3`, `3/4`, `1 1/2`, `٣٫٥`.

A value is a Fraction, of whatever size; a Decimal where its exponent is too large to write it out. Thousands are
separated where that is well-formed alone: `1,2,3` is no number. What could be read in two ways is read as in English,
so that `1,234` is a whole number and `1.234` is not; `1.234,50` can only be read in one.
"""

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import NamedTuple

from k2model.documents.answers.units import Unit, unit_of

LONGEST = 100_000  # characters of a number; beyond, it is text
LARGEST_EXPONENT = 10_000  # of ten; beyond, a number is not written out
ROUNDED = 6  # decimals of a fraction that has no end: 0.333333 is 1/3, 0.333 is not


class Number(NamedTuple):
    """places: digits behind the point, of what is written as a decimal; None of a fraction."""

    value: Fraction | Decimal
    places: int | None


class Quantity(NamedTuple):
    """unit: a Unit, the words of an unknown one, "%", or "" where there is none. glued: a letter right behind the
    digits, which in algebra is a factor."""

    number: Number
    unit: Unit | str
    glued: bool = False


def _listed(text: str) -> list[str]:
    return text.split()


_MINUS = "\u2212\u2010\u2011\u2012\ufe63\uff0d"
_UNSEEN = "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\u061c\u00ad"
_SPACES = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t"
_CHARACTERS = (
    {ord(one): "-" for one in _MINUS}
    | {ord(one): None for one in _UNSEEN}
    | {ord(one): " " for one in _SPACES}
    | {point: chr(point - 0xFEE0) for point in range(0xFF01, 0xFF5F) if point != 0xFF0D}
    | {point: unicodedata.normalize("NFKC", chr(point)) for point in range(0x1D400, 0x1D800)}  # of mathematics
    | {0x066B: ".", 0x066C: ",", 0x066A: "%", 0x2044: "/", 0x2215: "/", 0x60C: ",", 0x2019: "'"}
)
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_VULGAR = re.compile(r"(\d?)([¼-¾⅐-⅞])")
_DASH = re.compile(r"(?<![\w)\]}])[–—](?=[\d.\\])")

_GROUPED = "|".join(rf"\d{{1,3}}(?:{mark}\d{{3}})+" for mark in (",", " ", "'", "_", r"\{,\}", r"\\,"))
_INDIAN = r"\d{1,2}(?:,\d{2})+,\d{3}"
_CONTINENTAL = r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?: \d{3})+,\d+"
_PLAIN = r"\d+(?:\.\d*)?|\.\d+"
_REPEATING = r"\d*\.\d*(?:\\(?:overline|bar)\s*(?:\{\d+\}|\d)|\(\d+\))"
_POWER = r"(?:[eE][-+]?\d+(?![\w.])|\s*(?:\*|×|·|\\times|\\cdot)\s*10\s*\^\s*(?:\{\s*[-+]?\d+\s*\}|[-+]?\d+))"
_DECIMAL = rf"(?:{_REPEATING}|{_CONTINENTAL}|(?:{_INDIAN}|{_GROUPED})(?:\.\d+)?|{_PLAIN}){_POWER}?"
_TEX = r"(?:\d+\s*)?\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)"
_MIXED = r"\d+ \d+/\d+"
_RATIO = rf"(?:{_DECIMAL})\s*/\s*(?:{_DECIMAL})"
_LEADING = re.compile(rf"([-+]?)\s*({_TEX}|{_MIXED}|{_RATIO}|{_DECIMAL})(?![\d])")
_FRACTION_PARTS = re.compile(r"(\d*)\s*\\[dt]?frac\s*(\{[^{}]*\}|\d)\s*(\{[^{}]*\}|\d)")
_SCIENTIFIC = re.compile(r"(.*?)(?:[eE]|\s*(?:\*|×|·|\\times|\\cdot)\s*10\s*\^\s*\{?\s*)([-+]?\d+)\s*\}?")
_REPEATED = re.compile(r"(\d*)\.(\d*)(?:\\(?:overline|bar)\s*\{?|\()(\d+)[})]?")
_CONTINENTAL_WHOLE = re.compile(_CONTINENTAL)

#: In running text: no spaces in a number, no fraction that is a date, no minus behind a word.
_SAID_GROUPED = r"\d{1,3}(?:\.\d{3})+,\d{1,2}|\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?"
_SAID_DECIMAL = rf"(?:{_SAID_GROUPED}|\d+(?:\.\d+)?|\.\d+)(?!\d){_POWER}?"
_SAID = re.compile(
    rf"((?:(?<![\w)\]}}])-)?)({_TEX}|(?<![\w/.])(?:{_SAID_DECIMAL})/(?:{_SAID_DECIMAL})(?![\w/])|{_SAID_DECIMAL})"
    r"(\s?\\?%)?"
)

_CURRENCY = re.compile(r"([-+]?)\s*(US\$|\\?\$|€|£|¥|₹|(?:USD|EUR|GBP|JPY|INR)(?= ?[\d.]))\s*(?=[-+]?[\d.\\])")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm|operatorname)\s*\{([^{}]*)\}")
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?\s*")
_THIN = re.compile(r"\\[,;:! ]|~")
_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7} | {
    "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_WORDS = re.compile(r"[^\W\d_]{3,}(?: [^\W\d_]{2,}){0,3}")
#: Words behind a number that make it another number, or none.
_NO_UNITS = frozenset(_SCALES).union(
    _listed(
        "and are but factorial fifth fifths fourth fourths half halves less minus more nor not over plus quarter "
        "quarters score squared cubed than the then third thirds times with mod root choose divided exactly about"
    )
)


def one_form(text: str) -> str:
    """Text in NFC, with ASCII's digits, minus, spaces and full-width marks, and without marks that nobody sees."""
    text = unicodedata.normalize("NFC", text).translate(_CHARACTERS)
    text = _FOREIGN_DIGIT.sub(lambda found: str(unicodedata.decimal(found[0])), text)
    text = _VULGAR.sub(_vulgar, text)
    return _DASH.sub("-", text)


def _vulgar(found: re.Match[str]) -> str:
    """`2½` as `2 1/2`."""
    ratio = unicodedata.normalize("NFKC", found[2]).replace("\u2044", "/")
    return f"{found[1]} {ratio}" if found[1] else ratio


def number(text: str) -> Number | None:
    """The number that a text in one form is, sign and all; None where it is none or more than that."""
    text = text.strip()
    found = _LEADING.match(text) if len(text) <= LONGEST else None
    return _read(found[1], found[2]) if found and found.end() == len(text) else None


def last_number(text: str) -> Quantity | None:
    """The last number in running text, with the percent sign behind it; None where there is none."""
    *_, last = (None, *_SAID.finditer(one_form(text)))
    if last is None or len(last[2]) > LONGEST or (read := _read(last[1], last[2])) is None:
        return None
    return Quantity(read, "%" if last[3] else "")


def quantity(text: str) -> Quantity | None:
    """The number and unit that a text in one form is; None where it says more or something else."""
    text = text.strip()
    money = _CURRENCY.match(text) if len(text) <= LONGEST else None
    if money:
        text = money[1] + text[money.end() :]
    found = _LEADING.match(text) if len(text) <= LONGEST else None
    if found is None or (read := _read(found[1], found[2])) is None:
        return None
    rest = text[found.end() :]
    unit = _DEGREES.sub("°", _TEXT.sub(r" \1", _THIN.sub(" ", rest)))
    unit = re.sub(r"\\mu\s*", "µ", unit)
    glued = unit == rest and len(unit) == 1 and unit.isalpha()
    unit = " ".join(unit.replace("\\", "").split()).rstrip(".")
    scale, _, behind = unit.partition(" ")
    if factor := _SCALES.get(scale.casefold()):
        read, unit = Number(read.value * factor, None if read.places is None else 0), behind
    if money:
        return Quantity(read, unit_of(money[2].lstrip("\\")) or "") if not unit else None
    if unit.casefold() in ("%", "percent", "per cent"):
        return Quantity(read, "%")
    if not unit:
        return Quantity(read, "")
    if known := unit_of(unit):
        return Quantity(read, known, glued)
    words = unit.casefold()
    named = rest[0] in " \\~" and _WORDS.fullmatch(words) and _NO_UNITS.isdisjoint(words.split())
    return Quantity(read, words.removesuffix("s")) if named else None


def equal_numbers(wanted: Number, given: Number) -> bool:
    """Whether two are equal: exactly, or as a fraction without end and at least ROUNDED of its decimals."""
    if wanted.value == given.value:
        return True
    return any(_is_rounded(exact, decimals) for exact, decimals in ((wanted, given), (given, wanted)))


def _is_rounded(exact: Number, decimals: Number) -> bool:
    """Whether `decimals` is written as the first ROUNDED decimals or more of a fraction without end."""
    places, values = decimals.places or 0, (exact.value, decimals.value)
    if exact.places is not None or places < ROUNDED or any(isinstance(one, Decimal) for one in values):
        return False
    shifted, written = (Fraction(one) * 10**places for one in values)
    return not _ends(Fraction(exact.value)) and written in (int(shifted), round(shifted))


def equal_quantities(wanted: Quantity, given: Quantity) -> bool:
    """Whether two are equal. A unit that only one of them names is taken as the other's; beside a percentage a bare
    number is the same share (0.5 for 50%), or above one the same percentage (50 for 50%)."""
    one, other = wanted.unit, given.unit
    if one == other:
        return equal_numbers(wanted.number, given.number)
    if "" in (one, other):
        if "%" in (one, other):
            percent, bare = (wanted, given) if wanted.unit == "%" else (given, wanted)
            same = not -1 <= bare.number.value <= 1 and equal_numbers(percent.number, bare.number)
            return same or equal_numbers(_hundredth(percent.number), bare.number)
        return not (wanted.glued or given.glued) and equal_numbers(wanted.number, given.number)
    if not isinstance(one, Unit) or not isinstance(other, Unit) or one.dimensions != other.dimensions:
        return False
    return equal_numbers(_times(wanted.number, one.factor), _times(given.number, other.factor))


def told(one: Quantity) -> str:
    """A value in writing, the same for equal ones: so that votes are counted."""
    value = (_hundredth(one.number) if one.unit == "%" else one.number).value
    if isinstance(value, Decimal):
        return f"{value:e}"
    above, below = (str(Decimal(part)) for part in (value.numerator, value.denominator))
    return above if below == "1" else f"{above}/{below}"


def _hundredth(one: Number) -> Number:
    return Number(one.value / 100, None if one.places is None else one.places + 2)


def _times(one: Number, factor: Fraction) -> Number:
    return one if factor == 1 or isinstance(one.value, Decimal) else Number(one.value * factor, one.places)


def _ends(value: Fraction) -> bool:
    """Whether its decimals come to an end: its denominator has the factors 2 and 5 alone."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _read(sign: str, text: str) -> Number | None:
    minus = -1 if sign == "-" else 1
    if found := _FRACTION_PARTS.fullmatch(text):
        return _ratio(minus, found[1] or "0", *(part.strip("{}") for part in found.groups()[1:]))
    if "/" in text:
        *whole, ratio = text.split(" ") if re.fullmatch(_MIXED, text) else [text]
        return _ratio(minus, whole[0] if whole else "0", *ratio.split("/"))
    if (value := _decimal(text)) is None:
        return None
    if "." in text and _REPEATED.fullmatch(text):
        return Number(minus * value, None)
    mantissa, _, _ = text.lower().partition("e")
    point = "," if _CONTINENTAL_WHOLE.fullmatch(mantissa) else "."
    written = mantissa.rpartition(point)[2] if point in mantissa else ""
    return Number(
        value if minus > 0 else -value if isinstance(value, Fraction) else value.copy_negate(),
        len(written) if written.isdigit() and mantissa == text else 0,
    )


def _ratio(minus: int, whole: str, above: str, below: str) -> Number | None:
    parts = [_decimal(one.strip().lstrip("-+").strip()) for one in (whole, above, below)]
    if any(not isinstance(part, Fraction) for part in parts) or not parts[2]:
        return None
    signs = -1 if (above.strip().startswith("-")) != (below.strip().startswith("-")) else 1
    return Number(minus * (parts[0] + signs * parts[1] / parts[2]), None)  # type: ignore[operator]


def _decimal(text: str) -> Fraction | Decimal | None:
    """A number without sign; exact, though Python refuses to read whole numbers of more than 4,300 digits."""
    if found := _REPEATED.fullmatch(text):
        whole, once, again = (part or "0" for part in found.groups())
        shift = 10 ** len(found[2])
        return int(whole) + (int(once) + Fraction(int(again), 10 ** len(again) - 1)) / shift
    exponent = ""
    if found := _SCIENTIFIC.fullmatch(text):
        text, exponent = found[1], found[2]
    if _CONTINENTAL_WHOLE.fullmatch(text):
        text = text.replace(".", "").replace(" ", "").replace(",", ".")
    digits = re.sub(r"[, '_{}\\]", "", text)
    try:
        value = Decimal(digits + (f"e{exponent}" if exponent else ""))
    except InvalidOperation:
        return None
    if not value:
        return Fraction(0)
    return value if abs(value.adjusted()) > LARGEST_EXPONENT + len(text) else Fraction(value)
