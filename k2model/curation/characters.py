"""Tables over all code points: what a character is, which script it belongs to, and what it counts as when texts are
compared.

**Words.** Where a script has spaces a word is a run of letters and digits, with the marks and joiners within (accents,
vowel signs, tatweel, zero-width non-joiner) and low lines between them. Apostrophes, hyphens and full stops end a word:
Unicode's default rule (UAX #29) keeps some of them inside, but typographic and typewriter forms of them are
interchanged, and a copy of a text has to have the words of the text. Where a script has none (UAX #29 leaves those to
dictionaries) every character is one, with its marks. `SCRIPTS` says how many of these make a word: counts of words, and
widths that are given in words, go by that.

**Matching.** Training text keeps its spelling; texts are compared by what `match_of` leaves of a character: its
compatibility decomposition (NFKD), in one case, decimal digits as ASCII, without accents, Arabic and Hebrew points,
tatweel, joiners and other invisible ones. So texts in NFC, NFD and NFKC are alike. Letters of Arabic that are
interchanged across keyboards and languages are one letter, as Lucene's ArabicNormalizer and PersianNormalizer have
it. Marks without which it is another letter stay: vowel signs of Indic scripts, viramas, tones of Thai, voiced kana.
"""

import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

WORD, ALNUM, SPACE, DIGIT, ALPHA, UPPER, ALONE, MARK = (1 << bit for bit in range(8))
"""ALONE: a letter that is a word by itself. MARK: continues a word and does not begin one."""

CODE_POINTS = 0x110000
_ASSIGNED = 0x32000  # beyond lie Han, variation selectors, tags and private use
_HAN_PLANES = slice(0x20000, 0x3FFFE)
_SELECTORS, _TAGS = slice(0xE0100, 0xE01F0), slice(0xE0000, 0xE0080)

WORD_UNITS = 12  # a word; a character of a script without spaces has fewer
#: Units of a letter: two Han make a word, three kana, three of scripts whose vowels are marks, four of Thai and Lao.
_HAN, _KANA, _ABUGIDA, _THAI = 6, 4, 4, 3
_SPELLED = 2  # of scripts with spaces: five or six

Ranges = tuple[tuple[int, int], ...]

#: By name: units of a character where the script has no spaces, else 0, and Unicode's blocks, [begin, end) each.
SCRIPTS: dict[str, tuple[int, Ranges]] = {
    "Latin": (0, ((0x41, 0x2B0), (0x1D00, 0x1DC0), (0x1E00, 0x1F00), (0x2C60, 0x2C80), (0xA720, 0xA800),
                  (0xAB30, 0xAB70), (0xFB00, 0xFB07), (0xFF21, 0xFF5B))),
    "Greek": (0, ((0x370, 0x400), (0x1F00, 0x2000))),
    "Cyrillic": (0, ((0x400, 0x530), (0x1C80, 0x1C90), (0x2DE0, 0x2E00), (0xA640, 0xA6A0))),
    "Armenian": (0, ((0x530, 0x590), (0xFB13, 0xFB18))),
    "Georgian": (0, ((0x10A0, 0x1100), (0x1C90, 0x1CC0), (0x2D00, 0x2D30))),
    "Hebrew": (0, ((0x590, 0x600), (0xFB1D, 0xFB50))),
    "Arabic": (0, ((0x600, 0x700), (0x750, 0x780), (0x870, 0x900), (0xFB50, 0xFE00), (0xFE70, 0xFEFF))),
    "Syriac": (0, ((0x700, 0x750), (0x860, 0x870))),
    "Thaana": (0, ((0x780, 0x7C0),)),
    "Devanagari": (0, ((0x900, 0x980), (0xA8E0, 0xA900))),
    "Bengali": (0, ((0x980, 0xA00),)),
    "Gurmukhi": (0, ((0xA00, 0xA80),)),
    "Gujarati": (0, ((0xA80, 0xB00),)),
    "Oriya": (0, ((0xB00, 0xB80),)),
    "Tamil": (0, ((0xB80, 0xC00),)),
    "Telugu": (0, ((0xC00, 0xC80),)),
    "Kannada": (0, ((0xC80, 0xD00),)),
    "Malayalam": (0, ((0xD00, 0xD80),)),
    "Sinhala": (0, ((0xD80, 0xE00),)),
    "Tibetan": (0, ((0xF00, 0x1000),)),  # a mark stands between syllables
    "Ethiopic": (0, ((0x1200, 0x13A0), (0x2D80, 0x2DE0), (0xAB00, 0xAB30))),
    "Mongolian": (0, ((0x1800, 0x18B0),)),
    "Hangul": (0, ((0x1100, 0x1200), (0x3130, 0x3190), (0xA960, 0xA980), (0xAC00, 0xD800), (0xFFA0, 0xFFE0))),
    "Thai": (_THAI, ((0xE00, 0xE80),)),
    "Lao": (_THAI, ((0xE80, 0xF00),)),
    "Myanmar": (_ABUGIDA, ((0x1000, 0x10A0), (0xA9E0, 0xAA00), (0xAA60, 0xAA80))),
    "Khmer": (_ABUGIDA, ((0x1780, 0x1800),)),
    "Tai": (_ABUGIDA, ((0x1950, 0x19E0), (0x1A20, 0x1AB0), (0xAA80, 0xAAE0))),
    "Balinese": (_ABUGIDA, ((0x1B00, 0x1B80),)),
    "Javanese": (_ABUGIDA, ((0xA980, 0xA9E0),)),
    "Yi": (_HAN, ((0xA000, 0xA4D0),)),
    "Bopomofo": (_KANA, ((0x3100, 0x3130), (0x31A0, 0x31C0))),
    "Kana": (_KANA, ((0x3031, 0x3036), (0x3040, 0x3100), (0x31F0, 0x3200), (0xFF66, 0xFFA0), (0x1B000, 0x1B170))),
    "Han": (_HAN, ((0x2E80, 0x2FE0), (0x3005, 0x3008), (0x3021, 0x302A), (0x3038, 0x303D), (0x3400, 0x4DC0),
                   (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x3FFFE))),
}  # fmt: skip
SCRIPT_NAMES = ("", *SCRIPTS)  # by number in `scripts`; 0 is none of these

