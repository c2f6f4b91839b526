"""The first stage, of one part by itself: clean text, judge it, and sign what stays.

In order: origin, one form, line cleaning, personal data, length, language, quality rules. Writes below `folder`
`clean/` (documents that stay), `signatures/` and for natural text `bands/` and `sketches/` (a row for each of them),
`rejects/` and `account/`, each under the part's name. Memory is bounded by a batch of text.
"""

from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation import pii
from k2model.curation.counts import CurationCounts, Reject, write_rejects
from k2model.curation.filters import blocked, identify_languages, rejecting_rules
from k2model.curation.normalise import Written, clean_lines, normalise
from k2model.curation.parts import CorpusPart
from k2model.curation.signatures import schemas, signature_tables
from k2model.curation.texts import Flags, Texts, by_bytes
from k2model.documents.schema import DOCUMENT_SCHEMA
from k2model.documents.tables import PartWriter, read_batches
from k2model.errors import CorpusError, nearest
from k2model.recipe.curation import PII_KINDS, CurationProfile
from k2model.recipe.schema import CorpusConfig, SourceConfig

#: Names below the folder of the stage.
CLEAN, REJECTS, ACCOUNT = "clean", "rejects", "account"
STEPS = ("raw", "origin", "normalised", "personal_data", "length", "language", "quality")
KEPT = f"documents/{STEPS[-1]}"  # the count of the documents that stay, and so are signed
BATCH_BYTES = 1 << 20  # of text: some thirty times this is in memory at once


def profile_of(source: str, config: CorpusConfig) -> CurationProfile:
    """The first profile whose patterns match the source. Raises CorpusError when none does or it is not well made."""
    own = next((one for one in config.sources if one.name == source), SourceConfig(source))
    for profile in config.profiles:
        fits = (own.location or not profile.read_from_files) and (own.fields.messages or not profile.chats)
        if fits and any(fnmatchcase(source, pattern) for pattern in profile.sources):
            unknown = [kind for kind in profile.pii if kind not in pii.KINDS]
            if unknown:
                hint = nearest(unknown[0], PII_KINDS)
                raise CorpusError(f"corpus.profiles.{profile.name}.pii: '{unknown[0]}' is no kind; {hint}")
            return profile
    raise CorpusError(
        f"no profile of corpus.profiles matches source '{source}'; there are patterns "
        f"{[pattern for profile in config.profiles for pattern in profile.sources]}. Add one with the pattern '*'"
    )


def natural_sources(config: CorpusConfig) -> list[str]:
    """Those among whose documents near copies are looked for."""
    return [source.name for source in config.sources if profile_of(source.name, config).natural]


def clean_part(raw: Path, folder: Path, part: CorpusPart, config: CorpusConfig) -> dict[str, int]:
    """Clean one part of the corpus in folder `raw`; returns its counts. Raises CorpusError as `profile_of` does."""
    profile, account = profile_of(part.source, config), CurationCounts()
    for step in STEPS:
        account.after(step, 0, 0)
    with ExitStack() as stack:
        documents = stack.enter_context(PartWriter(part.file(folder / CLEAN), DOCUMENT_SCHEMA))
        signed = {
            kind: stack.enter_context(PartWriter(part.file(folder / kind), schema, dictionary=False))
            for kind, schema in schemas(config, profile.natural).items()
        }
        row = 0
        for batch in read_batches(part.file(raw), DOCUMENT_SCHEMA):
            for piece in by_bytes(batch, "text", BATCH_BYTES):
                clean, signature = _Batch(pa.Table.from_batches([piece]), row, profile, config, account).cleaned()
                documents.write(clean)
                for kind, table in signature.items():
                    signed[kind].write(table)
                row += piece.num_rows
    write_rejects(part.file(folder / REJECTS), account.rejects)
    account.save(part.file(folder / ACCOUNT, ".json"))
    return dict(account.counts)


