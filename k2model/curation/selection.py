"""The last stage, of one part by itself: copies go as was decided, evaluation items go, the part is written.

Writes below `folder` the part itself, `rejects/` (every document that went, from the raw part on), `account/` and, for
training, `contamination/` (a tally by item), each under the part's name. `recheck` does the same look for items that
come later, on a corpus that is stored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation.clean import ACCOUNT, BATCH_BYTES, CLEAN, REJECTS, profile_of
from k2model.curation.counts import CurationCounts, Reject, merged, read_counts, read_rejects, write_rejects
from k2model.curation.decisions import EXACT, NEAR, read_decisions
from k2model.curation.decontamination import Decontamination, Match, Tally, decontamination, detail
from k2model.curation.overlap import Items, external, item_files
from k2model.curation.parts import CorpusPart, parts_in
from k2model.curation.signatures import SIGNATURE_SCHEMA, SIGNATURES
from k2model.curation.texts import by_bytes
from k2model.documents.schema import DOCUMENT_SCHEMA
from k2model.documents.tables import PartWriter, read_batches, read_table, selected, write_table
from k2model.recipe.mixtures import bucket
from k2model.recipe.schema import CorpusConfig

CONTAMINATION = "contamination"
STEPS = ("exact_duplicates", "near_duplicates", "decontaminated")
MATCH = "match"  # samples of contamination, with both texts


def select_part(
    raw: Path, cleaned: Path, decided: Path, start: int, folder: Path, part: CorpusPart, config: CorpusConfig,
    items: tuple[Items, ...], stored: tuple[Path, ...] = (),
) -> dict[str, int]:  # fmt: skip
    """Write one part of the curated corpus; returns its counts.

    `raw` has the evaluation items, `cleaned` is the folder that `clean_part` wrote to, `decided` that of `decide`,
    which numbers the part's documents from `start` on; `items` are files of further evaluation items, `stored` those of
    artifacts of items. Raises CorpusError when those are not what they were.
    """
    judge = decontamination(raw, config.decontamination, items, stored)
    account, tally = CurationCounts(), Tally(judge.items)
    by_words = profile_of(part.source, config).overlap
    for step in STEPS:
        account.after(step, 0, 0)
    signed = read_table(part.file(cleaned / SIGNATURES), selected(SIGNATURE_SCHEMA, "row", "duplicates"))
    rows = signed["row"].to_numpy()
    decisions = read_decisions(decided, start, signed["duplicates"].to_numpy())
    begin = 0
    with PartWriter(part.file(folder), DOCUMENT_SCHEMA) as writer:
        for batch in read_batches(part.file(cleaned / CLEAN), DOCUMENT_SCHEMA):
            for piece in by_bytes(batch, "text", BATCH_BYTES):
                end = begin + piece.num_rows
                table = _without_copies(piece, rows[begin:end], decisions.slice(begin, piece.num_rows), account)
                if part.split == "train":
                    table = _without_items(table, judge, by_words, account, tally)
                _after(account, "decontaminated", table)
                account.counts.update(f"bucket/{bucket(count)}" for count in table["duplicates"].to_pylist())
                writer.write(table.select(DOCUMENT_SCHEMA.names))
                begin = end
    if part.split == "train":
        write_table(part.file(folder / CONTAMINATION), tally.table())
    write_rejects(part.file(folder / REJECTS), [*read_rejects(part.file(cleaned / REJECTS)), *account.rejects])
    whole = merged([read_counts(part.file(cleaned / ACCOUNT, ".json")), account])
    whole.save(part.file(folder / ACCOUNT, ".json"))
    return dict(whole.counts)


def _without_copies(
    piece: pa.RecordBatch, rows: "np.ndarray", decisions: pa.Table, account: CurationCounts
) -> pa.Table:
    """What stays, with the duplicates it stands for and its row in the raw part."""
    table = pa.Table.from_batches([piece])
    position = DOCUMENT_SCHEMA.get_field_index("duplicates")
    table = table.set_column(position, DOCUMENT_SCHEMA.field(position), decisions["duplicates"])
    table = table.append_column("row", pa.array(rows))
    rules = np.array(decisions["rule"].to_pylist(), dtype=object)
    for rule, step in ((EXACT, STEPS[0]), (NEAR, STEPS[1])):
        for index in np.flatnonzero(rules == rule):
            _reject(account, table, int(index), rule, decisions["original"][int(index)].as_py())
        done = rules != rule if rule == EXACT else rules == ""
        _after(account, step, table.filter(pa.array(done)))
    return table.filter(pa.array(rules == ""))


def _without_items(
    table: pa.Table, judge: Decontamination, by_words: bool, account: CurationCounts, tally: Tally
) -> pa.Table:
    matches = judge.judge(table, by_words, tally)
    for match in matches:
        shared = match.shared(table["text"][match.row].as_py())
        _reject(account, table, match.row, match.rule, detail(match), shared)
        _show(account, table, match)
    stays = np.ones(table.num_rows, dtype=bool)
    stays[[match.row for match in matches]] = False
    return table.filter(pa.array(stays))


def _reject(
    account: CurationCounts, table: pa.Table, index: int, rule: str, told: str, sample: str | None = None
) -> None:
    text = table["text"][index].as_py() if sample is None else sample
    account.reject(Reject(table["row"][index].as_py(), table["id"][index].as_py(), rule, told), text)


def _after(account: CurationCounts, step: str, table: pa.Table) -> None:
    account.after(step, table.num_rows, pc.sum(pc.binary_length(table["text"])).as_py() or 0)


def _show(account: CurationCounts, table: pa.Table, match: Match) -> None:
    """A sample of contamination with both texts."""
    document, text = table["id"][match.row].as_py(), table["text"][match.row].as_py()
    shown = json.dumps(match.shown(document, text), ensure_ascii=False)
    account.sample(MATCH, f"{document} {match.item.id}", shown)


@dataclass
class Recheck:
    """`documents` that hold an item, of those `read`; `tally` counts them by item, as removed: they ought to go."""

    read: int
    documents: int
    tally: Tally
    account: CurationCounts

    @property
    def families(self) -> dict[str, dict[str, Any]]:
        """By family: items, those touched, and documents."""
        return self.tally.families()

    def matches(self) -> list[dict[str, Any]]:
        """A seeded sample with both texts."""
        return [json.loads(text) for text in self.account.texts(MATCH)]


def recheck(corpus: Path, files: Sequence[str], config: CorpusConfig, workers: int = 1) -> Recheck:
    """Compare the training documents of a curated (or validated) corpus folder with items of further `files`.

    What comes back tells whether a new evaluation can be trusted on models trained on the corpus, which is left as it
    is, and which documents to leave out of the next one (name the file in `corpus.decontamination.external`). Only
    sources whose profile looks for overlap are read: generated ones are known by key, and further items have none.
    Raises CorpusError for a file of items that cannot be read.
    """
    from k2model.artifacts import map_in_processes

    items = item_files(files)
    names = [source.name for source in config.sources if profile_of(source.name, config).overlap]
    parts = [part for part in parts_in(corpus, names) if part.split == "train"]
    shares = [parts[first::workers] for first in range(min(workers, len(parts)))]
    found = map_in_processes(partial(recheck_parts, corpus, items, config), shares, workers)
    tally = Tally(list(external(items, config.decontamination)))
    for _, own in found:
        tally.add(own)
    account = merged(account for account, _ in found)
    return Recheck(account.counts["read"], account.counts["documents"], tally, account)


def recheck_parts(
    corpus: Path, files: Sequence[Items], config: CorpusConfig, parts: Sequence[CorpusPart]
) -> tuple[CurationCounts, pa.Table]:
    """The same of some parts, one after another: the items are made ready once, and counted once for all of them."""
    judge = Decontamination(external(files, config.decontamination), config.decontamination)
    account, tally = CurationCounts(), Tally(judge.items)
    for part in parts:
        for batch in read_batches(part.file(corpus), selected(DOCUMENT_SCHEMA, "id", "text", "key")):
            for piece in by_bytes(batch, "text", BATCH_BYTES):
                table = pa.Table.from_batches([piece])
                matches = judge.judge(table, True, tally)
                account.counts.update(read=table.num_rows, documents=len(matches))
                for match in matches:
                    _show(account, table, match)
    return account, tally.table()
