"""The gate of an arriving batch: what is trained on has passed it, and what has not is told why, with evidence.

    judge_batch     without a model: the batch's corpus beside what the line knows, and every check as a row
    measure_batch   how likely its documents are under the champion (`k2model.continual.gate.plausible`)
    finding         both together: what the ledger is told

What is wrong with the data is a decision; what is wrong with the store or a disk is raised, and the batch is judged
again. The same batch beside the same line is judged once: the decision is an artifact, known by what it was made from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, MissingArtifact, Store, make
from k2model.continual.batches import Manifest
from k2model.continual.gate.batch_corpus import BatchCorpus, batch_corpus, batch_recipe, batch_tokens, placeless
from k2model.continual.gate.checks import data_checks, text_checks
from k2model.continual.gate.evidence import (
    ARRIVAL,
    PAGE,
    Arrival,
    Check,
    decided,
    page,
    read_arrival,
    reason_of,
    with_accepted,
)
from k2model.continual.gate.plausible import measure_batch, plausible
from k2model.continual.gate.profile import profile_step, read_profiles
from k2model.continual.gate.reading import sampled
from k2model.continual.inbox import BatchChanged, Inbox
from k2model.continual.state import LIFECYCLE, Batch, Corpus, Model, Standing, State
from k2model.curation.known import check_comparable
from k2model.curation.overlap import item_files
from k2model.errors import CorpusError, EvaluationError
from k2model.recipe import Recipe
from k2model.recipe.fields import without_places
from k2model.versions import STEP_VERSIONS

__all__ = ["Finding", "finding", "judge_batch", "measure_batch"]

SIGNATURES = "signatures"  # the check whether copies can be looked for at all
DOCUMENTS = 5_000  # of each split of a batch whose words are looked at
HELD = (Standing.WAITING, Standing.TAKEN, Standing.SET_ASIDE)  # batches whose documents are known


@dataclass(frozen=True)
class Finding:
    """What became of a batch, for the ledger. corpus, where it passed. accepted: checks that a person accepts."""

    decision: Standing
    reason: str
    tokens: int
    late: bool
    corpus: Corpus | None
    arrival: ArtifactRef
    losses: ArtifactRef | None
    accepted: tuple[str, ...] = ()

    def of(self, manifest: Manifest) -> Batch:
        """The batch as the ledger has it."""
        return Batch(
            manifest.name, manifest.kind, manifest.digest, self.decision, self.reason, late=self.late,
            tokens=self.tokens, corpus=self.corpus, arrival=self.arrival, improves=manifest.improves,
            accepted=self.accepted, losses=self.losses,
        )  # fmt: skip


@dataclass(frozen=True)
class _Known:
    """What the line knows: signatures of its corpora, and profiles of the champion's texts, each by the corpus's name;
    their items by digest; the names of corpora whose signatures are lost; and the corpus that the line began with."""

    clean: Mapping[str, ArtifactRef]
    items: Mapping[str, ArtifactRef]
    profiles: Mapping[str, ArtifactRef]
    unsigned: tuple[str, ...]
    registered: ArtifactRef | None


def judge_batch(
    store: Store, recipe: Recipe, state: State, manifest: Manifest, inbox: Inbox, workers: int = 1
) -> ArtifactRef:
    """What of a batch is valid and new, and what speaks against it; kind `arrival`.

    Raises ArtifactError where the store or what lies in it cannot be used, CorpusError for a benchmark of the recipe
    that cannot be read, EvaluationError where the line has no champion.
    """
    if state.model is None:
        raise EvaluationError(
            f"line '{state.line}' has no champion, so there is nothing to judge batch '{manifest.name}' by; start it "
            "first"
        )
    known = _known(store, recipe, state, state.model, manifest.name)
    tokenizer = state.model.made["tokenizer"]
    broken = _changed(store, manifest, inbox)
    twin, late = _twin(state, manifest, inbox), is_late(state, manifest)
    accepted = _accepted(state, manifest)
    own = batch_recipe(recipe, manifest.source)
    config: dict[str, Any] = {
        "arrival": recipe.continual.arrival,
        "unsigned": recipe.continual.guard.unsigned,
        "accepted": list(accepted),
        "batch": {"name": manifest.name, "digest": manifest.digest, "broken": broken, "same_as": twin, "late": late},
        "corpus": without_places(replace(own.corpus, sources=())),
        "external_items": [one.read for one in item_files(recipe.corpus.decontamination.external)],
        "validation": without_places(own.validation),
        "champions_corpora": list(known.profiles),
        "unsigned_corpora": list(known.unsigned),
    }
    inputs = {
        f"{kind}/{name}": ref
        for kind in ("clean", "items", "profiles")
        for name, ref in getattr(known, kind).items()
    }  # fmt: skip
    inputs |= {"tokenizer": tokenizer} | ({"registered": known.registered} if known.registered else {})
    identity = Identity("arrival", STEP_VERSIONS["arrival"], config, inputs)
    if (found := store.find(identity)) is not None:
        return found
    # Made before the lease on the verdict is taken: these are artifacts of their own, with leases of their own.
    checks = with_accepted([*_first_checks(recipe, manifest, broken, twin), *_unsigned(recipe, known)], accepted)
    corpus = BatchCorpus()
    notes: list[str] = ["it covers days before the last turn"] if late else []
    if decided(checks) is Standing.WAITING:
        corpus = batch_corpus(store, own, known.registered, known.clean, [*known.items.values()], workers)
        checks += with_accepted(data_checks(corpus, recipe.continual.arrival), accepted)
    if "corpus_valid" in corpus.made:
        splits = [sampled(store, corpus.made["corpus_valid"], DOCUMENTS, split) for split in ("train", "heldout")]
        documents = [one for split in splits for one in split]
        profiles = read_profiles(store, known.profiles.values())
        found_in, noted = text_checks(documents, profiles, recipe.continual.arrival, manifest.verifier)
        checks, notes = (*checks, *with_accepted(found_in, accepted)), [*notes, *noted]
    if "corpus_valid" in corpus.made and decided(checks) is Standing.WAITING:
        batch_tokens(store, own, corpus, tokenizer, workers)
    if corpus.failure:
        checks = (*checks, Check("corpus", 1, 0, False, f"its corpus cannot be made: {corpus.failure}"))
    told = Arrival(
        manifest.name, manifest.kind, manifest.digest, late, checks, corpus.fates(), tuple(notes), corpus.made, accepted
    )
    return store.build(identity, lambda folder: _write(folder, told))


def _write(folder: Path, told: Arrival) -> dict[str, float]:
    (folder / ARRIVAL).write_bytes(told.written())
    (folder / PAGE).parent.mkdir()
    (folder / PAGE).write_text(page(told), encoding="utf-8")
    return {"accepted": told.decision is Standing.WAITING, **told.counts}


def _known(store: Store, recipe: Recipe, state: State, model: Model, own: str) -> _Known:
    from k2model.evals.contamination import corpus_items_step

    corpora = {name: one for name, one in state.corpora.items() if name != own}
    clean = {
        name: one.clean
        for name, one in sorted(corpora.items())
        if one.clean and _signed(store, recipe, name, one.clean)
    }
    found = [make(store, corpus_items_step(store, one.valid, recipe.evaluation)) for _, one in sorted(corpora.items())]
    items = {ref.digest: ref for ref in reversed(found)}  # a batch has the items of what it was judged by
    words = recipe.continual.arrival.phrase_words
    profiles = {
        name: make(store, profile_step(store, one.valid, words))
        for name, one in sorted(corpora.items()) if name in model.corpora
    }  # fmt: skip
    first = corpora.get(LIFECYCLE)
    return _Known(clean, items, profiles, tuple(sorted(corpora.keys() - clean.keys())), first.valid if first else None)


def _signed(store: Store, recipe: Recipe, name: str, clean: ArtifactRef) -> bool:
    """Whether the signatures of a corpus are there, and made as a batch's are."""
    try:
        store.look_up(clean)
        check_comparable(store.record(clean), name, recipe.corpus, STEP_VERSIONS["corpus_clean"])
    except (MissingArtifact, CorpusError):
        return False
    return True


