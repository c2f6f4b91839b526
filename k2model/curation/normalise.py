r"""One form for the text of documents, a batch at a time: NFC, `\n` line ends, no control characters, clean lines.

What is written in a document (`Written`) is changed, its frame and special tokens never. White space says something in
a document of several texts: where a prompt ends, how the code of a reply is indented. So only a `page`, a document that
is one text, has its white space tidied, and its unwanted lines dropped: navigation, cookie notices and the like go, the
rest of the page stays (C4, section 2.2). Most texts have their form already, which one regular expression over the
batch tells; the others are rewritten one by one.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation.characters import SCRIPT_NAMES
from k2model.curation.filters import matches
from k2model.curation.measures import SENTENCE_ENDS
from k2model.curation.texts import Flags, Texts
from k2model.documents.spans import FlatSpans, joined_runs, spans_column
from k2model.recipe.curation import PUNCTUATED, LineCleaning

_TURN = "\n\n"  # between the texts of a document that is judged: neither a word nor a line is of two of them


class Written:
    """What is written in a batch of documents: `strings`, the spans of kind `text` in order; set them to rewrite them.

    `pages` [strings] says which of them is all that its document holds besides special tokens.
    """

    def __init__(self, documents: pa.RecordBatch | pa.Table):
        """Of the columns `text` and `spans`. Raises CorpusError for a document whose spans do not cover its text."""
        self._spans = FlatSpans.of(documents)
        self._all = self._spans.texts.cast(pa.large_string())
        self._written = pc.equal(self._spans.kinds, "text")
        self.strings: pa.LargeStringArray = self._all.filter(self._written)
        self._places = np.flatnonzero(self._written.to_numpy(zero_copy_only=False))
        parts = pc.not_equal(self._spans.kinds, "special").to_numpy(zero_copy_only=False)
        before = np.concatenate([[0], np.cumsum(parts)])
        alone = np.diff(before[self._spans.bounds]) == 1
        self.pages: Flags = np.repeat(alone, np.diff(self._spans.bounds))[self._places]

    def documents(self) -> tuple[pa.LargeStringArray, pa.ListArray]:
        """The columns `text` and `spans` with the strings as they are."""
        texts, bounds = self._whole(), self._spans.bounds
        return joined_runs(texts, bounds), spans_column(texts, self._spans.kinds, self._spans.loss_mask, bounds)

    def texts(self) -> pa.LargeStringArray:
        """For each document its text."""
        return joined_runs(self._whole(), self._spans.bounds)

    def bodies(self) -> pa.LargeStringArray:
        """For each document what is written in it, a paragraph for each text that stands apart from the one before."""
        bounds = np.searchsorted(self._places, self._spans.bounds)
        apart = np.diff(self._places, prepend=-1) > 1
        apart[bounds[:-1][np.diff(bounds) > 0]] = False
        strings = self.strings
        if apart.any():
            between = pa.array(np.where(apart, _TURN, ""), pa.large_string())
            strings = pc.binary_join_element_wise(between, strings, pa.scalar("", pa.large_string()))
        return joined_runs(strings, bounds)

    def _whole(self) -> pa.LargeStringArray:
        return pc.replace_with_mask(self._all, self._written, self.strings)


# Scripts whose spelling has joiners: Arabic and its neighbours, Indic ones, Tibetan to Mongolian, and those beyond
_JOINING = (
    "\u0600-\u061b\u061d-\u0dff\u0f00-\u109f\u1780-\u18af\u1a20-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefe"
    "\U00010a00-\U00011fff\U0001e900-\U0001e95f"
)
_EMOJI = "\u203c\u2049\u20e3\u2100-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
#: Thai, Lao, Tibetan, Myanmar, Khmer, Tai scripts, Balinese, Javanese: a space of no width parts words or syllables.
_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa60-\uaadf"
_HEBREW_OR_ARABIC = re.compile("[\u0590-\u060b\u0620-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_DIRECTION = re.compile("[\u200e\u200f\u061c]")
# C0 and C1 controls but tab and line feed; lone surrogates; soft hyphen; byte order mark, word joiner, embeddings and
# isolates of writing direction, what annotates lines, no characters
_JUNK = "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\ud800-\udfff\ufeff\u2060\u202a-\u202e\u2066-\u206f\ufff9-\ufffb\ufffe\uffff"
_UNWANTED = re.compile(f"[{_JUNK}]")
_UNSEEN = re.compile(f"[{_JUNK}\u200b-\u200f\u061c\U000e0000-\U000e007f]")  # any that may have to go
_FLAG_OR_TAG = re.compile("(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f)|[\U000e0000-\U000e007f]")
#: Characters of no width, and where they are no spelling.
_MISPLACED = {
    "\u200b": re.compile(f"\u200b+(?![{_UNSPACED}\u200b])|\u200b(?<![{_UNSPACED}]\u200b)"),
    "\u200c": re.compile(f"\u200c(?<![{_JOINING}]\u200c)(?![{_JOINING}])"),
    "\u200d": re.compile(
        f"\u200d(?<![{_JOINING}{_EMOJI}]\u200d)(?![{_JOINING}])|\u200d(?<=[{_EMOJI}]\u200d)(?![{_EMOJI}{_JOINING}])"
    ),
}
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")
_SUSPECT_CHARACTERS = r"[^\n\t -~]"
_SUSPECT_PAGE = rf"{_SUSPECT_CHARACTERS}|[ \t]\n|[ \t]\z|\n\n\n\n|\A\n|\n\z"


def clean_characters(text: str) -> str:
    """NFC, line feeds, no control or invisible characters but those that are spelling. Never touches spaces: generated
    answers start with one.

    What stays: joiners of Arabic, Indic and other scripts, of emoji, and what follows these (selectors, the tags of a
    flag); spaces of no width in scripts without spaces from Thai to Javanese; marks of writing direction (LRM, RLM,
    ALM) in a text that has letters of Hebrew or Arabic.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _UNSEEN.search(text):
        text = _without_unseen(text)
    return unicodedata.normalize("NFC", text)


