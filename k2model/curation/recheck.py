"""Stored data compared with evaluation items that were not known when it was curated: nothing is curated again.

The corpus is left as it is. What comes back tells whether a new evaluation can be trusted on models trained on it, and
which documents to leave out of the next curation (name the file in `corpus.decontamination.external`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from k2model.curation.account import Account, merged
from k2model.curation.clean import BATCH_BYTES, profile_of
from k2model.curation.decontamination import Decontamination, Tally
from k2model.curation.funnel import families
from k2model.curation.overlap import ItemFile, external, item_files
from k2model.curation.parts import Place, batches, places_in
from k2model.curation.selection import MATCH
from k2model.curation.texts import by_bytes
from k2model.recipe.schema import CorpusConfig


@dataclass
class Recheck:
    """`documents` that hold an item, of those `read`; `tally` counts them by item, as removed: they ought to go."""

    read: int
    documents: int
    tally: Tally
    account: Account

    @property
    def families(self) -> dict[str, dict[str, Any]]:
        """By family: items, those touched, and documents."""
        return families(self.tally)

    def matches(self) -> list[dict[str, Any]]:
        """A seeded sample with both texts."""
        return [json.loads(text) for text in self.account.texts(MATCH)]


def recheck(corpus: Path, files: Sequence[str], config: CorpusConfig, workers: int = 1) -> Recheck:
    """Compare the training documents of a curated (or validated) corpus folder with the items of `files`.

    Only sources whose profile looks for overlap are read; generated ones are known by key, and further items have
    none. Raises CorpusError for a file of items that cannot be read.
    """
    from k2model.artifacts import map_in_processes

    items = item_files(files)
    names = [source.name for source in config.sources if profile_of(source.name, config).overlap]
    places = [place for place in places_in(corpus, names) if place.side == "train"]
    shares = [places[first::workers] for first in range(min(workers, len(places)))]
    found = map_in_processes(partial(recheck_parts, corpus, items, config), shares, workers)
    tally = Tally(list(external(items, config.decontamination)))
    for _, own in found:
        tally.merge(own)
    account = merged(account for account, _ in found)
    return Recheck(account.counts["read"], account.counts["documents"], tally, account)


def recheck_parts(
    corpus: Path, files: Sequence[ItemFile], config: CorpusConfig, places: Sequence[Place]
) -> tuple[Account, Tally]:
    """The same of some parts, one after another: the items are made ready once, and counted once for all of them."""
    judge = Decontamination(external(files, config.decontamination), config.decontamination)
    account, tally = Account(), Tally(judge.items)
    for place in places:
        for batch in batches(place.file(corpus), ["id", "text", "key"]):
            for piece in by_bytes(batch, "text", BATCH_BYTES):
                _recheck(pa.Table.from_batches([piece]), judge, account, tally)
    return account, tally


def _recheck(table: pa.Table, judge: Decontamination, account: Account, tally: Tally) -> None:
    matches = judge.judge(table, True, tally)
    account.counts.update(read=table.num_rows, documents=len(matches))
    for match in matches:
        document, text = table["id"][match.row].as_py(), table["text"][match.row].as_py()
        shown = json.dumps(match.shown(document, text), ensure_ascii=False)
        account.sample(MATCH, f"{document} {match.item.id}", shown)
