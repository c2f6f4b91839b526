"""Every expectation on data by name, with what happens when it is not met: the one table of severities.

A recipe changes a severity by name (`ValidationConfig.severities`), so the names must be known before
anything runs and without Great Expectations, which takes seconds to import. What each one checks is
declared where the data is: `k2model.validation.documents.suites`, `k2model.validation.tokens`.

`warn` is reported, `quarantine` sets the offending documents aside, `stop` publishes nothing. Only
rules about single documents of the curated corpus can set aside: later artifacts are derived from it.
"""

from collections.abc import Mapping
from enum import Enum

from k2model.errors import K2Error, nearest


class Severity(str, Enum):
    WARN = "warn"
    QUARANTINE = "quarantine"
    STOP = "stop"


class SeverityError(K2Error):
    """A recipe changes the severity of an expectation that does not exist, or to one it cannot have."""


COLUMNS = ("id", "source", "domain", "licence", "origin", "text", "spans", "key", "duplicates")

#: Suite -> expectation -> severity. The suites of raw and curated documents share their rules.
SEVERITIES: dict[str, dict[str, Severity]] = {
    "schema": {"columns_and_types": Severity.STOP},
    "raw": {
        **{f"null_{column}": Severity.STOP for column in COLUMNS},
        "empty_text": Severity.WARN,
        "bad_characters": Severity.WARN,
        "unknown_licence": Severity.STOP,
        "unknown_special_token": Severity.STOP,
        "spans_do_not_cover_text": Severity.STOP,
        "duplicates_below_one": Severity.STOP,
        "source_matches_shard": Severity.STOP,
    },
    "documents": {
        **{f"null_{column}": Severity.QUARANTINE for column in COLUMNS},
        "empty_text": Severity.QUARANTINE,
        "length": Severity.QUARANTINE,
        "bad_characters": Severity.QUARANTINE,
        "mostly_not_ascii": Severity.QUARANTINE,
        "unknown_licence": Severity.QUARANTINE,
        "no_target": Severity.QUARANTINE,
        "unknown_special_token": Severity.QUARANTINE,
        "spans_do_not_cover_text": Severity.QUARANTINE,
        "duplicates_below_one": Severity.QUARANTINE,
        "source_matches_shard": Severity.STOP,
        "no_evaluation_key": Severity.STOP,
        "no_evaluation_prompt": Severity.STOP,
    },
    "identifiers": {"ids_unique": Severity.STOP},
    "heldout": {"not_null": Severity.STOP, "not_trained_on": Severity.STOP},
    "items": {
        "id_not_empty": Severity.STOP,
        "prompt_not_empty": Severity.STOP,
        "answer_not_empty": Severity.STOP,
        "not_null": Severity.STOP,
        "ids_unique": Severity.STOP,
    },
    "sources": {
        "source_not_empty": Severity.STOP,
        "enough_documents": Severity.WARN,
        "few_quarantined": Severity.STOP,
    },
    "accounts": {"rows_accounted_for": Severity.STOP},
    "drift": {"drifted": Severity.WARN, "drifted_far": Severity.STOP},
    "mixtures": {"source_exists": Severity.STOP, "epochs_within_limit": Severity.STOP},
    "tokens": {
        "null_id": Severity.STOP,
        "no_tokens": Severity.STOP,
        "token_above_vocabulary": Severity.STOP,
        "bos_not_first": Severity.STOP,
        "bos_inside": Severity.WARN,
        "pad_inside": Severity.STOP,
        "mask_of_other_length": Severity.STOP,
        "no_target": Severity.STOP,
        "first_token_is_target": Severity.STOP,
        "duplicates_below_one": Severity.STOP,
    },
    "token_sources": {
        "counts_match": Severity.STOP,
        "ids_unique": Severity.STOP,
        "bytes_per_token": Severity.STOP,
    },
    "rows": {
        "token_above_vocabulary": Severity.STOP,
        "target_on_padding": Severity.STOP,
        "padding_is_pad": Severity.STOP,
        "padding_at_end": Severity.STOP,
        "pieces_fill_row": Severity.STOP,
        "first_token_is_target": Severity.STOP,
        "unknown_source": Severity.STOP,
        "no_target": Severity.WARN,
    },
    "composition": {
        "share_as_wanted": Severity.WARN,
        "source_is_trained_on": Severity.STOP,
        "counts_match": Severity.STOP,
        "epochs_within_limit": Severity.STOP,
    },
    "phase": {
        "rows_of_phase": Severity.STOP,
        "little_padding": Severity.WARN,
        "few_split": Severity.WARN,
        "few_truncated": Severity.WARN,
        "enough_short_context": Severity.STOP,
    },
}

NAMES = tuple(f"{suite}/{name}" for suite, rules in SEVERITIES.items() for name in rules)
SETS_ASIDE = "documents"


def check_severity(name: str, severity: str) -> None:
    """Raise SeverityError when there is no expectation `name` (`suite/expectation`) or it cannot have `severity`."""
    if name not in NAMES:
        raise SeverityError(f"there is no expectation '{name}'; {nearest(name, NAMES)}")
    suite = name.partition("/")[0]
    if suite == "schema" and severity != Severity.STOP:
        raise SeverityError(f"'{name}' can only be 'stop': every other rule looks for the columns it is about")
    if severity == Severity.QUARANTINE and suite != SETS_ASIDE:
        raise SeverityError(
            f"'{name}' cannot be 'quarantine': only rules of '{SETS_ASIDE}' judge documents that can be set aside; "
            "choose 'warn' or 'stop'"
        )


def severity_of(suite: str, name: str, changed: Mapping[str, Severity]) -> Severity:
    """What happens when the expectation is not met; `changed` maps `suite/expectation` to the recipe's choice."""
    return changed.get(f"{suite}/{name}", SEVERITIES[suite][name])
