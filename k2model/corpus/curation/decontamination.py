"""Training documents that hold evaluation items, found by key and by overlapping words.

A generated document is contaminated when one of its keys is an item's key. Natural text is when it
shares 13 consecutive words with an item (the width GPT-3 used, Brown et al. 2020, appendix C), or
holds the whole prompt of an item when that is shorter. Items with an empty key hold nothing out.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from k2model.corpus.documents import Item, read_items
from k2model.corpus.families import FAMILIES

NGRAM = 13
#: Families made of natural words; the others' prompts are formulas, matched by key.
WORDED = ("facts_heldout", "facts_chat_heldout", "code", "retrieval")
_WORDS = re.compile(r"\w+")


class Contamination:
    """The keys and word sequences of a corpus's items."""

    def __init__(self, items: Iterable[Item]):
        self.keys: set[str] = set()
        self._ngrams: set[tuple[str, ...]] = set()
        whole: set[str] = set()
        for item in items:
            if not item["key"]:
                continue
            self.keys.add(item["key"])
            if item["family"] in WORDED:
                self._ngrams.update(_ngrams(_words(item["prompt"] + item["answer"])))
                prompt = _words(item["prompt"])
                if 0 < len(prompt) < NGRAM:
                    whole.add(" ".join(prompt))
        self._whole = tuple(sorted(whole))

    def matching_key(self, document_key: str) -> str | None:
        """The item key that a document's key (or one of its lines) equals."""
        return next((key for key in document_key.split("\n") if key in self.keys), None)

    def matching_words(self, text: str) -> str | None:
        """The words a text shares with an item: a 13-gram, or a short prompt as a whole."""
        words = _words(text)
        shared = next((ngram for ngram in _ngrams(words) if ngram in self._ngrams), None)
        if shared is not None:
            return " ".join(shared)
        padded = f" {' '.join(words)} "
        return next((item for item in self._whole if f" {item} " in padded), None)


def read_contamination(corpus: Path) -> Contamination:
    """From the items of a corpus folder."""
    families = [family for family in FAMILIES if (corpus / "items" / f"{family}.parquet").exists()]
    return Contamination(item for family in families for item in read_items(corpus, family))


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def _ngrams(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(NGRAM)), strict=False)
