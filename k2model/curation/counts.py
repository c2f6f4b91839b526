"""What happened to the documents of a part: counts, and samples that do not depend on how parts are cut.

Counts have names like `documents/quality` or `rejects/few_words`. A sample is chosen by a hash of the document's id,
the smallest ones stand: so samples are seeded, spread over all parts, and the same however the parts are cut.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypedDict

import pyarrow as pa

from k2model.artifacts import read_json_file
from k2model.documents.counts import Counts
from k2model.documents.tables import read_table, required, write_table

SAMPLES = 8  # of every rule and source
SAMPLE_CHARACTERS = 200

REJECT_SCHEMA = required(row=pa.int64(), id=pa.string(), rule=pa.string(), detail=pa.string())


class Reject(NamedTuple):
    """A document that went: its row in the raw part, and as `detail` what it copies or which item it holds."""

    row: int
    id: str
    rule: str
    detail: str = ""


@dataclass
class CurationCounts:
    """Counts and samples of one or several parts; `rejects` are those of one part and go to a file of their own."""

    counts: Counts = field(default_factory=Counts)
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    rejects: list[Reject] = field(default_factory=list)

    def after(self, step: str, documents: int, octets: int) -> None:
        """Documents left after a step."""
        self.counts[f"documents/{step}"] += documents
        self.counts[f"bytes/{step}"] += octets

    def reject(self, reject: Reject, sample: str) -> None:
        """`sample` is what a person is shown of the document."""
        self.rejects.append(reject)
        self.counts[f"rejects/{reject.rule}"] += 1
        self.sample(reject.rule, reject.id, sample[:SAMPLE_CHARACTERS])

    def sample(self, rule: str, identity: str, text: str) -> None:
        """Keep the text if its hash is among the smallest."""
        key = hashlib.blake2b(f"{rule} {identity}".encode(), digest_size=8).hexdigest()
        kept = self.samples[rule]
        if len(kept) < SAMPLES or key < kept[-1][0]:
            self.samples[rule] = sorted([*kept, (key, text)])[:SAMPLES]

    def texts(self, rule: str) -> list[str]:
        return [text for _, text in self.samples.get(rule, ())]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"counts": dict(sorted(self.counts.items())), "samples": dict(sorted(self.samples.items()))}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class _Counted(TypedDict):
    counts: dict[str, int]
    samples: dict[str, list[tuple[str, str]]]


def read_counts(path: Path) -> CurationCounts:
    """Raises CorruptArtifact for what `CurationCounts.save` has not written."""
    content = read_json_file(_Counted, path.parent, path.name)
    return CurationCounts(Counts(content["counts"]), defaultdict(list, content["samples"]))


def merged(accounts: Iterable[CurationCounts]) -> CurationCounts:
    """What the accounts count together, and the samples that stand among those of all; without their rejects."""
    total = CurationCounts()
    for account in accounts:
        total.counts.update(account.counts)
        for rule, samples in account.samples.items():
            total.samples[rule] = sorted([*total.samples[rule], *samples])[:SAMPLES]
    return total


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """In the order of rows."""
    ordered = sorted(rejects, key=lambda reject: reject.row)
    write_table(path, pa.Table.from_pylist([reject._asdict() for reject in ordered], schema=REJECT_SCHEMA))


def read_rejects(path: Path) -> list[Reject]:
    return [Reject(**row) for row in read_table(path, REJECT_SCHEMA).to_pylist()]
