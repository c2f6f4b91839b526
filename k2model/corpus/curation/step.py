"""The curation step: raw corpus in, curated corpus with its funnel out."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from k2model.corpus.curation import duplicates
from k2model.corpus.curation.decontamination import Contamination, read_contamination
from k2model.corpus.curation.funnel import Funnel
from k2model.corpus.curation.quality import RULES, rejecting_rule
from k2model.corpus.curation.shard import Shard, read_shard
from k2model.corpus.errors import CorpusError
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store

STEP = "corpus"
#: Generated sources written in words, checked for overlapping words besides their keys.
WORDED_SOURCES = ("facts", "chat/facts", "chat/identity", "chat/tools")

Place = tuple[Shard, int]


def curate(store: "Store", config: CorpusConfig, raw: "ArtifactRef") -> "ArtifactRef":
    """The curated corpus of `raw`. Raises `CorpusError` when a source has nothing left."""
    from k2model.artifacts import Identity

    settings = {
        "sources": [source.name for source in config.sources],
        "near_duplicate_threshold": config.near_duplicate_threshold,
        "minhash_permutations": config.minhash_permutations,
        "min_characters": config.min_characters,
        "max_characters": config.max_characters,
    }
    identity = Identity(step=STEP, version=STEP_VERSIONS[STEP], config=settings, inputs={"raw": raw})
    return store.build(identity, lambda folder: curate_folder(store.fetch(raw), folder, config))


def curate_folder(raw: Path, folder: Path, config: CorpusConfig) -> dict[str, float]:
    """Curate the corpus in `raw` into `folder`; returns counts. Held-out documents stand before trained ones,
    so that a training document which copies a held-out one is the one to go."""
    shards = [read_shard(raw, side, source.name) for side in ("heldout", "train") for source in config.sources]
    funnel = Funnel()
    funnel.after("raw", shards)
    funnel.normalised = sum(shard.normalise() for shard in shards)
    funnel.after("normalised", shards)
    _drop_exact_duplicates(shards, funnel)
    funnel.after("exact_duplicates", shards)
    _drop_bad_quality(shards, funnel, config)
    funnel.after("quality", shards)
    _drop_near_duplicates(shards, funnel, config)
    funnel.after("near_duplicates", shards)
    _decontaminate(shards, funnel, read_contamination(raw))
    funnel.after("decontaminated", shards)
    _write(raw, folder, shards, funnel)
    return _stats(shards, funnel)


def _drop_exact_duplicates(shards: Sequence[Shard], funnel: Funnel) -> None:
    places = [(shard, row) for shard in shards for row in shard.living()]
    firsts = duplicates.exact(shard.texts[row] for shard, row in places)
    _merge(places, firsts, funnel, "exact_duplicate")


def _drop_near_duplicates(shards: Sequence[Shard], funnel: Funnel, config: CorpusConfig) -> None:
    places = [(shard, row) for shard in shards if shard.natural for row in shard.living()]
    bodies = [shard.body(row) for shard, row in places]
    firsts = duplicates.near(bodies, config.near_duplicate_threshold, config.minhash_permutations)
    _merge(places, firsts, funnel, "near_duplicate")


def _merge(places: Sequence[Place], firsts: Sequence[int], funnel: Funnel, rule: str) -> None:
    """Drop every place whose first is another one, which takes over its count."""
    for (shard, row), first, own in zip(places, firsts, range(len(places)), strict=True):
        if first != own:
            kept, kept_row = places[first]
            kept.duplicates[kept_row] += shard.duplicates[row]
            funnel.reject(shard, row, rule)


def _drop_bad_quality(shards: Sequence[Shard], funnel: Funnel, config: CorpusConfig) -> None:
    for shard in shards:
        for row in shard.living():
            length = len(shard.texts[row])
            if length < config.min_characters:
                funnel.reject(shard, row, "too_short")
            elif length > config.max_characters:
                funnel.reject(shard, row, "too_long")
            elif shard.natural and (rule := rejecting_rule(shard.body(row), RULES[shard.source])):
                funnel.reject(shard, row, rule)


def _decontaminate(shards: Sequence[Shard], funnel: Funnel, contamination: Contamination) -> None:
    for shard in shards:
        if shard.side != "train":
            continue
        keys = shard.table["key"].to_pylist()
        worded = shard.natural or shard.source in WORDED_SOURCES
        for row in shard.living():
            if key := contamination.matching_key(keys[row]):
                funnel.reject(shard, row, "item_key", sample=key)
            elif worded and (words := contamination.matching_words(shard.texts[row])):
                funnel.reject(shard, row, "item_words", sample=words)


def _write(raw: Path, folder: Path, shards: Sequence[Shard], funnel: Funnel) -> None:
    for shard in shards:
        if shard.side == "train" and not any(shard.alive):
            raise CorpusError(
                f"corpus source '{shard.source}' has no training document left after curation: "
                f"{json.dumps(funnel.report(shards)['train'][shard.source]['rejects'])[:600]}. Raise its number of "
                "documents, or loosen corpus.near_duplicate_threshold, min_characters or max_characters"
            )
        shard.write(folder)
    shutil.copytree(raw / "items", folder / "items")
    account = json.dumps(funnel.report(shards), indent=1, ensure_ascii=False)
    (folder / "curation.json").write_text(account + "\n", encoding="utf-8")


def _stats(shards: Sequence[Shard], funnel: Funnel) -> dict[str, float]:
    totals = [shard.totals() for shard in shards if shard.side == "train"]
    return {
        "documents": float(sum(total["documents"] for total in totals)),
        "bytes": float(sum(total["bytes"] for total in totals)),
        "exact_duplicates": float(funnel.rejected("exact_duplicate")),
        "near_duplicates": float(funnel.rejected("near_duplicate")),
        "contaminated": float(funnel.rejected("item_key") + funnel.rejected("item_words")),
    }