_ONE_LETTER = {
    **dict.fromkeys("\u0671", "\u0627"),  # alef with wasla; the other forms of alef decompose
    **dict.fromkeys("\u0649\u06cc\u06d2", "\u064a"),  # alef maksura, Farsi yeh, yeh barree
    "\u06a9": "\u0643",  # keheh
    **dict.fromkeys("\u0629\u06c1\u06d5", "\u0647"),  # teh marbuta, heh goal, ae
    "\u0131": "i",  # what Turkish has beside the dotted one
}
_UNHEARD = frozenset("\u0640\u034f\u0e4d\u0ecd")  # tatweel, grapheme joiner, the first half of Thai and Lao "am"
_LOW_LINES = [ord(c) for c in "_\ufe33\ufe34\ufe4d\ufe4e\ufe4f\uff3f"]  # the others are one in NFKC
_ZERO_WIDTH_SPACE = 0x200B  # between words


@lru_cache(maxsize=1)
def classes() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The classes of every code point, as bits."""
    table = np.zeros(CODE_POINTS, dtype=np.uint8)
    characters = [chr(code) for code in range(_ASSIGNED)]
    for bit, holds in ((ALNUM, str.isalnum), (SPACE, str.isspace), (DIGIT, str.isdigit), (ALPHA, str.isalpha),
                       (UPPER, str.isupper)):  # fmt: skip
        table[:_ASSIGNED] |= np.fromiter(map(holds, characters), dtype=np.uint8, count=_ASSIGNED) * np.uint8(bit)
    table[_HAN_PLANES] |= ALNUM | ALPHA
    table[(table & ALNUM) != 0] |= WORD
    table[_LOW_LINES] = WORD
    table[(units() < WORD_UNITS) & ((table & ALPHA) != 0)] |= ALONE
    marks = [code for code, c in enumerate(characters) if unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf")]
    marks += [0x640, 0xFF9E, 0xFF9F]  # tatweel, and the marks of halfwidth kana
    marks += [*range(0xFCF2, 0xFCF5), *range(0xFE70, 0xFE80)]  # points of Arabic on a tatweel or a space
    table[marks] = table[marks] & ~np.uint8(ALONE) | np.uint8(WORD | MARK)
    table[_SELECTORS] = WORD | MARK
    table[_ZERO_WIDTH_SPACE] = 0
    return table


@lru_cache(maxsize=1)
def scripts() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The script of every code point, a number of `SCRIPT_NAMES`. It says something of letters alone."""
    table = np.zeros(CODE_POINTS, dtype=np.uint8)
    for number, (_, ranges) in enumerate(SCRIPTS.values(), start=1):
        for begin, end in ranges:
            table[begin:end] = number
    return table


