"""How likely a batch is under the champion, beside what the champion has never seen."""

import math
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from k2model.artifacts import make
from k2model.continual.batches import Manifest
from k2model.continual.gate.arrival import finding, measure_batch
from k2model.continual.gate.evidence import read_arrival
from k2model.continual.gate.plausible import (
    CERTAIN,
    Measured,
    champion,
    checks_of,
    measured,
    read_losses,
    reference_step,
)
from k2model.continual.gate.reading import Read, read, sampled
from k2model.continual.state import Standing
from k2model.documents.markup import chat
from k2model.documents.schema import make_document
from k2model.errors import EvaluationError
from k2model.recipe import Recipe
from k2model.recipe.continual import ArrivalConfig, BatchKind
from k2model.recipe.schema import FieldMapping
from tests.continual.arrivals import Line, notes

CONFIG = ArrivalConfig()


def talk(asked: str, answer: str, domain: str = "chat") -> Read:
    segments = chat([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], "low")
    return read("chat", make_document("chat", domain, "MIT", "test", segments))


def test_a_good_batch_is_as_likely_as_what_was_held_out(line: Line, good: Manifest) -> None:
    arrival = line.judged(good)
    losses = measure_batch(line.store, line.recipe, line.state, arrival)
    assert losses is not None and losses.stats["documents"] == line.recipe.continual.arrival.measured_documents
    found = finding(line.store, arrival, losses)
    assert (found.decision, found.of(good).losses) == (Standing.WAITING, losses), found.reason
    assert measure_batch(line.store, line.recipe, line.state, arrival) == losses
    assert measure_batch(line.store, with_bounds(line, measured_documents=0), line.state, arrival) is None
    with pytest.raises(EvaluationError, match="no champion"):
        measure_batch(line.store, line.recipe, replace(line.state, champion=None), arrival)


def with_bounds(line: Line, **changes: Any) -> Recipe:
    """The line's recipe with other bounds of the gate."""
    continual = line.recipe.continual
    return replace(line.recipe, continual=replace(continual, arrival=replace(continual.arrival, **changes)))


def test_text_is_measured_by_the_base_beside_text_and_a_person_may_accept_what_it_says(line: Line) -> None:
    text = line.add("notes", notes(40, 2), kind=BatchKind.BASE, domain="prose", fields=FieldMapping(text="text"))
    arrival = line.judged(text)
    losses = measure_batch(line.store, line.recipe, line.state, arrival)
    assert losses is not None and finding(line.store, arrival, losses).decision is Standing.WAITING
    assert {one.domain for one in read_losses(line.store, losses)} == {"prose"}
    narrow = with_bounds(line, max_implausible=0.0, implausible_quantile=0.45)
    strict = measure_batch(line.store, narrow, line.state, arrival)
    assert strict is not None
    away = finding(line.store, arrival, strict).of(text)
    assert away.standing is Standing.QUARANTINED and "implausibly" in away.reason and away.losses == strict
    reviewed = {"notes": replace(away, standing=Standing.REVIEWED, accepted=("plausible",))}
    again = finding(line.store, line.judged(text, batches=reviewed), strict)
    assert again.decision is Standing.WAITING and again.reason.endswith("accepted by a person: plausible")


WORKER = """
import pickle, sys
from k2model.continual.gate.arrival import measure_batch
print(measure_batch(*pickle.load(sys.stdin.buffer)).digest)
"""


