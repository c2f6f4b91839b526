"""What the gate of a batch found, and how it is written: `arrival.json`, and a page for people."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from k2model.artifacts import ArtifactRef, Store, read_json
from k2model.artifacts.outside import remedy
from k2model.continual.state import Standing
from k2model.errors import CorruptArtifact, visible
from k2model.plain import NotPlain, canonical, from_plain, to_plain
from k2model.recipe.continual import BatchKind

ARRIVAL = "arrival.json"
PAGE = "attachments/arrival.html"
EXAMPLES = 5  # of what a check found
#: What becomes of a document that is read: it stays, to be trained on or held out; ingest, curation or validation
#: cannot use it; it is a copy of what is known, or of another; it holds an item; it was left out by `sample`.
FATES = ("kept", "heldout", "rejected", "known copies", "copies", "items", "sampled out")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.35rem .6rem;"
    "border-bottom:1px solid #ddd}.failed{background:#fdecea}.accepted{background:#fff4d6}"
    "code{white-space:pre-wrap;font-size:13px}"
)


@dataclass(frozen=True)
class Check:
    """One row of the gate.

    value, bound: what was found and what is allowed, both in the check's own unit. said: a sentence with the figures.
    failing: what becomes of a batch that does not pass. examples: some documents, each with where it is from. accepted:
    by a person, who has looked at it: found and told all the same, it decides nothing.
    """

    name: str
    value: float
    bound: float
    passed: bool
    said: str
    failing: Standing = Standing.REFUSED
    examples: tuple[Mapping[str, Any], ...] = ()
    accepted: bool = False

    @property
    def stands(self) -> bool:
        """Whether it speaks against the batch."""
        return not self.passed and not self.accepted

    @staticmethod
    def at_most(name: str, value: float, bound: float, said: str, **more: Any) -> "Check":
        return Check(name, round(value, 6), bound, value <= bound, said, **more)


@dataclass(frozen=True)
class Arrival:
    """What was found of a batch.

    counts: documents by what became of them (`FATES`, which add up to `read`), and of the valid and new ones `tokens`
    and `targets` to train on and held out. notes: what is no reason against it, but to be known. made: artifacts of its
    corpus by kind, as far as it got; `corpus_clean`, `corpus_valid` and `tokens` are there when it passed. accepted:
    names of checks that a person accepts of these data.
    """

    batch: str
    kind: BatchKind
    digest: str
    late: bool
    checks: tuple[Check, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    made: Mapping[str, ArtifactRef] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()

    @property
    def decision(self) -> Standing:
        return decided(self.checks)

    @property
    def reason(self) -> str:
        return reason_of(self.checks, self.counts)

    @property
    def tokens(self) -> int:
        """To train on."""
        return self.counts.get("tokens", 0)

    def written(self) -> bytes:
        """As `arrival.json`: with decision and reason, for people."""
        return canonical(to_plain(self) | {"decision": self.decision.value, "reason": self.reason})


def decided(checks: tuple[Check, ...]) -> Standing:
    """Waiting where none stands against it; else quarantined where one says so."""
    failing = {one.failing for one in checks if one.stands}
    return (
        Standing.QUARANTINED if Standing.QUARANTINED in failing else Standing.REFUSED if failing else Standing.WAITING
    )


def with_accepted(checks: Iterable[Check], names: Collection[str]) -> tuple[Check, ...]:
    """The rows, those that fail and are named marked as accepted by a person."""
    return tuple(replace(one, accepted=not one.passed and one.name in names) for one in checks)


def reason_of(checks: tuple[Check, ...], counts: Mapping[str, int]) -> str:
    """A sentence: what of the batch is new, or what speaks against it, the worst first."""
    standing = decided(checks)
    if standing is Standing.WAITING:
        left, read, tokens = (counts.get(name, 0) for name in ("kept", "read", "tokens"))
        accepted = ", ".join(one.name for one in checks if one.accepted)
        by = f"; accepted by a person: {accepted}" if accepted else ""
        return f"{left:,} of {read:,} documents are valid and new, {tokens:,} tokens to train on{by}"
    failed = sorted((one for one in checks if one.stands), key=lambda one: one.failing is not standing)
    return "; ".join(one.said for one in failed)


def read_arrival(store: Store, ref: ArtifactRef) -> Arrival:
    """Of an artifact `arrival`."""
    content = read_json(dict[str, Any], store, ref, ARRIVAL)
    try:
        return from_plain(Arrival, {name: content[name] for name in content.keys() - {"decision", "reason"}}, store.uri)
    except NotPlain as error:
        raise CorruptArtifact(
            f"{ref.uri}/{ARRIVAL} is not what was found of a batch ({error}). {remedy(ref.uri)}"
        ) from error


def page(told: Arrival) -> str:
    """A page of its own, with no script and nothing from elsewhere; what documents say is shown as text."""
    rows = "".join(_row(one) for one in told.checks)
    fates = "".join(f"<tr><td>{name}</td><td>{told.counts.get(name, 0):,}</td></tr>" for name in (*FATES, "read"))
    notes = "".join(f"<li>{_text(one)}</li>" for one in told.notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(told.batch)}</title>'
        f"<style>{_STYLE}</style><h1>{_text(told.batch)}: {told.decision.value}</h1><p>{_text(told.reason)}</p>"
        f"<ul>{notes}</ul><table><tr><th>check</th><th>found</th><th>bound</th><th>what it says</th></tr>{rows}</table>"
        f"<h2>Documents</h2><table>{fates}</table></html>\n"
    )


def _row(one: Check) -> str:
    examples = "".join(f"<li><code>{_shown(each)}</code></li>" for each in one.examples)
    shown = f"<details><summary>examples</summary><ul>{examples}</ul></details>" if examples else ""
    mark = "" if one.passed else ' class="accepted"' if one.accepted else ' class="failed"'
    by = " (accepted by a person)" if one.accepted else ""
    return (
        f"<tr{mark}><td>{_text(one.name)}</td><td>{one.value:,.4g}</td><td>{one.bound:,.4g}</td>"
        f"<td>{_text(one.said)}{by}{shown}</td></tr>"
    )


def _shown(example: Mapping[str, Any]) -> str:
    return _text(json.dumps(dict(example), ensure_ascii=False))


def _text(text: str) -> str:
    return escape(visible(text))
