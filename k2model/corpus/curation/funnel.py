"""What curation took, step by step: the account that becomes `curation.json`."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from k2model.corpus.curation.duplicates import BUCKETS, bucket
from k2model.corpus.curation.shard import Shard

SAMPLES = 3
SAMPLE_CHARACTERS = 200


class Funnel:
    """Documents and bytes left after each step, and rejects by rule with a few samples."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str], dict[str, dict[str, int]]] = defaultdict(dict)
        self._rejects: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._samples: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.normalised = 0

    def after(self, step: str, shards: Iterable[Shard]) -> None:
        for shard in shards:
            self._steps[shard.side, shard.source][step] = shard.totals()

    def reject(self, shard: Shard, row: int, rule: str, sample: str = "") -> None:
        """Drop a row for a reason; `sample` is what the report shows (the text by default)."""
        place = shard.side, shard.source
        shard.alive[row] = False
        self._rejects[place][rule] += 1
        samples = self._samples[place][rule]
        if len(samples) < SAMPLES:
            samples.append((sample or shard.texts[row])[:SAMPLE_CHARACTERS])

    def rejected(self, rule: str) -> int:
        return sum(counts[rule] for counts in self._rejects.values())

    def report(self, shards: Iterable[Shard]) -> dict[str, Any]:
        """JSON: `train` and `heldout` by source with `steps` and `rejects`, and the duplicate histogram."""
        made: dict[str, Any] = {"train": {}, "heldout": {}, "duplicates": {}, "normalised_documents": self.normalised}
        for (side, source), steps in self._steps.items():
            rejects = {
                rule: {"documents": count, "samples": self._samples[side, source][rule]}
                for rule, count in sorted(self._rejects[side, source].items())
            }
            made[side][source] = {"steps": steps, "rejects": rejects}
        made["duplicates"] = histogram(shards)
        return made


def histogram(shards: Iterable[Shard]) -> dict[str, dict[str, int]]:
    """Training documents by how many copies they stand for, in K2's buckets, for each source and in all."""
    counts: dict[str, Counter[str]] = {"all": Counter()}
    for shard in shards:
        if shard.side == "train":
            own = Counter(bucket(shard.duplicates[row]) for row in shard.living())
            counts[shard.source] = own
            counts["all"] += own
    return {source: {name: found[name] for name in BUCKETS.values()} for source, found in counts.items()}