def _changed(store: Store, manifest: Manifest, inbox: Inbox) -> str:
    """What is no longer as the manifest says; "" where all is."""
    try:
        inbox.check(manifest)
    except BatchChanged as error:
        return placeless(placeless(str(error), manifest.source.location, store), inbox.files.uri, store)
    return ""


def _twin(state: State, manifest: Manifest, inbox: Inbox) -> str:
    """The name of a batch that came before and has the same data, "" where there is none."""
    earlier = {one.name for one in state.batches.values() if one.standing in HELD} - {manifest.name}
    return next((one.name for one in inbox.batches() if one.name in earlier and one.content == manifest.content), "")


def _accepted(state: State, manifest: Manifest) -> tuple[str, ...]:
    """Checks whose failing a person has accepted of just these data."""
    known = state.batches.get(manifest.name)
    return known.accepted if known is not None and known.digest == manifest.digest else ()


def is_late(state: State, manifest: Manifest) -> bool:
    """Whether the days that a batch covers are all before the day of the last turn."""
    last = state.turns[-1].kickoff[:10] if state.turns else ""
    return bool(manifest.covers) and manifest.covers[-1] < last


def _first_checks(recipe: Recipe, manifest: Manifest, broken: str, twin: str) -> list[Check]:
    """What is known before a row is read."""
    bound = recipe.continual.arrival.max_bytes
    return [
        Check("unchanged", float(bool(broken)), 0, not broken, broken or "its files are as its manifest says"),
        Check(
            "not empty", manifest.size, 1, manifest.size > 0,
            f"its files have {manifest.size:,} bytes" if manifest.size else "its files are empty",
        ),
        Check.at_most(
            "size", manifest.size, bound, f"its files have {manifest.size:,} bytes, at most {bound:,} are taken"
        ),
        Check(
            "data of its own", float(bool(twin)), 0, not twin,
            f"its data are those of batch '{twin}'" if twin else "no earlier batch has the same data",
        ),
    ]  # fmt: skip


def _unsigned(recipe: Recipe, known: _Known) -> list[Check]:
    if not known.unsigned:
        return []
    names, allowed = ", ".join(known.unsigned), recipe.continual.guard.unsigned
    remedy = "" if allowed else "; set continual.guard.unsigned to go on without"
    said = (
        f"copies of documents of {names} are not looked for: their signatures (corpus_clean) are lost, or made with "
        f"other settings{remedy}"
    )
    return [Check(SIGNATURES, len(known.unsigned), 0, allowed, said)]


def finding(store: Store, arrival: ArtifactRef, losses: ArtifactRef | None = None) -> Finding:
    """The decision on a batch: what was found of its data, and, where they were measured, of its losses under the
    champion."""
    told = read_arrival(store, arrival)
    checks = told.checks
    if losses is not None and told.decision is Standing.WAITING:
        checks += with_accepted(plausible(store, losses), told.accepted)
    decision, reason = decided(checks), reason_of(checks, told.counts)
    corpus = None
    if decision is Standing.WAITING:
        corpus = Corpus(told.batch, told.made["corpus_clean"], told.made["corpus_valid"], told.made["tokens"])
    return Finding(decision, reason, told.tokens, told.late, corpus, arrival, losses, told.accepted)
