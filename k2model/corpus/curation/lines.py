"""Line cleaning: navigation, cookie notices and the like go, the rest of the page stays (C4, section 2.2)."""

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa

from k2model.corpus.curation.normalise import rewritten
from k2model.corpus.curation.quality import matches
from k2model.corpus.curation.texts import Flags
from k2model.recipe.curation import LineCleaning

_ENDINGS = tuple('.!?"”’。！？؟…')
_WORDS = re.compile(r"\w+")


def clean_lines(strings: pa.LargeStringArray, pages: Flags, cleaning: LineCleaning) -> pa.LargeStringArray:
    """The strings, those that are `pages` [strings] without the lines that are not wanted."""
    judged_by_form = cleaning.terminal_punctuation or cleaning.least_words > 0
    suspect = np.full(len(strings), judged_by_form)
    if cleaning.drop and not judged_by_form:
        suspect = matches(strings, "|".join(f"(?:{pattern})" for pattern in cleaning.drop))
    return rewritten(strings, suspect & pages, lambda text: "\n".join(kept_lines(text, cleaning)))


def kept_lines(text: str, cleaning: LineCleaning) -> list[str]:
    """The lines of one text that stay."""
    return [line for line in text.split("\n") if not line.strip() or _stays(line, cleaning)]


def _stays(line: str, cleaning: LineCleaning) -> bool:
    if any(_compiled(pattern).search(line) for pattern in cleaning.drop):
        return False
    if cleaning.terminal_punctuation and not line.rstrip().endswith(_ENDINGS):
        return False
    return len(_WORDS.findall(line)) >= cleaning.least_words


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