def _without_unseen(text: str) -> str:
    if not _HEBREW_OR_ARABIC.search(text):
        text = _DIRECTION.sub("", text)
    text = _FLAG_OR_TAG.sub(lambda found: found[1] or "", _UNWANTED.sub("", text))
    for character, misplaced in _MISPLACED.items():
        if character in text:
            text = misplaced.sub("", text)
    return text


def clean_page(text: str) -> str:
    """`clean_characters`, no trailing blanks, at most two blank lines in a row and none at the edges."""
    text = _TRAILING.sub("", clean_characters(text))
    return _BLANK_LINES.sub("\n\n\n", text).strip("\n")


def normalise(strings: pa.LargeStringArray, pages: Flags) -> pa.LargeStringArray:
    """Every string in its one form; `pages` [strings] says which have their white space tidied."""
    suspect = matches(strings, _SUSPECT_PAGE if pages.any() else _SUSPECT_CHARACTERS)
    strings = rewritten(strings, suspect & pages, clean_page)
    return rewritten(strings, suspect & ~pages, clean_characters)


def rewritten(strings: pa.LargeStringArray, chosen: Flags, function: Callable[[str], str]) -> pa.LargeStringArray:
    """The strings with `function` applied to the chosen ones."""
    if not chosen.any():
        return strings
    made = [function(strings[row].as_py()) for row in np.flatnonzero(chosen)]
    return pc.replace_with_mask(strings, pa.array(chosen), pa.array(made, type=pa.large_string()))


_compiled = lru_cache(maxsize=64)(re.compile)


def clean_lines(strings: pa.LargeStringArray, pages: Flags, cleaning: LineCleaning) -> pa.LargeStringArray:
    """The strings, those that are `pages` [strings] without the lines that are not wanted."""
    judged_by_form = cleaning.terminal_punctuation or cleaning.least_words > 0
    suspect = np.full(len(strings), judged_by_form)
    if cleaning.drop and not judged_by_form:
        suspect = matches(strings, "|".join(f"(?:{pattern})" for pattern in cleaning.drop))

    def cleaned(text: str) -> str:
        lines = text.split("\n")
        stays = _stays(lines, cleaning)
        return "\n".join(line for line, kept in zip(lines, stays, strict=True) if kept or not line.strip())

    return rewritten(strings, suspect & pages, cleaned)


def _stays(lines: list[str], cleaning: LineCleaning) -> list[bool]:
    stays = [not any(_compiled(pattern).search(line) for pattern in cleaning.drop) for line in lines]
    if cleaning.least_words or cleaning.terminal_punctuation:
        texts = Texts.of(lines)
        stays = (np.array(stays) & (texts.word_counts >= cleaning.least_words)).tolist()
        if cleaning.terminal_punctuation:
            punctuated = np.isin(texts.main_scripts, [SCRIPT_NAMES.index(name) for name in PUNCTUATED])
            ends = zip(lines, punctuated.tolist(), stays, strict=True)
            stays = [kept and (not marks or line.rstrip().endswith(tuple(SENTENCE_ENDS))) for line, marks, kept in ends]
    return stays