def test_two_workers_of_an_evaluation_give_what_one_process_gives(line: Line, good: Manifest, tmp_path: Path) -> None:
    asked = line.store, with_bounds(line, measured_documents=9), line.state, line.judged(good)
    workers = []
    for rank in range(2):
        env = os.environ | {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": f"file://{tmp_path}/workers", "PYTHONPATH": os.getcwd(),
        }  # fmt: skip
        command = [sys.executable, "-c", WORKER]
        workers.append(subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        given = workers[-1].stdin
        assert given is not None
        given.write(pickle.dumps(asked))
        given.close()
    digests = [worker.stdout.read().decode().strip() for worker in workers if worker.stdout is not None]
    assert [worker.wait() for worker in workers] == [0, 0]
    found = measure_batch(*asked)
    assert found is not None and digests == [found.digest] * 2
    shutil.rmtree(found.uri)
    assert measure_batch(*asked) == found


def test_gibberish_and_what_the_champion_knows_by_heart_are_implausible(line: Line) -> None:
    assert line.state.model is not None
    subject, window = champion(line.store, line.recipe, line.state.model, BatchKind.TUNED)
    corpus = line.state.model.made["corpus_valid"]
    known = read_losses(
        line.store, make(line.store, reference_step(line.store, subject, corpus, BatchKind.TUNED, window))
    )
    backend = subject.open(window)
    own = [one for one in sampled(line.store, corpus, 40) if one.dialogue]
    good = measured(backend, own[:40], window)
    assert all(one.passed for one in checks_of(good, known, CONFIG))
    gibberish = [talk(one.asked, one.answer[::-1] + "qX#zV~wK" * 6) for one in own[:20]]
    (row,) = checks_of([*good, *measured(backend, gibberish, window)], known, CONFIG)
    assert not row.passed and row.failing is Standing.QUARANTINED
    assert all("qX#zV" in one["text"] and one["bits"] > one["usual"][1] for one in row.examples)


def of(bits: float, domain: str = "chat", source: str = "batch") -> Measured:
    return Measured(f"{domain} {bits}", source, "a.jsonl#1", domain, bits, 40, "text")


def heldout(source: str, least: float, most: float, domain: str = "chat") -> list[Measured]:
    """A hundred and one of a source, evenly spread: its quantiles are 1% and 99% of the way."""
    return [of(least + (most - least) * at / 100, domain, source) for at in range(101)]


def test_bounds_are_quantiles_of_the_sources_of_a_domain_and_the_widest_counts() -> None:
    known = [*heldout("easy", 0.5, 1.0), *heldout("hard", 1.0, 3.0), *heldout("code", 0.1, 0.2, "code")]
    hard = [of(1.0 + 2.0 * at / 100) for at in range(1, 101)]  # all of them like the hardest source
    (row,) = checks_of(hard, known, CONFIG)
    assert row.passed and row.value == 0.01, row.said
    low, high = 0.505, 2.98
    assert checks_of([of(high)] * 90 + [of(high + 0.001)] * 10, known, CONFIG)[0].passed
    (row,) = checks_of([of(high)] * 89 + [of(high + 0.001)] * 11, known, CONFIG)
    assert not row.passed and "11 implausibly unlikely (11.0%)" in row.said
    assert checks_of([of(low - CERTAIN)] * 100, known, CONFIG)[0].passed
    (row,) = checks_of([of(low)] * 89 + [of(low - CERTAIN - 0.001)] * 11, known, CONFIG)
    assert not row.passed and "11 of 100 documents are implausibly likely" in row.said
    assert row.examples[0]["usual"] == [low, high]
    assert not checks_of([of(0.5, "code")] * 100, known, CONFIG)[0].passed


def test_what_a_champion_is_sure_of_is_not_implausible_for_its_being_surer() -> None:
    sure = [of(0.0004), of(0.3)] * 50
    assert checks_of([of(0.0002)] * 60 + [of(0.3)] * 40, sure, CONFIG)[0].passed


def test_short_answers_that_cost_nothing_or_whole_bits_are_as_held_out_ones_are() -> None:
    """What a small model is sure of costs thousandths of a bit a byte, what it is not sure of a thousand times that."""
    rng = Random(0)
    known = [of(math.exp(rng.gauss(-4, 2)), source="sums") for _ in range(64)]
    for _ in range(200):
        (row,) = checks_of([of(math.exp(rng.gauss(-4, 2))) for _ in range(128)], known, CONFIG)
        assert row.passed, row.said


def test_what_is_unlikely_in_a_new_domain_is_no_reason_and_what_is_too_likely_is() -> None:
    known = heldout("any", 0.5, 1.0)
    assert checks_of([of(7.0, "new")] * 50, known, CONFIG)[0].passed
    assert not checks_of([of(0.05, "new")] * 50, known, CONFIG)[0].passed


def test_without_held_out_documents_it_is_said_that_nothing_is_looked_for() -> None:
    (row,) = checks_of([of(1.0)], [], CONFIG)
    assert row.passed and "not looked for" in row.said


def test_a_refused_batch_stays_refused_whatever_its_losses(line: Line) -> None:
    arrival = line.judged(line.add("broken", ["{"] * 3))
    assert read_arrival(line.store, arrival).decision is Standing.REFUSED
    with pytest.raises(EvaluationError, match="no valid corpus"):
        measure_batch(line.store, line.recipe, line.state, arrival)
