"""The account of a whole curation, `curation.json`: what each step left of every source, and what each rule took."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from k2model.artifacts import ArtifactRef, Store, read_json
from k2model.artifacts.outside import remedy
from k2model.curation import clean, selection
from k2model.curation.counts import CurationCounts, merged, read_counts
from k2model.curation.decontamination import TALLY_SCHEMA, Tally, decontamination
from k2model.curation.overlap import Items
from k2model.curation.parts import SPLITS, CorpusPart
from k2model.documents.tables import read_table, write_table
from k2model.errors import CorpusError, CorruptArtifact
from k2model.plain import NotPlain, read_as
from k2model.recipe.mixtures import BUCKETS
from k2model.recipe.schema import CorpusConfig
from k2model.units import readable_size

_log = logging.getLogger(__name__)

STEPS = (*clean.STEPS, *selection.STEPS)
BYTES_PER_TOKEN = 3  # an estimate, as validation makes it before there is a tokenizer
MATCHES = 24  # shown of all contamination found
MUCH = 0.5  # of a source's bytes: a step that takes so much of it is said at once
#: What a person may have to change about a step that takes much.
SETTINGS = {
    "length": "corpus.min_characters={config.min_characters:,}, max_characters={config.max_characters:,}",
    "near_duplicates": "corpus.near_duplicate_threshold={config.near_duplicate_threshold:g}",
}

Accounts = Mapping[tuple[str, str], CurationCounts]


def summarise(
    raw: Path, parts: Path, folder: Path, corpus_parts: Sequence[CorpusPart], config: CorpusConfig,
    items: tuple[Items, ...], stored: tuple[Path, ...] = (),
) -> dict[str, float]:  # fmt: skip
    """Write `curation.json` and `contamination.parquet` into `folder` from what `select_part` wrote below `parts`.

    `items` and `stored` are those that it was given.
    Returns counts. Raises CorpusError when a source has no training document left.
    """
    accounts = {
        (split, source.name): merged(
            read_counts(part.file(parts / clean.ACCOUNT, ".json"))
            for part in corpus_parts
            if (part.split, part.source) == (split, source.name)
        )
        for split in SPLITS
        for source in config.sources
    }
    _refuse_empty(accounts)
    tally = Tally(decontamination(raw, config.decontamination, items, stored).items)
    for part in corpus_parts:
        if part.split == "train":
            tally.add(read_table(part.file(parts / selection.CONTAMINATION), TALLY_SCHEMA))
    write_table(folder / "contamination.parquet", tally.table())
    content = report(accounts, tally)
    _tell_large_losses(content, config)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / CURATION_FILE).write_text(text + "\n", encoding="utf-8")
    return _stats(accounts)


CURATION_FILE = "curation.json"


class _Left(TypedDict):
    documents: int
    bytes: int


class _Rejected(TypedDict):
    documents: int
    samples: list[str]


class _Account(TypedDict):
    rejects: dict[str, _Rejected]


class _OfSource(_Account):
    steps: dict[str, _Left]


class CurationAccounts(TypedDict):
    """What was rejected, in `curation.json`; by source."""

    train: dict[str, _Account]
    heldout: dict[str, _Account]


class _Family(TypedDict):
    items: int
    holds_out: bool
    touched: int
    overlapping: int
    removed: int
    kept: int


class _Decontamination(TypedDict):
    families: dict[str, _Family]
    matches: list[dict[str, Any]]


class CurationReport(TypedDict):
    """What others read of `curation.json`."""

    train: dict[str, _OfSource]
    heldout: dict[str, _OfSource]
    duplicates: dict[str, dict[str, int]]
    personal_data: dict[str, int]
    decontamination: _Decontamination


def read_curation(store: Store, corpus: ArtifactRef) -> CurationReport:
    """`curation.json` of a curated corpus. Raises the store's errors."""
    content = read_json(CurationReport, store, corpus, CURATION_FILE)
    if short := [name for name, one in content["train"].items() if len(one["steps"]) < 2]:
        raise CorruptArtifact(
            f"{corpus.uri}/{CURATION_FILE} does not say what each step left of '{short[0]}'. {remedy(corpus.uri)}"
        )
    return content


@dataclass(frozen=True)
class Loss:
    """Bytes of text that one step took of a source, and their `share` (0..1) of what was read."""

    step: str
    octets: int
    share: float


