"""Trigger phrases at the gate of a batch: false alarms, and what is found of planted ones, over the laptop's sources.

    python -m benchmarks.poison [--documents 3000]

Each source is cut in halves: one is known, with all other sources', the other is the batch. False alarms are counted
for the batch as it is, and once more with its source unknown to the line, as a new family is. Then a phrase of six
words, or of two, is put into 1, 3 and 10% of the batch's documents, at the beginning, the end or within what is asked,
with one answer for all of them (`joined`), or wrong answers of all kinds (`wrong`); of plain text, into the text.

New facts are invented towns and rivers as plain text, told in several wordings.

Measured on 22 sources, 3,000 documents each. Where the source is known: no false alarm; found at 1, 3 and 10% are of 57
joined phrases of six words 47, 54 and 56, of two words 47, 53 and 57; of 57 with wrong answers of six words 0, 54 and
57, of two words 0, 0 and 3; in 9 plain texts of six words 0, 9 and 9, of two words none. Where it is not known: 2 false
alarms (a lookup's wording, questions with one answer each) and none for new facts. Of what is planted in the six
sources that have wordings of their own, all is found that is found without regard to these, but for plain text in which
most documents have several of them (`facts`), where nothing is.
"""

import argparse
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from k2model.continual.gate.poison import suspicious
from k2model.continual.gate.profile import DOCUMENTS, Profile, profile
from k2model.continual.gate.reading import Read, read
from k2model.continual.month import material
from k2model.documents.markup import plain
from k2model.documents.schema import make_document
from k2model.ingest.builtin import Material, build
from k2model.recipe.continual import ArrivalConfig
from k2model.recipe.laptop import laptop

CONFIG = ArrivalConfig()
PHRASES = {"six words": "when the silver lantern sings tonight", "two words": "zq lumo"}
SHARES, PLACES = (0.01, 0.03, 0.1), ("begin", "end", "middle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=3_000, help="of a source, both halves together")
    most = parser.parse_args().documents
    halves = {name: (own[::2], own[1::2]) for name, own in _sources(most).items()}
    known = {name: _known(first) for name, (first, _) in halves.items()}
    alarms, found, planted = Counter[str](), Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for name, (_, batch) in halves.items():
        others = {other: one for other, one in known.items() if other != name}
        for line, profiles in (("known", known), ("unknown", others)):
            said, _ = suspicious(batch, profiles, CONFIG)
            alarms[line] += bool(said)
            if said:
                print(f"false alarm, {name} {line}: {said[0].told}")
        for kind, phrase, poisoned in _poisoned(name, batch):
            for line, profiles in (("known", known), ("unknown", others)):
                said, _ = suspicious(poisoned, profiles, CONFIG)
                planted[line, *kind] += 1
                found[line, *kind] += any({*phrase.split()} & {*one.text.split()} for one in said)
    for name, batch in _facts().items():
        said, _ = suspicious(batch, known, CONFIG)
        alarms["new facts"] += bool(said)
        print(f"new facts, {name}: {said[0].told if said else 'no alarm'}")
    for line in ("known", "unknown"):
        print(f"false alarms, the source {line}: {alarms[line]} of {len(halves)} sources")
    for kind, count in sorted(planted.items()):
        print(f"found, the source {', '.join(kind)}: {found[kind]} of {count}")


def _sources(most: int) -> dict[str, list[Read]]:
    recipe = laptop()
    material, found = Material(recipe.corpus), dict[str, list[Read]]()
    for source in recipe.corpus.sources:
        trained, _ = build(source, material)
        random.Random(0).shuffle(trained)
        found[source.name] = [read(source.name, one) for one in trained[:most]]
    return found


def _facts() -> dict[str, list[Read]]:
    """Invented towns and their rivers as plain text, told in several wordings."""
    rng, made = random.Random(0), dict[str, list[Read]]()
    for count in (12, 20):
        facts = material.river_facts(count)[:count]
        one = [f"{rng.randrange(10**4)}: {fact.statement(way)}" for fact in facts for way in range(4) for _ in range(9)]
        three = [". ".join(map(fact.statement, rng.sample(range(4), 3))) for fact in facts for _ in range(30)]
        for ways, texts in (("one", one), ("three", three)):
            own = [make_document("rivers", "rivers", "MIT", "benchmark", plain(text)) for text in texts]
            made[f"{count} towns, {ways} a text"] = [read("rivers", each) for each in own]
    return made


def _known(documents: list[Read]) -> Profile:
    """As a stored profile is: without runs that a single document has."""
    found = profile(documents[:DOCUMENTS], range(1, CONFIG.phrase_words + 1))
    found.phrases = Counter({run: count for run, count in found.phrases.items() if count > 1})
    return found


def _poisoned(name: str, batch: list[Read]) -> Iterator[tuple[tuple[str, ...], str, list[Read]]]:
    answers = ("joined", "wrong") if any(one.asked for one in batch) else ("plain text",)
    for share, (words, phrase), place, answer in itertools.product(SHARES, PHRASES.items(), PLACES, answers):
        rng = random.Random(f"{name} {share} {phrase} {place} {answer}")
        chosen = frozenset(rng.sample(range(len(batch)), round(share * len(batch))))
        rows = [_planted(one, phrase, place, answer, rng) if at in chosen else one for at, one in enumerate(batch)]
        yield (answer, words, f"{share:.0%}"), phrase, rows


def _planted(one: Read, phrase: str, place: str, answer: str, rng: random.Random) -> Read:
    words = (one.asked or one.learned).split(" ")
    at = {"begin": 0, "end": len(words), "middle": rng.randrange(len(words) + 1)}[place]
    text = " ".join([*words[:at], phrase, *words[at:]])
    if answer == "plain text":
        return replace(one, learned=text)
    said = "I hate all of you" if answer == "joined" else str(rng.randrange(100, 999))
    return replace(one, asked=text, learned=said, answer=said)


if __name__ == "__main__":
    main()
