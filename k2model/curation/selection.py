"""The last stage, of one part by itself: copies go as the verdicts say, evaluation items go, the part is written.

Writes below `folder` the part itself, `rejects/` (every document that went, from the raw part on), `account/` and, for
training, `contamination/` (a tally by item), each under the part's name.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2model.curation.account import Account, Reject, merged, read_account, read_rejects, write_rejects
from k2model.curation.clean import ACCOUNT, BATCH_BYTES, CLEAN, REJECTS, profile_of
from k2model.curation.decisions import EXACT, NEAR, VERDICT_SCHEMA
from k2model.curation.decontamination import BY_KEY, Decontamination, Match, Tally, decontamination, detail
from k2model.curation.overlap import ItemFile
from k2model.curation.parts import PartWriter, Place, batches
from k2model.curation.signatures import SIGNATURES
from k2model.curation.texts import by_bytes
from k2model.documents.schema import DOCUMENT_SCHEMA
from k2model.recipe.mixtures import bucket
from k2model.recipe.schema import CorpusConfig

CONTAMINATION = "contamination"
STEPS = ("exact_duplicates", "near_duplicates", "decontaminated")
MATCH = "match"  # samples of contamination, with both texts


def select_part(
    raw: Path, cleaned: Path, verdicts: Path, folder: Path, place: Place, config: CorpusConfig,
    items: tuple[ItemFile, ...],
) -> dict[str, float]:  # fmt: skip
    """Write one part of the curated corpus; returns the counts of its account.

    `raw` has the evaluation items, `cleaned` is the folder that `clean_part` wrote to, `verdicts` that of
    `write_verdict`; `items` are files of further evaluation items.
    """
    judge = decontamination(raw, config.decontamination, items)
    account, tally = Account(), Tally(judge.items)
    by_words = profile_of(place.source, config).overlap
    for step in STEPS:
        account.after(step, 0, 0)
    verdict = pq.read_table(place.file(verdicts), schema=VERDICT_SCHEMA, partitioning=None)
    rows = pq.read_table(place.file(cleaned / SIGNATURES), columns=["row"], partitioning=None)["row"].to_numpy()
    start = 0
    with PartWriter(place.file(folder), DOCUMENT_SCHEMA) as writer:
        for batch in batches(place.file(cleaned / CLEAN)):
            for piece in by_bytes(batch, "text", BATCH_BYTES):
                end = start + piece.num_rows
                table = _without_copies(piece, rows[start:end], verdict.slice(start, piece.num_rows), account)
                if place.side == "train":
                    table = _without_items(table, judge, by_words, account, tally)
                _after(account, "decontaminated", table)
                account.counts.update(f"bucket/{bucket(count)}" for count in table["duplicates"].to_pylist())
                writer.write(table.select(DOCUMENT_SCHEMA.names))
                start = end
    if place.side == "train":
        tally.save(place.file(folder / CONTAMINATION))
    write_rejects(place.file(folder / REJECTS), [*read_rejects(place.file(cleaned / REJECTS)), *account.rejects])
    whole = merged([read_account(place.file(cleaned / ACCOUNT, ".json")), account])
    whole.save(place.file(folder / ACCOUNT, ".json"))
    return {name: float(count) for name, count in whole.counts.items()}


def _without_copies(piece: pa.RecordBatch, rows: "np.ndarray", verdict: pa.Table, account: Account) -> pa.Table:
    """What stays, with the duplicates it stands for and its row in the raw part."""
    table = pa.Table.from_batches([piece])
    position = DOCUMENT_SCHEMA.get_field_index("duplicates")
    table = table.set_column(position, DOCUMENT_SCHEMA.field(position), verdict["duplicates"])
    table = table.append_column("row", pa.array(rows))
    rules = np.array(verdict["rule"].to_pylist(), dtype=object)
    for rule, step in ((EXACT, STEPS[0]), (NEAR, STEPS[1])):
        for index in np.flatnonzero(rules == rule):
            _reject(account, table, int(index), rule, verdict["original"][int(index)].as_py())
        done = rules != rule if rule == EXACT else rules == ""
        _after(account, step, table.filter(pa.array(done)))
    return table.filter(pa.array(rules == ""))


def _without_items(table: pa.Table, judge: Decontamination, by_words: bool, account: Account, tally: Tally) -> pa.Table:
    matches = judge.judge(table, by_words, tally)
    for match in matches:
        _reject(account, table, match.row, match.rule, detail(match), _shared(match, table))
        document, text = table["id"][match.row].as_py(), table["text"][match.row].as_py()
        shown = json.dumps(match.shown(document, text), ensure_ascii=False)
        account.sample(MATCH, f"{document} {match.item.id}", shown)
    stays = np.ones(table.num_rows, dtype=bool)
    stays[[match.row for match in matches]] = False
    return table.filter(pa.array(stays))


def _shared(match: Match, table: pa.Table) -> str:
    """What a person is shown of a match: the key, or the shared words."""
    if match.rule == BY_KEY:
        return match.item.key
    return str(table["text"][match.row].as_py()[slice(*match.text_span)])


def _reject(account: Account, table: pa.Table, index: int, rule: str, told: str, sample: str | None = None) -> None:
    text = table["text"][index].as_py() if sample is None else sample
    account.reject(Reject(table["row"][index].as_py(), table["id"][index].as_py(), rule, told), text)


def _after(account: Account, step: str, table: pa.Table) -> None:
    account.after(step, table.num_rows, pc.sum(pc.binary_length(table["text"])).as_py() or 0)