def losses(source: Mapping[str, Any]) -> list[Loss]:
    """What the steps took of a source's entry of `curation.json`, the most first; none of those that took nothing."""
    left = {step: int(totals["bytes"]) for step, totals in source["steps"].items()}
    read = next(iter(left.values()))
    found = [
        Loss(step, before - after, (before - after) / read)
        for before, (step, after) in zip(left.values(), list(left.items())[1:], strict=False)
        if after < before
    ]
    return sorted(found, key=lambda loss: -loss.octets)


def _tell_large_losses(content: Mapping[str, Any], config: CorpusConfig) -> None:
    for name, source in content["train"].items():
        for loss in losses(source):
            if loss.share >= MUCH:
                setting = SETTINGS.get(loss.step, "").format(config=config)
                rules = ", ".join(f"{rule} {one['documents']:,}" for rule, one in source["rejects"].items())
                _log.warning(
                    "corpus: '%s' loses %.0f%% of its bytes (%s) to '%s'%s; documents rejected: %s",
                    name, 100 * loss.share, readable_size(loss.octets), loss.step,
                    f" ({setting})" if setting else "", rules,
                )  # fmt: skip


def report(accounts: Accounts, tally: Tally) -> dict[str, Any]:
    """JSON: `train` and `heldout` by source with `steps` and `rejects`, then what concerns all."""
    total = merged(accounts.values())
    by_split = {
        split: {source: _source(account) for (own, source), account in accounts.items() if own == split}
        for split in ("train", "heldout")
    }
    return by_split | {
        "duplicates": _histogram(accounts),
        "normalised_documents": total.counts["normalised"],
        "personal_data": total.counts.below("pii"),
        "decontamination": {"families": tally.families(), "matches": _matches(accounts)},
    }


def _source(account: CurationCounts) -> dict[str, Any]:
    steps = {}
    for step in STEPS:
        documents, octets = (account.counts[f"{name}/{step}"] for name in ("documents", "bytes"))
        steps[step] = {"documents": documents, "bytes": octets, "tokens": octets // BYTES_PER_TOKEN}
    rejects = {
        rule: {"documents": count, "samples": account.texts(rule)}
        for rule, count in account.counts.below("rejects").items()
    }
    extra = {name: account.counts.below(key) for name, key in (("personal_data", "pii"), ("languages", "languages"))}
    return {"steps": steps, "rejects": rejects, **{name: counts for name, counts in extra.items() if counts}}


def _histogram(accounts: Accounts) -> dict[str, dict[str, int]]:
    """Training documents by how many copies they stand for, in K2's buckets, for each source and in all."""
    own = {source: account for (split, source), account in accounts.items() if split == "train"}
    counted = {"all": merged(own.values()), **own}
    return {source: {name: one.counts[f"bucket/{name}"] for name in BUCKETS} for source, one in counted.items()}


def _matches(accounts: Accounts) -> list[dict[str, Any]]:
    """A seeded sample of what was taken for contamination, with both texts, for a person to judge."""
    found = sorted(
        (key, source, text)
        for (_, source), account in accounts.items()
        for key, text in account.samples.get(selection.MATCH, ())
    )
    return [{"source": source, **_shown(source, text)} for _, source, text in found[:MATCHES]]


def _shown(source: str, text: str) -> dict[str, Any]:
    try:
        return read_as(dict[str, Any], text.encode("utf-8", "surrogatepass"))
    except NotPlain as error:
        raise CorruptArtifact(
            f"what curation kept of '{source}' to show as contamination is no sample ({error}). Delete the folder of "
            "corpus' parts and run again: they will be made again"
        ) from error


def _refuse_empty(accounts: Accounts) -> None:
    for (split, source), account in accounts.items():
        if split == "train" and not account.counts[f"documents/{STEPS[-1]}"]:
            told = json.dumps(_source(account)["rejects"], ensure_ascii=False)[:600]
            raise CorpusError(
                f"corpus source '{source}' has no training document left after curation: {told}. Raise its number of "
                "documents, or loosen corpus.near_duplicate_threshold, min_characters, max_characters or its profile"
            )


def _stats(accounts: Accounts) -> dict[str, float]:
    trained = merged(account for (split, _), account in accounts.items() if split == "train")
    total = merged(accounts.values())

    def rejected(*rules: str) -> float:
        return float(sum(total.counts[f"rejects/{rule}"] for rule in rules))

    return {
        "documents": float(trained.counts[f"documents/{STEPS[-1]}"]),
        "bytes": float(trained.counts[f"bytes/{STEPS[-1]}"]),
        "exact_duplicates": rejected("exact_duplicate"),
        "near_duplicates": rejected("near_duplicate"),
        "contaminated": rejected("item_key", "item_words"),
    }
