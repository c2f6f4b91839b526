"""Losses under the champion at the gate of a batch: false alarms for good batches, and what is seen of bad ones.

    python -m benchmarks.plausible --store STORE [--recipe laptop] [--documents 512]

The champion of a finished lifecycle measures its own held-out documents, and documents that it has never seen: fresh
dialogues of its families, the same with shuffled characters, random words, other answers; and for its base prose. Of
each kind a hundred batches of `measured_documents` are drawn, each beside another draw of `HELDOUT` held-out documents
of each source. Told are how many batches are quarantined, and the mean share of implausible documents.

Measured on the laptop's champion: of 800 batches like one of its sources, and of 500 fresh ones of one family or all,
none is quarantined; of 100 of the hardest part of a source (sums, answers alone) 1; of 100 with shuffled characters,
random characters or words, one word or line again and again, answers of other questions, or in another language all,
with words in disorder 97. Not seen: what it was trained on (0 of 100), wrong sums (22 of
100); seen in part: prose of one sentence eight times (71 of 100).
"""

import argparse
from collections.abc import Callable, Sequence
from random import Random
from statistics import mean

from k2model.artifacts import Store
from k2model.continual.gate.plausible import HELDOUT, Measured, champion, checks_of, measured
from k2model.continual.gate.reading import Read, read, sampled
from k2model.continual.month import material
from k2model.continual.start import start
from k2model.documents.markup import chat, plain
from k2model.documents.schema import make_document
from k2model.recipe import chosen_recipe
from k2model.recipe.continual import ArrivalConfig, BatchKind

CONFIG = ArrivalConfig()
FAMILIES = ("arithmetic", "knights", "spelling", "countdown")
BATCHES = 100
Row = material.Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="of a finished lifecycle")
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--documents", type=int, default=512, help="of each kind")
    given = parser.parse_args()
    store, recipe = Store.open(given.store), chosen_recipe(given.recipe, {})
    model = start(store, recipe).model
    corpus = model.made["corpus_valid"]
    heldout = sampled(store, corpus, 4 * HELDOUT, "heldout")
    for kind, kinds in (
        (BatchKind.TUNED, _dialogues(material.dialogues_of(store, corpus), given.documents)),
        (BatchKind.BASE, _texts([one for one in heldout if one.domain == "prose"])),
    ):
        subject, window = champion(store, recipe, model, kind)
        backend = subject.open(window)
        domain = "chat" if kind is BatchKind.TUNED else "prose"
        own = [one for one in heldout if one.dialogue is (kind is BatchKind.TUNED) and one.domain == domain]
        known = measured(backend, own, window)
        for source in sorted({one.source for one in known}):
            _told(f"held out of {source}", [one for one in known if one.source == source], known)
        for name, documents in kinds.items():
            _told(name, measured(backend, documents, window), known)


def _told(name: str, found: Sequence[Measured], known: Sequence[Measured]) -> None:
    rng = Random(name)
    sources = sorted({one.source for one in known})
    by_source = [[one for one in known if one.source == source] for source in sources]
    rows = []
    for _ in range(BATCHES):
        beside = [one for own in by_source for one in rng.sample(own, min(HELDOUT, len(own)))]
        batch = rng.sample(list(found), min(CONFIG.measured_documents, len(found)))
        rows += checks_of(batch, beside, CONFIG)
    alarms = sum(not one.passed for one in rows)
    print(
        f"{name:32} quarantined {alarms:3} of {BATCHES}, implausible {mean(one.value for one in rows):.1%}", flush=True
    )


def _dialogues(known: Sequence[Row], count: int) -> dict[str, list[Read]]:
    rng, asked = Random(0), frozenset(map(material.question_of, known))
    fresh = {one: material.more_alike(one, Random(one), count, asked) for one in FAMILIES}
    mixed = [row for own in fresh.values() for row in own[: count // len(FAMILIES)]]
    words = sorted({word for row in known[:2_000] for word in material.answer_of(row).split()})
    answers = [material.answer_of(row) for row in mixed]
    bad: dict[str, Callable[[str], str]] = {
        "shuffled characters": lambda said: "".join(rng.sample(said, len(said))),
        "random words": lambda said: " ".join(rng.choices(words, k=max(3, len(said.split())))),
        "random characters": lambda said: "".join(chr(rng.randint(33, 126)) for _ in range(max(8, len(said)))),
        "one word again and again": lambda said: "yes " * 30,
        "the same line ten times": lambda said: f"{said}\n" * 10,
        "answers of other questions": lambda said: rng.choice(answers),
    }
    kinds = {f"fresh {family}": rows for family, rows in fresh.items()} | {"fresh, all families": mixed}
    kinds["fresh sums, answers alone"] = material.sums(Random(1), count, wrong=0.0)
    kinds["trained on"] = rng.sample(list(known), count)
    kinds["sums, all wrong"] = material.sums(Random(1), count, wrong=1.0)
    kinds |= {name: [_changed(row, change) for row in mixed] for name, change in bad.items()}
    kinds["another language"] = material.foreign(rng, count)
    return {name: [_dialogue(row) for row in rows] for name, rows in kinds.items()}


def _changed(row: Row, change: Callable[[str], str]) -> Row:
    """With another answer, and another trace where there is one."""
    question, reply = row["messages"]
    return row | {
        "messages": [question, reply | {name: change(reply[name]) for name in ("content", "trace") if reply.get(name)}]
    }


def _dialogue(row: Row) -> Read:
    return read("batch", make_document("batch", "chat", "MIT", "benchmark", chat(row["messages"], row["effort"])))


def _texts(prose: Sequence[Read]) -> dict[str, list[Read]]:
    rng = Random(0)
    texts = [one.learned for one in prose]
    kinds = {
        "words in disorder": [" ".join(rng.sample(text.split(), len(text.split()))) for text in texts],
        "shuffled characters": ["".join(rng.sample(text, len(text))) for text in texts],
        "a sentence eight times": [f"{text.partition('.')[0]}. " * 8 for text in texts],
    }
    return {name: [_text(one) for one in own] for name, own in kinds.items()}


def _text(said: str) -> Read:
    return read("batch", make_document("batch", "prose", "MIT", "benchmark", plain(said)))


if __name__ == "__main__":
    main()