class _Batch:
    """Some rows of a part on their way; `kept` [rows] says which have not been rejected."""

    def __init__(
        self, table: pa.Table, row: int, profile: CurationProfile, config: CorpusConfig, account: CurationCounts
    ):
        self.table, self.first_row = table.combine_chunks(), row
        self.profile, self.config, self.account = profile, config, account
        self.kept: Flags = np.ones(table.num_rows, dtype=bool)
        self.ids = self.table["id"].to_pylist()
        self.texts = self.table["text"].combine_chunks().cast(pa.large_string())
        self.written = Written(self.table)

    def cleaned(self) -> tuple[pa.Table, dict[str, pa.Table]]:
        """The documents that stay, and their signatures by kind."""
        self._after("raw")
        origins = self.table["origin"]
        self._reject(blocked(origins, self.profile.blocked_hosts, self.profile.blocked_origin_words), "blocked_origin")
        self._after("origin")
        self._rewrite()
        bodies = self._judge()
        kept = pa.array(self.kept)
        strings = self.texts.filter(kept)
        rows = np.flatnonzero(self.kept) + self.first_row
        duplicates = self.table["duplicates"].combine_chunks().filter(kept)
        signature = signature_tables(rows, strings, duplicates, bodies, self.kept, self.config)
        text, spans = self.written.documents()
        made = {"text": text.cast(pa.string()), "spans": spans}
        columns = [made.get(name, self.table[name]) for name in DOCUMENT_SCHEMA.names]
        return pa.table(columns, schema=DOCUMENT_SCHEMA).filter(kept), signature

    def _rewrite(self) -> None:
        """Everything that changes text."""
        before = self.texts
        pages = self.written.pages
        self.written.strings = normalise(self.written.strings, pages & self.profile.natural)
        if self.profile.lines.wanted:
            self.written.strings = clean_lines(self.written.strings, pages, self.profile.lines)
        self._joined("normalised")
        self.account.counts["normalised"] += pc.sum(pc.not_equal(before, self.texts)).as_py() or 0
        if self.profile.pii:
            self.written.strings, found = pii.remove(self.written.strings, self.profile.pii)
            self.account.counts.add("pii", found)
        self._joined("personal_data")

    def _joined(self, step: str) -> None:
        self.texts = self.written.texts()
        self._after(step)

    def _judge(self) -> Texts | None:
        """Reject what is not good; the natural bodies as arrays."""
        lengths = pc.utf8_length(self.texts).to_numpy(zero_copy_only=False)
        self._reject(lengths < self.config.min_characters, "too_short")
        self._reject(lengths > self.config.max_characters, "too_long")
        self._after("length")
        bodies = self.written.bodies() if self.profile.natural else self.texts
        rows = np.flatnonzero(self.kept) if self.profile.languages else np.zeros(0, dtype=np.int64)
        for row, (name, score) in zip(rows, identify_languages(bodies.take(pa.array(rows)).to_pylist()), strict=True):
            self.account.counts[f"languages/{name}"] += 1
            if name not in self.profile.languages or score < self.profile.language_score:
                self._reject_row(int(row), "language", f"{name} {score:.2f}")
        self._after("language")
        texts = None
        if self.profile.natural or self.profile.rules or self.profile.phrases:
            texts = Texts(bodies)
            names = np.array(rejecting_rules(bodies, texts, self.profile))
            for rule in np.unique(names[names != ""]):
                self._reject(names == rule, str(rule))
        self._after("quality")
        return texts if self.profile.natural else None

    def _reject(self, bad: Flags, rule: str) -> None:
        for row in np.flatnonzero(bad & self.kept):
            self._reject_row(int(row), rule)

    def _reject_row(self, row: int, rule: str, detail: str = "") -> None:
        self.kept[row] = False
        self.account.reject(Reject(self.first_row + row, self.ids[row], rule, detail), self.texts[row].as_py())

    def _after(self, step: str) -> None:
        sizes = pc.binary_length(self.texts).to_numpy(zero_copy_only=False)
        self.account.after(step, int(self.kept.sum()), int(sizes[self.kept].sum()))
