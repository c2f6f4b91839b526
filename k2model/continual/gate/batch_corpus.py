"""The corpus of an arriving batch: the steps of the data, for its one source, beside what the line knows.

The recipe is the line's with the batch as its only source, and with bounds for something small: what a source of a
lifecycle would be stopped for is counted here, and judged by `recipe.continual.arrival` (`arrival`, beside
this file). So a batch gets as far as it can, and all that speaks against it is told at once. What is wrong with its
data ends the chain and is kept as `failure`; what is wrong with the store, a disk or the network is raised.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from k2model.artifacts import ArtifactRef, Part, PartedStep, PartRecord, Step, Store, local_parts, make, read_json
from k2model.artifacts.parts import find_part
from k2model.continual.gate.evidence import EXAMPLES, FATES
from k2model.continual.gate.reading import EXCERPT
from k2model.curation.counts import REJECT_SCHEMA
from k2model.documents.counts import Counts
from k2model.documents.schema import DOCUMENT_SCHEMA
from k2model.documents.tables import read_table, rows_of, selected
from k2model.errors import ArtifactError, DiskFull, K2Error
from k2model.recipe import Recipe
from k2model.recipe.expectations import Severity
from k2model.recipe.schema import SeverityOverride, SourceConfig

ITEM_RULES = ("item_key", "item_words")
COPY_RULES = ("exact_duplicate", "near_duplicate")
#: Expectations that set a document aside here, where a lifecycle stops: one item is no reason against a whole batch.
ITEM_EXPECTATIONS = ("no_evaluation_key", "no_evaluation_prompt")


@dataclass
class BatchCorpus:
    """As far as it was made.

    made: by kind. counts: of documents, `read`, `quarantined`, `sampled_out` and `known_copies`, by rule `rejects/...`
    of curation and `aside/...` of validation, `train` and `heldout` that are left; of those `tokens/` and `targets/`.
    ingest: what was read of the files. rejects: examples of each rule. failure: why it went no further.
    """

    made: dict[str, ArtifactRef] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    ingest: Mapping[str, Any] = field(default_factory=dict)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""

    def of(self, rules: Sequence[str]) -> int:
        """Documents that went for one of the rules of curation."""
        return sum(self.counts[f"rejects/{rule}"] for rule in rules)

    def examples(self, rules: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return tuple(islice((one for one in self.rejects if one["rule"] in rules), EXAMPLES))

    @property
    def damage(self) -> float:
        """The share of bytes or of files that could not be read, whichever is more."""
        if not (told := self.ingest):
            return 0.0
        return max(told["lost_bytes"] / max(1, told["input_bytes"]), told["damaged_files"] / max(1, told["files"]))

    @property
    def unusable(self) -> tuple[dict[str, Any], ...]:
        """Examples of what ingest, curation and validation cannot use."""
        samples = self.ingest.get("samples", {}).items() if self.ingest else ()
        of_files = [
            {"rule": reason, "detail": detail, "origin": f"{file}#{row}", "document": "", "text": text[:EXCERPT]}
            for reason, rows in samples
            for file, row, detail, text in rows
        ]
        others = (*ITEM_RULES, *ITEM_EXPECTATIONS, *COPY_RULES)
        return tuple([*of_files, *(one for one in self.rejects if one["rule"] not in others)][:EXAMPLES])

    def fates(self) -> dict[str, int]:
        """What became of the documents (`FATES`), `read` in all, and tokens; {} where none was read."""
        counts = self.counts
        if not self.ingest:
            return {}
        aside = counts.below("aside")
        held = sum(aside.get(one, 0) for one in ITEM_EXPECTATIONS)
        items, copies, known = self.of(ITEM_RULES) + held, self.of(COPY_RULES), counts["known_copies"]
        curation = sum(counts.below("rejects").values()) - self.of(ITEM_RULES) - copies
        unusable = counts["quarantined"] + curation + sum(aside.values()) - held
        fates = (counts["train"], counts["heldout"], unusable, known, copies - known, items, counts["sampled_out"])
        told = dict(zip(FATES, fates, strict=True)) | {"read": counts["read"]}
        for name in ("tokens", "targets"):
            if counts[f"{name}/train"]:
                told |= {name: counts[f"{name}/train"], f"{name} held out": counts[f"{name}/heldout"]}
        return told


def batch_recipe(recipe: Recipe, source: SourceConfig) -> Recipe:
    """The line's, for a corpus of the batch alone."""
    lenient = (SeverityOverride(f"documents/{one}", Severity.QUARANTINE) for one in ITEM_EXPECTATIONS)
    named = {f"documents/{one}" for one in ITEM_EXPECTATIONS}
    kept = (one for one in recipe.validation.severities if one.expectation not in named)
    validation = replace(
        recipe.validation, min_documents_per_source=1, max_quarantined_fraction=1.0, previous_statistics="",
        severities=(*kept, *lenient),
    )  # fmt: skip
    corpus = replace(recipe.corpus, sources=(replace(source, max_quarantined=1.0),))
    return replace(recipe, corpus=corpus, validation=validation)


