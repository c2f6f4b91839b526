"""What a run did to its data that a person should know without looking for it: the bytes it kept of each source, and
every warning of a gate. Printed at the end of a run, shown at the head of the report, and said by curation at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, MissingArtifact, Store, read_json
from k2model.curation.funnel import losses
from k2model.validation.outcome import Recorded


@dataclass(frozen=True)
class KeptLine:
    """Of the training documents of one source, in bytes of text. `lost_to`: the steps that took most."""

    source: str
    read: int
    kept: int
    documents: int
    lost_to: str

    @property
    def share(self) -> float:
        """Of what was read, 0..1."""
        return self.kept / self.read if self.read else 0.0


def kept_lines(curation: Mapping[str, Any]) -> list[KeptLine]:
    """Every source of a `curation.json`, the one that lost the most of itself first."""
    lines = []
    for source, content in curation["train"].items():
        first, *_, last = content["steps"].values()
        taken = ", ".join(f"{loss.step.replace('_', ' ')} {loss.share:.1%}" for loss in losses(content)[:2])
        lines.append(KeptLine(source, int(first["bytes"]), int(last["bytes"]), int(last["documents"]), taken))
    return sorted(lines, key=lambda line: (line.share, line.source))


@dataclass(frozen=True)
class WarningLine:
    """An expectation of severity `warn` that was not met: on `observed` of `total` rows of the table `table`."""

    gate: str
    expectation: str
    table: str
    observed: int
    total: int
    sample: str
    remedy: str

    @property
    def told(self) -> str:
        """In one line."""
        where = f"{self.observed:,} of {self.total:,} of {self.table}"
        return f"{self.gate}: {self.expectation} not met by {where}" + (f" ({self.sample})" if self.sample else "")


def gate_warnings(store: Store, gates: Mapping[str, Identity]) -> list[WarningLine]:
    """What the gates warned of, which are given by their names in the lifecycle. Raises the store's errors."""
    found = {name: store.find(identity) for name, identity in gates.items()}
    if gone := [name for name, ref in found.items() if ref is None]:
        raise MissingArtifact(f"what {', '.join(gone)} found is not in {store.uri} any more: run the lifecycle again")
    return [line for name, ref in found.items() if ref for line in _warnings(name, _expectations(store, ref))]


def _expectations(store: Store, ref: ArtifactRef) -> Iterable[Mapping[str, Any]]:
    _, manifest = store.look_up(ref)
    paths = {entry.path for entry in manifest.files} & {"validation.json", "attachments/mixtures.json"}
    for path in sorted(paths):
        yield from read_json(Recorded, store, ref, path)["expectations"]


def _warnings(gate: str, expectations: Iterable[Mapping[str, Any]]) -> Iterable[WarningLine]:
    for one in expectations:
        if one["severity"] == "warn" and not one["success"]:
            yield WarningLine(
                gate=gate,
                expectation=f"{one['suite']}/{one['expectation']}",
                table=str(one["shard"]),
                observed=int(one["observed"]),
                total=int(one["total"]),
                sample=next(iter(one["samples"]), ""),
                remedy=str(one["remedy"]),
            )