@lru_cache(maxsize=1)
def units() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """How much of a word, which has `WORD_UNITS`, a word that begins with each code point is."""
    return np.array([WORD_UNITS, *(own or WORD_UNITS for own, _ in SCRIPTS.values())], dtype=np.uint8)[scripts()]


@lru_cache(maxsize=1)
def letter_units() -> np.ndarray[Any, np.dtype[np.int64]]:
    """How much of a word a letter of each script is, by number of `SCRIPT_NAMES`; of those with spaces, on average."""
    return np.array([_SPELLED, *(own or _SPELLED for own, _ in SCRIPTS.values())], dtype=np.int64)


def match_of(character: str) -> str:
    """What is compared of a character; see the module."""
    if unicodedata.decimal(character, None) is not None:
        return str(unicodedata.decimal(character))
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(_ONE_LETTER.get(part, part) for part in parts if not _unheard(part))


def _changes(character: str) -> bool:
    """Whether `match_of` may leave anything but the character."""
    return (
        unicodedata.normalize("NFKD", character) != character
        or character.casefold() != character
        or character in _ONE_LETTER
        or unicodedata.decimal(character, None) is not None
        or _unheard(character)
    )


def _unheard(part: str) -> bool:
    """Combining classes: 1 are strokes, 10 to 36 points of Hebrew and Arabic, from 200 on accents of all scripts."""
    order = unicodedata.combining(part)
    selector = "\ufe00" <= part <= "\ufe0f" or "\u180b" <= part <= "\u180f"
    return (
        part in _UNHEARD
        or selector
        or order == 1
        or 10 <= order <= 36
        or order >= 200
        or unicodedata.category(part) == "Cf"
    )


class Matching(NamedTuple):
    """What `match_of` leaves of every code point.

    values: a 64-bit number for each, of several characters c0 c1 c2 the sum of their numbers times BASE^0, BASE^1 ...
    lengths: how many characters are left. parts: those of code point c are parts[begins[c] : begins[c] + lengths[c]].
    """

    values: np.ndarray[Any, np.dtype[np.uint64]]
    lengths: np.ndarray[Any, np.dtype[np.uint8]]
    parts: np.ndarray[Any, np.dtype[np.uint32]]
    begins: np.ndarray[Any, np.dtype[np.int32]]


BASE = 0x9E3779B97F4A7C13


@lru_cache(maxsize=1)
def matching() -> Matching:
    parts = np.arange(CODE_POINTS, dtype=np.uint32)
    lengths = np.ones(CODE_POINTS, dtype=np.uint8)
    begins = np.arange(CODE_POINTS, dtype=np.int32)
    values = mixed(parts.astype(np.uint64) + np.uint64(1))
    left = [(code, match_of(chr(code))) for code in range(_ASSIGNED) if _changes(chr(code))]
    several = [(code, own) for code, own in left if len(own) != 1]
    for code, own in left:
        parts[code] = ord(own) if len(own) == 1 else code
    values = values[parts]
    codes, counts = np.array([code for code, _ in several]), np.array([len(own) for _, own in several])
    more = np.array([ord(part) for _, own in several for part in own], dtype=np.uint32)
    before = np.cumsum(counts) - counts
    lengths[codes], begins[codes] = counts, CODE_POINTS + before
    powers = np.array([pow(BASE, power, 1 << 64) for power in range(counts.max())], dtype=np.uint64)
    terms = mixed(more + np.uint64(1)) * powers[np.arange(len(more)) - np.repeat(before, counts)]
    sums = np.zeros(len(terms) + 1, dtype=np.uint64)
    np.cumsum(terms, out=sums[1:])
    values[codes] = sums[before + counts] - sums[before]
    for silent in (_SELECTORS, _TAGS):
        lengths[silent], values[silent] = 0, 0
    return Matching(values, lengths, np.concatenate([parts, more]), begins)


def mixed(values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection that spreads every bit."""
    spread = values ^ (values >> np.uint64(30))
    spread *= np.uint64(0xBF58476D1CE4E5B9)
    spread ^= spread >> np.uint64(27)
    spread *= np.uint64(0x94D049BB133111EB)
    spread ^= spread >> np.uint64(31)
    return spread
