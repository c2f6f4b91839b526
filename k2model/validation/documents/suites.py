"""Every rule a corpus must obey, declared once as Great Expectations suites.

What a breach leads to is not said here but in `k2model.recipe.expectations`, by the rule's name, and may
be changed by the recipe. The tables the rules look at are made in `tables` and `measures`; running
them is `k2model.validation.suites`'s business.
"""

from dataclasses import dataclass
from typing import Any

from k2model.documents.schema import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.recipe.schema import ValidationConfig
from k2model.validation import Rules, Suite

#: ASCII and C1 control characters but tab, line feed, carriage return and form feed (which separates
#: pages of source code), and the replacement character that a wrong decoding leaves behind.
BAD_CHARACTERS = "[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x9f\\ufffd]"

UNKNOWN_LICENCES = ["", "unknown", "UNKNOWN", "NONE", "NOASSERTION"]


@dataclass(frozen=True)
class Bounds:
    """All numbers the rules depend on. Lengths are in characters of a document's content, which is its
    text without special tokens."""

    config: ValidationConfig
    min_characters: int = 1
    max_characters: int = 20_000

    def rules(self, suite: str) -> Rules:
        return Rules(suite, self.config.severities)


def schema_suite(bounds: Bounds) -> Suite:
    """On `schema_frame`: every file has exactly the columns and types of its table."""
    rules = bounds.rules("schema")
    remedy = "write the file with the schema in k2model/documents/schema.py"
    return rules.made(rules.equal("columns_and_types", remedy, "type", "expected"))


def raw_suite(bounds: Bounds) -> Suite:
    """On `document_frame` of a part as the builders wrote it; what curation mends is only warned of."""
    rules = bounds.rules("raw")
    return rules.made(*_of_every_document(rules))


def documents_suite(bounds: Bounds) -> Suite:
    """On `document_frame` of a training part of the curated corpus."""
    rules = bounds.rules("documents")
    leak = "run decontamination again: a document of this shard holds an evaluation item"
    low, high = bounds.min_characters, bounds.max_characters
    ascii_remedy = "lower validation.min_ascii_fraction where other scripts are wanted"
    return rules.made(
        *_of_every_document(rules),
        rules.length("length", "corpus.min_characters and max_characters are the bounds", "content", low, high),
        rules.between("mostly_not_ascii", ascii_remedy, "ascii_fraction", low=bounds.config.min_ascii_fraction),
        rules.between("no_target", "its builder marks nothing to learn", "targets", low=1),
        rules.null("no_evaluation_key", leak, "item_of_key"),
        rules.null("no_evaluation_prompt", leak, "item_of_text"),
    )


def identifiers_suite(bounds: Bounds) -> Suite:
    """On `source_frame` of both splits: an id names one document of the whole corpus."""
    rules = bounds.rules("identifiers")
    remedy = "two builders make the same id: derive it from content, source and origin"
    return rules.made(rules.between("ids_unique", remedy, "repeated_ids", high=0))


def heldout_suite(bounds: Bounds) -> Suite:
    """On `heldout_frame`: what is measured was not trained on."""
    rules = bounds.rules("heldout")
    remedy = "the split of this source leaks: split by content, before copies are made"
    return rules.made(
        rules.between("not_trained_on", remedy, "trained_on", high=0),
        *(rules.between("not_null", "look at the source's builder", f"null_{name}", high=0) for name in ("id", "text")),
    )


def items_suite(bounds: Bounds) -> Suite:
    """On `item_frame`."""
    rules = bounds.rules("items")
    remedy = "look at the family's generator of items"
    filled = [rules.matches(f"{column}_not_empty", remedy, column, r"\S") for column in ("id", "prompt", "answer")]
    filled += [rules.not_null("not_null", remedy, name) for name in ITEM_SCHEMA.names]
    return rules.made(*filled, rules.between("ids_unique", remedy, "copies", high=1))


def sources_suite(bounds: Bounds) -> Suite:
    """On `source_frame` of training documents."""
    rules, config = bounds.rules("sources"), bounds.config
    few = "fine for a source that is small by nature"
    quarantine = "read quarantine's reasons above and mend the source, or raise validation.max_quarantined_fraction"
    return rules.made(
        rules.between("source_not_empty", "check the source's builder", "read", low=1),
        rules.between("enough_documents", few, "read", low=config.min_documents_per_source),
        rules.between(
            "few_quarantined", quarantine, "quarantined_fraction", high=config.max_quarantined_fraction
        ),
    )  # fmt: skip


def accounts_suite(bounds: Bounds) -> Suite:
    """On `account_frame`: each row that was read of a source's files is kept, held out, sampled out or quarantined."""
    rules = bounds.rules("accounts")
    remedy = "rows were lost or made between reading and writing: delete the artifact, run again, and report it"
    return rules.made(rules.between("rows_accounted_for", remedy, "unaccounted", low=0, high=0))


def drift_suite(bounds: Bounds) -> Suite:
    """On `drift_frame`: how far the corpus is from its previous version."""
    rules, config = bounds.rules("drift"), bounds.config
    remedy = (
        "compare both statistics.json; if the change is meant, drop validation.previous_statistics or raise drift_*"
    )
    return rules.made(
        rules.between("drifted", remedy, "psi", high=config.drift_warn),
        rules.between("drifted_far", remedy, "psi", high=config.drift_stop),
    )


def mixtures_suite(bounds: Bounds) -> Suite:
    """On `mixture_frame`: the corpus can give each phase the shares its mixture asks for."""
    rules = bounds.rules("mixtures")
    missing = "add the source to corpus.sources or drop it from the mixture"
    repeated = "add documents to the source, lower its weight in the phase, or raise validation.max_epochs"
    return rules.made(
        rules.between("source_exists", missing, "documents", low=1),
        rules.between("epochs_within_limit", repeated, "epochs", high=bounds.config.max_epochs),
    )


def _of_every_document(rules: Rules) -> list[Any]:
    builder = "look at the source's builder"
    return [
        *(rules.not_null(f"null_{name}", builder, name) for name in DOCUMENT_SCHEMA.names),
        rules.matches("empty_text", builder, "content", r"\S"),
        rules.matches_not("bad_characters", "decode with the right encoding", "content", BAD_CHARACTERS),
        rules.not_in("unknown_licence", "find out the licence or drop the document", "licence", UNKNOWN_LICENCES),
        rules.between("unknown_special_token", builder, "unknown_specials", high=0),
        rules.between("spans_do_not_cover_text", builder, "uncovered", high=0),
        rules.between("duplicates_below_one", "a document stands for itself at least", "duplicates", low=1),
        rules.equal(
            "source_matches_shard", "the builder wrote a document to a wrong file", "source_file", "shard_file"
        ),
    ]
