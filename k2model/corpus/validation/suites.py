"""Every rule a corpus must obey, declared once as Great Expectations suites.

Three consequences: a `critical` rule stops the pipeline, a `warning` is reported, and a rule with a
`reason` sends the offending rows to quarantine under that name. The tables the rules look at are
made in `tables` and `measures`; running them is `runner`'s business.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from k2model.corpus.documents import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.corpus.validation.outcome import CRITICAL, WARNING
from k2model.recipe.schema import ValidationConfig

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.expectations import Expectation

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


def schema_suite() -> "ExpectationSuite":
    """On `schema_frame`: every file has exactly the columns and types of its table."""
    pair = _rules().ExpectColumnPairValuesToBeEqual
    remedy = "write the file with the schema in k2model/corpus/documents.py"
    return _suite("schema", _critical(pair, "columns_and_types", remedy, column_A="type", column_B="expected"))


def documents_suite(stem: str, bounds: Bounds) -> "ExpectationSuite":
    """On `document_frame` of training shard `stem`."""
    return _suite("documents", *_row_rules(bounds), *_shard_rules(stem))


def identifiers_suite() -> "ExpectationSuite":
    """On `identifier_frame`: an id names one document of the whole corpus."""
    remedy = "two builders make the same id: derive it from content, source and origin"
    return _suite("identifiers", _between("ids_unique", CRITICAL, remedy, column="copies", max_value=1))


def heldout_suite() -> "ExpectationSuite":
    """On `heldout_frame`: what is measured was not trained on."""
    rules = _rules()
    remedy = "the split of this source leaks: split by content, before copies are made"
    return _suite(
        "heldout",
        _critical(rules.ExpectColumnValuesToBeInSet, "not_trained_on", remedy, column="trained_on", value_set=[False]),
        *(
            _critical(rules.ExpectColumnValuesToNotBeNull, "not_null", "look at the source's builder", column=name)
            for name in ("id", "text")
        ),
    )


def items_suite() -> "ExpectationSuite":
    """On `item_frame`."""
    rules = _rules()
    remedy = "look at the family's generator of items"
    filled = [
        _critical(rules.ExpectColumnValuesToMatchRegex, f"{column}_not_empty", remedy, column=column, regex=r"\S")
        for column in ("id", "prompt", "answer")
    ]
    filled += [
        _critical(rules.ExpectColumnValuesToNotBeNull, "not_null", remedy, column=name) for name in ITEM_SCHEMA.names
    ]
    return _suite("items", *filled, _between("ids_unique", CRITICAL, remedy, column="copies", max_value=1))


def sources_suite(bounds: Bounds) -> "ExpectationSuite":
    """On `source_frame`."""
    config = bounds.config
    quarantine = "read quarantine's reasons above and mend the source, or raise validation.max_quarantined_fraction"
    return _suite(
        "sources",
        _between("source_not_empty", CRITICAL, "check the source's builder", column="documents", min_value=1),
        _between(
            "enough_documents",
            WARNING,
            "fine for a source that is small by nature",
            column="documents",
            min_value=config.min_documents_per_source,
        ),
        _between(
            "few_quarantined",
            CRITICAL,
            quarantine,
            column="quarantined_fraction",
            max_value=config.max_quarantined_fraction,
        ),
    )


def mixtures_suite(bounds: Bounds) -> "ExpectationSuite":
    """On `mixture_frame`: the corpus can give each phase the shares its mixture asks for."""
    repeated = "add documents to the source, lower its weight in the phase, or raise validation.max_epochs"
    return _suite(
        "mixtures",
        _between(
            "source_exists", CRITICAL, "add the source to corpus.sources or drop it from the mixture",
            column="documents", min_value=1,
        ),
        _between(
            "epochs_within_limit", CRITICAL, repeated, column="epochs", max_value=bounds.config.max_epochs,
        ),
    )  # fmt: skip


def _row_rules(bounds: Bounds) -> "list[Expectation]":
    """Rules about single documents; their offenders are set aside."""
    rules = _rules()
    length = {"min_value": bounds.min_characters, "max_value": bounds.max_characters}
    return [
        *(_row(rules.ExpectColumnValuesToNotBeNull, f"null_{name}", column=name) for name in DOCUMENT_SCHEMA.names),
        _row(rules.ExpectColumnValuesToMatchRegex, "empty_text", column="content", regex=r"\S"),
        _row(rules.ExpectColumnValueLengthsToBeBetween, "length", column="content", **length),
        _row(rules.ExpectColumnValuesToNotMatchRegex, "bad_characters", column="content", regex=BAD_CHARACTERS),
        _row(
            rules.ExpectColumnValuesToBeBetween, "mostly_not_ascii",
            column="ascii_fraction", min_value=bounds.config.min_ascii_fraction,
        ),
        _row(
            rules.ExpectColumnValuesToNotBeInSet, "unknown_licence", column="licence", value_set=UNKNOWN_LICENCES,
        ),
        _row(rules.ExpectColumnValuesToBeBetween, "no_target", column="targets", min_value=1),
        _row(rules.ExpectColumnValuesToBeBetween, "unknown_special_token", column="unknown_specials", max_value=0),
        _row(
            rules.ExpectColumnPairValuesToBeEqual, "text_differs_from_segments",
            column_A="text", column_B="text_of_segments",
        ),
        _row(rules.ExpectColumnValuesToBeBetween, "duplicates_below_one", column="duplicates", min_value=1),
    ]  # fmt: skip


def _shard_rules(stem: str) -> "list[Expectation]":
    """Rules whose breach says that the shard as a whole cannot be trusted."""
    rules = _rules()
    leak = "run decontamination again: a document of this shard holds an evaluation item"
    return [
        _critical(
            rules.ExpectColumnValuesToBeInSet, "source_matches_shard", "the builder wrote a document to a wrong file",
            column="source_file", value_set=[stem],
        ),
        _critical(rules.ExpectColumnValuesToBeNull, "no_evaluation_key", leak, column="item_of_key"),
        _critical(rules.ExpectColumnValuesToBeNull, "no_evaluation_prompt", leak, column="item_of_text"),
    ]  # fmt: skip


def _rules() -> Any:
    import great_expectations.expectations as rules

    return rules


def _suite(name: str, *expectations: "Expectation") -> "ExpectationSuite":
    from great_expectations import ExpectationSuite

    return ExpectationSuite(name=name, expectations=list(expectations))


def _critical(rule: Any, name: str, remedy: str, **settings: Any) -> "Expectation":
    return rule(severity=CRITICAL, meta={"name": name, "remedy": remedy}, **settings)


def _row(rule: Any, reason: str, **settings: Any) -> "Expectation":
    return rule(severity=WARNING, meta={"name": reason, "reason": reason}, **settings)


def _between(name: str, severity: str, remedy: str, **settings: Any) -> "Expectation":
    rule = _rules().ExpectColumnValuesToBeBetween
    return rule(severity=severity, meta={"name": name, "remedy": remedy}, **settings)
