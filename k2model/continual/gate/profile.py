"""What the texts of a corpus are like, in small tables: made once for each corpus of a line, so that no old text is
read when a batch arrives.

Of each source (`reading`: a seeded sample of its training documents): lengths in bins of powers of two, as
`statistics.json` has them, characters by script, how often each word occurs, and in how many documents each short run
of words does. Words and runs are known by 64-bit hashes (`k2model.curation.texts`), whatever their case. Runs that a
single document has are left out: there are as many as words, and what is not in the table is rarer than two in the
sample. Kind `text_profile`: `profile.json`, `words.parquet`, `phrases.parquet`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from k2model.artifacts import ArtifactRef, Identity, Step, Store, read_json_file
from k2model.continual.gate.reading import Read, sampled
from k2model.curation.characters import ALPHA, CODE_POINTS, DIGIT, SPACE, classes
from k2model.curation.texts import Hashes, Ints, Texts
from k2model.documents.tables import read_table, required, write_table
from k2model.versions import STEP_VERSIONS

PROFILE, WORDS, PHRASES = "profile.json", "words.parquet", "phrases.parquet"
DOCUMENTS = 2_000  # of a source that are read
MOST_WORDS = 50_000  # of a source that are kept, the most frequent
_WORD_SCHEMA = required(source=pa.string(), word=pa.uint64(), count=pa.int64())
_PHRASE_SCHEMA = required(source=pa.string(), phrase=pa.uint64(), documents=pa.int64())

#: Names of scripts and where Unicode's blocks of them begin and end; letters of none of them are `other`.
SCRIPTS = {
    "greek": ((0x370, 0x400), (0x1F00, 0x2000)), "cyrillic": ((0x400, 0x530), (0x1C80, 0x1C90), (0x2DE0, 0x2E00)),
    "hebrew": ((0x590, 0x600),), "arabic": ((0x600, 0x780), (0x8A0, 0x900), (0xFB50, 0xFE00), (0xFE70, 0xFF00)),
    "indic": ((0x900, 0xE00),), "thai": ((0xE00, 0xE80),), "hangul": ((0x1100, 0x1200), (0xAC00, 0xD7B0)),
    "kana": ((0x3040, 0x3100),), "han": ((0x3400, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000)),
}  # fmt: skip
CHARACTERS = ("latin", *SCRIPTS, "other letter", "accented", "digit", "space", "sign")


@dataclass
class Profile:
    """Of the documents of one source or several. words: hash -> occurrences. phrases: hash -> documents with it, of
    those of the profile; those of a corpus of the line lack what a single document has."""

    domain: str
    documents: int = 0
    lengths: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    phrases: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Profile") -> None:
        self.documents += other.documents
        for name in ("lengths", "characters", "words", "phrases"):
            getattr(self, name).update(getattr(other, name))

    @cached_property
    def mass(self) -> int:
        """Occurrences of words."""
        return sum(self.words.values())


def profile(documents: Sequence[Read], widths: Iterable[int] = ()) -> Profile:
    """Of documents of one domain. widths: of the runs of words that are counted."""
    found = Profile(documents[0].domain if documents else "", len(documents))
    texts = Texts.of([one.text for one in documents])
    sizes = np.diff(texts.bounds) - 1
    found.lengths.update(str(1 << (size.bit_length() - 1) if size else 0) for size in sizes.tolist())
    by_class = np.bincount(_character_classes()[texts.codes], minlength=len(CHARACTERS))
    by_class[CHARACTERS.index("space")] -= len(documents)  # the line feed behind each text
    found.characters.update({name: int(one) for name, one in zip(CHARACTERS, by_class, strict=True) if one})
    values, counts = np.unique(texts.word_values, return_counts=True)
    found.words.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    for width in widths:
        hashes, documents_with = phrase_documents(texts, width)
        found.phrases.update(dict(zip(hashes.tolist(), documents_with.tolist(), strict=True)))
    return found


def phrase_documents(texts: Texts, width: int) -> tuple[Hashes, Ints]:
    """Every run of `width` words and the number of texts that have it."""
    hashes, _, owners = texts.ngrams(width)
    if not len(hashes):
        return hashes, np.zeros(0, dtype=np.int64)
    pairs = np.unique(np.stack([hashes, owners.astype(np.uint64)]), axis=1)
    return np.unique(pairs[0], return_counts=True)


@lru_cache(maxsize=1)
def _character_classes() -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The index among `CHARACTERS` of every code point."""
    own = classes()
    found = np.full(CODE_POINTS, CHARACTERS.index("sign"), dtype=np.uint8)
    found[(own & ALPHA) != 0] = CHARACTERS.index("other letter")
    found[(own & DIGIT) != 0] = CHARACTERS.index("digit")
    found[(own & SPACE) != 0] = CHARACTERS.index("space")
    letters = (own & ALPHA) != 0
    for begin, end, name in ((0, 0x80, "latin"), (0x80, 0x250, "accented")):
        found[begin:end][letters[begin:end]] = CHARACTERS.index(name)
    for name, blocks in SCRIPTS.items():
        for begin, end in blocks:
            found[begin:end][letters[begin:end]] = CHARACTERS.index(name)
    return found


