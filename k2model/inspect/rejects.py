"""What was set aside, and why: rows in quarantine, and documents that curation dropped by rule.

Quarantined rows are kept whole, with file and row where ingestion found them. Of what curation drops only
counts and a few samples stay, in `curation.json`.
"""

from collections import Counter
from typing import Any, NamedTuple

import pyarrow.compute as pc

from k2model.artifacts.content import MOST
from k2model.artifacts.outside import read_typed, remedy
from k2model.curation.funnel import CURATION_FILE, CurationAccounts
from k2model.errors import nearest
from k2model.inspect.artifact import ArtifactView, LookingError, TableFile

QUARANTINED = "quarantined"  # names all of the quarantine


class Reason(NamedTuple):
    """`kept`: "rows" in quarantine, or "samples" of what curation dropped."""

    reason: str
    documents: int
    kept: str


def reasons_of(view: ArtifactView) -> list[Reason]:
    """Every reason with its count, most frequent first; a row with two reasons counts under both."""
    found = [Reason(name, count, "rows") for name, count in _quarantined(view).items()]
    dropped: Counter[str] = Counter()
    for _, _, rule, entry in rules_of(view):
        dropped[rule] += entry["documents"]
    found += [Reason(rule, count, "samples") for rule, count in dropped.items()]
    return sorted(found, key=lambda one: (-one.documents, one.reason))


def is_kept_as_rows(view: ArtifactView, reason: str) -> bool:
    """Whether rows of `reason` are in quarantine. Raises LookingError, with the nearest name, for an unknown one."""
    known = reasons_of(view)
    kept = {one.kept for one in known if reason in (QUARANTINED, one.reason)}
    if kept:
        return "rows" in kept
    names = sorted({one.reason for one in known})
    raise LookingError(f"{view.name}: nothing was set aside as '{reason}'; {nearest(reason, names)}")


def _quarantined(view: ArtifactView) -> Counter[str]:
    found: Counter[str] = Counter()
    if view.sequences or not any(path.startswith("quarantine/") for path in view.files.sizes()):
        return found
    for path in view.tables("quarantine"):
        file = TableFile(view.files, path)
        if "reason" not in file.names:
            raise LookingError(f"{path} has no column 'reason'; quarantine is written by ingestion and validation")
        for group in range(file.groups):
            for several in pc.value_counts(file.read(group, ["reason"])["reason"]).to_pylist():
                for reason in several["values"].split(", "):
                    found[reason] += several["counts"]
    return found


def rules_of(view: ArtifactView) -> list[tuple[str, str, str, dict[str, Any]]]:
    """(split, source, rule, {documents, samples}) of every rule that dropped something."""
    if view.only or not view.files.exists(CURATION_FILE):
        return []
    advice = remedy(view.files.uri)
    content = read_typed(CurationAccounts, view.files, CURATION_FILE, "what curation writes", advice, MOST)
    return [
        (split, source, rule, {**entry})
        for split, sources in (("train", content["train"]), ("heldout", content["heldout"]))
        for source, account in sources.items()
        for rule, entry in account["rejects"].items()
    ]