def batch_corpus(
    store: Store,
    recipe: Recipe,
    registered: ArtifactRef | None,
    known: Mapping[str, ArtifactRef],
    items: Sequence[ArtifactRef],
    workers: int = 1,
) -> BatchCorpus:
    """The validated corpus of a batch, from its `batch_recipe`.

    registered: a corpus whose evaluation items the batch's has, too, and is judged by as it was; None = those that the
    recipe would build. known: signatures (kind `corpus_clean`) of what copies are looked for in. items: kind
    `evaluation_items`, that no document may hold.

    Raises ArtifactError and DiskFull, and whatever is no K2Error; see the module.
    """
    found = BatchCorpus()
    with_failure(found, recipe, store, lambda: _make(store, recipe, registered, known, items, workers, found))
    return found


def batch_tokens(store: Store, recipe: Recipe, found: BatchCorpus, tokenizer: ArtifactRef, workers: int = 1) -> None:
    """Adds the corpus's tokens in the line's tokenizer, checked."""
    from k2model.tokens import tokens_step
    from k2model.tokens.shards import counts_of
    from k2model.validation.tokens import tokens_checks_step

    def encode() -> None:
        tokens = make(store, tokens_step(store, found.made["corpus_valid"], tokenizer), workers)
        make(store, tokens_checks_step(store, recipe.validation, tokens), workers)
        found.made["tokens"] = tokens
        counted = counts_of(store, tokens)
        for split, sources in (("train", counted["train"]), ("heldout", counted["heldout"])):
            for one in sources.values():
                found.counts.update({f"tokens/{split}": one["tokens"], f"targets/{split}": one["targets"]})

    with_failure(found, recipe, store, encode)


def with_failure(found: BatchCorpus, recipe: Recipe, store: Store, work: Callable[[], None]) -> None:
    """Does the work, and keeps what it says of the data if it cannot be done."""
    try:
        work()
    except K2Error as error:
        if not about_data(error):
            raise
        found.failure = placeless(str(error), recipe.corpus.sources[0].location, store)


def about_data(error: K2Error) -> bool:
    """Whether an error speaks of what was read, and not of the machinery that read it."""
    cause = error.__cause__
    unreachable = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return not isinstance(error, ArtifactError | DiskFull) and not unreachable


def placeless(message: str, location: str, store: Store) -> str:
    """A message without the places of the batch and of the store, which are no part of what was found."""
    for place, name in ((location, "the batch"), (store.uri, "the store")):
        if place:
            message = message.replace(place.removeprefix("file://").rstrip("/"), name)
    return message


def _make(
    store: Store, recipe: Recipe, registered: ArtifactRef | None, known: Mapping[str, ArtifactRef],
    items: Sequence[ArtifactRef], workers: int, found: BatchCorpus,
) -> None:  # fmt: skip
    from k2model import curation
    from k2model.ingest import raw_step
    from k2model.validation.documents import raw_checks_step, valid_step

    config, made = recipe.corpus, found.made

    def step(kind: str, one: Step | PartedStep) -> ArtifactRef:
        made[kind] = make(store, one, workers)
        return made[kind]

    raw = step("corpus_raw", raw_step(config, store, registered))
    _count_ingest(store, raw, config.sources[0], found)
    step("raw_checks", raw_checks_step(store, recipe.validation, raw))
    clean = step("corpus_clean", curation.clean_step(store, config, raw))
    ranges = step("signature_ranges", curation.signature_ranges_step(store, config, clean))
    matches = step("signature_matches", curation.signature_matches_step(store, ranges))
    sketches = step("sketch_ranges", curation.sketch_ranges_step(store, config, clean, ranges, matches))
    near = step("near_duplicate_pairs", curation.near_pairs_step(store, config, sketches))
    copies = step("known_copies", curation.known_copies_step(store, config, clean, known)) if known else None
    found.counts["known_copies"] = int(copies.stats["exact"] + copies.stats["near"]) if copies else 0
    duplicates = step("duplicates", curation.duplicates_step(store, config, clean, matches, near, known=copies))
    curated = curation.curated_step(store, config, raw, clean, duplicates, items=items)
    try:
        corpus = step("corpus", curated)
    finally:
        _count_curation(store, raw, curated, found)
    valid = valid_step(
        store, recipe.validation, {}, corpus, min_characters=config.min_characters, max_characters=config.max_characters
    )
    _count_valid(store, step("corpus_valid", valid), found)