def profile_step(store: Store, corpus: ArtifactRef, phrase_words: int) -> Step:
    """Of every source of a corpus (kind `corpus_valid`); runs of one to `phrase_words` words. Kind `text_profile`."""

    def produce(folder: Path) -> dict[str, float]:
        told: dict[str, Any] = {}
        words: list[pa.Table] = []
        phrases: list[pa.Table] = []
        by_source: dict[str, list[Read]] = {}
        for one in sampled(store, corpus, DOCUMENTS):
            by_source.setdefault(one.source, []).append(one)
        for source, documents in by_source.items():
            found = profile(documents, range(1, phrase_words + 1))
            told[source] = {
                "domain": found.domain, "documents": found.documents, "words": found.mass,
                "lengths": dict(sorted(found.lengths.items(), key=lambda one: int(one[0]))),
                "characters": dict(sorted(found.characters.items())),
            }  # fmt: skip
            kept = sorted(found.words.items(), key=lambda one: (-one[1], one[0]))[:MOST_WORDS]
            words.append(_table(source, kept, _WORD_SCHEMA))
            repeated = sorted((phrase, count) for phrase, count in found.phrases.items() if count > 1)
            phrases.append(_table(source, repeated, _PHRASE_SCHEMA))
        (folder / PROFILE).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_table(folder / WORDS, pa.concat_tables(words))
        write_table(folder / PHRASES, pa.concat_tables(phrases))
        return {"sources": len(told), "documents": sum(one["documents"] for one in told.values())}

    settings = {"documents": DOCUMENTS, "words": MOST_WORDS, "phrase_words": phrase_words}
    return Step(Identity("text_profile", STEP_VERSIONS["text_profile"], settings, {"corpus": corpus}), produce)


def _table(source: str, rows: Sequence[tuple[int, int]], schema: pa.Schema) -> pa.Table:
    hashes, counts = (np.array([row[side] for row in rows], kind) for side, kind in ((0, np.uint64), (1, np.int64)))
    return pa.table([pa.repeat(source, len(rows)), pa.array(hashes), pa.array(counts)], schema=schema)


class _Told(TypedDict):
    domain: str
    documents: int
    lengths: dict[str, int]
    characters: dict[str, int]


def read_profiles(store: Store, refs: Iterable[ArtifactRef]) -> dict[str, Profile]:
    """Of the corpora of a line by source, those of one name together. The tables are read whole: some megabytes for a
    source of natural text."""
    found: dict[str, Profile] = {}
    for ref in refs:
        folder = store.fetch(ref)
        for source, told in read_json_file(dict[str, _Told], folder, PROFILE).items():
            own = Profile(told["domain"], told["documents"], Counter(told["lengths"]), Counter(told["characters"]))
            found.setdefault(source, Profile(told["domain"])).add(own)
        for file, schema, name in ((WORDS, _WORD_SCHEMA, "words"), (PHRASES, _PHRASE_SCHEMA, "phrases")):
            for source, values in _by_source(folder / file, schema).items():
                getattr(found[source], name).update(values)
    return found


def _by_source(path: Path, schema: pa.Schema) -> Mapping[str, dict[int, int]]:
    table = read_table(path, schema)
    found: dict[str, dict[int, int]] = {}
    for source, value, count in zip(*(column.to_pylist() for column in table.columns), strict=True):
        found.setdefault(source, {})[value] = count
    return found