def _count_ingest(store: Store, raw: ArtifactRef, source: SourceConfig, found: BatchCorpus) -> None:
    from k2model.ingest.raw import INGEST_FILE, Ingested

    found.ingest = read_json(dict[str, Ingested], store, raw, INGEST_FILE)[source.name]
    quarantined = sum(found.ingest["quarantined"].values())
    found.counts.update(read=found.ingest["rows"], quarantined=quarantined, sampled_out=found.ingest["sampled_out"])


def _count_curation(store: Store, raw: ArtifactRef, curated: PartedStep, found: BatchCorpus) -> None:
    """From what the parts left, which are there even where all of them together leave nothing to train on."""
    there = ((part, find_part(store, curated.identity.name, part.name)) for part in curated.parts())
    records = [(part, record) for part, record in there if record is not None]
    for _, record in records:
        found.counts.update({name: one for name, one in record.counts.items() if name.startswith("rejects/")})
    found.rejects = list(_rejected(store, raw, curated, records))


def _rejected(
    store: Store, raw: ArtifactRef, curated: PartedStep, records: Sequence[tuple[Part, PartRecord]]
) -> Iterator[dict[str, Any]]:
    """The first few documents that went by each rule, with what was said and where they are from."""
    seen: Counts = Counts()
    folder = local_parts(store, curated.identity, [one for _, one in records], lambda path: path.startswith("rejects/"))
    for part, _ in records:
        rejects = read_table(folder / "rejects" / f"{part.name}.parquet", REJECT_SCHEMA).to_pylist()
        chosen = []
        for one in rejects:
            seen[one["rule"]] += 1
            if seen[one["rule"]] <= EXAMPLES:
                chosen.append(one)
        if chosen:
            file = f"{part.name}.parquet"
            path = store.fetch(raw, file.__eq__) / file
            table = read_table(path, selected(DOCUMENT_SCHEMA, "origin", "text"))
            rows = table.take([one["row"] for one in chosen]).to_pylist()
            for one, row in zip(chosen, rows, strict=True):
                text = row["text"][:EXCERPT]
                yield {
                    "rule": one["rule"], "detail": one["detail"], "origin": row["origin"], "document": one["id"],
                    "text": text,
                }  # fmt: skip


def _count_valid(store: Store, valid: ArtifactRef, found: BatchCorpus) -> None:
    """Documents that are left, and those set aside by reason: as an item where one of several reasons says so."""
    from k2model.validation.documents.part import ASIDE_SCHEMA

    aside = selected(ASIDE_SCHEMA, "id", "origin", "text", "reason")
    _, manifest = store.look_up(valid)
    paths = [entry.path for entry in manifest.files if entry.path.endswith(".parquet")]
    folder = store.fetch(valid, lambda path: path.split("/")[0] in ("train", "heldout", "quarantine"))
    for path in sorted(path for path in paths if path.count("/") == 2):
        split = path.split("/")[0]
        if split in ("train", "heldout"):
            found.counts[split] += rows_of(folder / path)
        elif split == "quarantine":
            for one in read_table(folder / path, aside).to_pylist():
                reasons = one["reason"].split(", ")
                item = next((each for each in reasons if each in ITEM_EXPECTATIONS), "")
                rule = item or reasons[0]
                found.counts[f"aside/{rule}"] += 1
                if found.counts[f"aside/{rule}"] <= EXAMPLES:
                    text = (one["text"] or "")[:EXCERPT]
                    found.rejects.append(
                        {"rule": rule, "detail": "", "origin": one["origin"], "document": one["id"], "text": text}
                    )
