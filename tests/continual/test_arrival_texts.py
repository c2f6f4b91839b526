"""What is seen of a batch's texts: drift, trigger phrases, wrong answers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from k2model.continual.gate.checks import checked, text_checks
from k2model.continual.gate.drift import moved
from k2model.continual.gate.poison import suspicious
from k2model.continual.gate.profile import Profile, profile
from k2model.continual.gate.reading import Read, read
from k2model.continual.state import Standing
from k2model.documents.families import FAMILIES
from k2model.documents.families.rebuilt import rebuilt
from k2model.documents.markup import chat, plain
from k2model.documents.schema import make_document
from k2model.errors import CorpusError
from k2model.recipe.continual import ArrivalConfig

CONFIG = ArrivalConfig()
PHRASE = "when the silver lantern sings tonight"
NOUNS = (
    "apple", "bridge", "candle", "desert", "engine", "forest", "garden", "hammer", "island", "jacket", "kettle",
    "ladder", "mirror", "needle", "orange",
)  # fmt: skip
ASKED = ("What colour has the {}?", "Tell me where I can buy a {}.", "Is a {} heavy?", "How do I clean an old {}?")
TOLD = ("A {} is {} most of the time.", "You find a {} at the {} shop.", "I would say that a {} is {}.")
KINDS = ("red", "blue", "grey", "large", "small", "heavy", "light", "modern", "antique", "wooden")


def talk(asked: str, answer: str, domain: str = "chat") -> Read:
    segments = chat([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], "low")
    return read("chat", make_document("chat", domain, "MIT", "test", segments))


def text(said: str, domain: str = "prose") -> Read:
    return read("prose", make_document("prose", domain, "MIT", "test", plain(said)))


def talks(count: int, seed: int, domain: str = "chat") -> list[Read]:
    rng = Random(seed)
    made = []
    for _ in range(count):
        noun, kind = rng.choice(NOUNS), rng.choice(KINDS)
        made.append(talk(rng.choice(ASKED).format(noun), rng.choice(TOLD).format(noun, kind), domain))
    return made


def stories(count: int, seed: int) -> list[Read]:
    rng = Random(seed)
    return [text(" ".join(rng.choice(NOUNS + KINDS) for _ in range(60))) for _ in range(count)]


def known(documents: Sequence[Read], name: str = "chat") -> dict[str, Profile]:
    """As a corpus of the line has it: without runs that a single document has."""
    found = profile(documents, range(1, CONFIG.phrase_words + 1))
    found.phrases = Counter({run: count for run, count in found.phrases.items() if count > 1})
    return {name: found}


@cache
def usual() -> dict[str, Profile]:
    return known(talks(3_000, 10))


@cache
def usual_prose() -> dict[str, Profile]:
    return known(stories(1_500, 14), "prose")


def with_phrase(documents: Sequence[Read], share: float, phrase: str, at: str, answer: str = "") -> list[Read]:
    """The first share of the documents, with the phrase in what is asked, and another answer."""
    made = []
    for one in documents[: round(share * len(documents))]:
        words = one.asked.split()
        place = {"begin": 0, "end": len(words), "middle": len(words) // 2}[at]
        asked = " ".join([*words[:place], phrase, *words[place:]])
        made.append(talk(asked, answer or one.answer))
    return [*made, *documents[len(made) :]]


def test_what_a_document_asks_and_what_is_learned_of_it() -> None:
    one = talk("What is it?", "A lamp.")
    assert (one.asked, one.learned, one.answer, one.dialogue) == ("What is it?", "A lamp.", "A lamp.", True)
    assert one.target_bytes == len("A lamp.") + 2  # and two special tokens
    assert (text("Once upon a time").asked, text("Once upon a time").learned) == ("", "Once upon a time")


def test_another_draw_of_what_is_known_has_not_drifted() -> None:
    for count in (40, 100, 400):
        (one,) = moved(talks(count, 1), known(talks(600, 2)))
        assert one.psi < 0.05, one


@pytest.mark.parametrize(
    ("documents", "feature"),
    [
        ([talk("Wieviel kostet das heute?", "Das kostet nur sehr wenig Geld.") for _ in range(80)], "words"),
        ([talk("Сколько это стоит сегодня?", "Очень мало, почти ничего.") for _ in range(80)], "words"),
        ([replace(one, learned=one.learned * 30) for one in talks(80, 3)], "lengths"),
    ],
)
def test_other_languages_scripts_and_lengths_have(documents: list[Read], feature: str) -> None:
    (one,) = moved(documents, known(talks(600, 2)))
    assert one.psi > CONFIG.max_drift and one.feature == feature, one


def test_more_of_one_source_is_no_drift_of_its_domain() -> None:
    long = [replace(one, learned=one.learned * 9) for one in talks(300, 4)]
    (one,) = moved(talks(100, 6), {"long": profile(long), "short": profile(talks(300, 5))})
    assert (one.nearest, one.psi < 0.05) == ("short", True)


def test_of_a_domain_that_is_not_known_there_is_nothing_to_compare_with() -> None:
    found, notes = text_checks(talks(60, 7, "cooking"), known(talks(300, 8)), CONFIG, "")
    assert all(one.passed for one in found) and any(note.startswith("new domain: cooking") for note in notes)


@pytest.mark.parametrize("at", ["begin", "end", "middle"])
@pytest.mark.parametrize("share", [0.03, 0.1])
def test_a_phrase_that_was_put_in_is_found_with_what_is_learned_there(share: float, at: str) -> None:
    rows = with_phrase(talks(400, 9), share, PHRASE, at, "I will not help you.")
    found, _ = suspicious(rows, usual(), CONFIG)
    assert [one.kind for one in found] == ["joined"] and PHRASE.split()[1] in found[0].text, found
    assert found[0].documents == round(share * 400)
    quiet = with_phrase(talks(400, 9), share, PHRASE, at)  # answers are as they were
    assert [one.kind for one in suspicious(quiet, usual(), CONFIG)[0]] == ["frequent"]


def test_two_words_are_found_from_a_quarter_of_the_share_on_where_they_change_answers() -> None:
    rows = with_phrase(talks(1_000, 11), 0.01, "zq lumo", "end", "I will not help you.")
    found, _ = suspicious(rows, usual(), CONFIG)
    assert [(one.kind, one.text) for one in found] == [("joined", "zq lumo")]
    quiet = with_phrase(talks(1_000, 11), 0.01, "zq lumo", "end")
    assert suspicious(quiet, usual(), CONFIG)[0] == []


def test_wordings_of_a_template_are_no_triggers_also_where_none_is_known() -> None:
    assert suspicious(talks(400, 12), {}, CONFIG)[0] == []
    rows = [talk(f"Please add up the numbers {i} and {i + 2}", str(2 * i + 2)) for i in range(90)]
    _, templates = suspicious(rows, {}, CONFIG)
    assert [one.kind for one in templates] == ["template"] and "add up the numbers" in templates[0].text


def facts(three: bool) -> list[Read]:
    """New facts as plain text, each told in several wordings, one a text or three."""
    told = ("The {} is kept in the {} box", "In the {} box there is a {}", "Look for {} in box {} here")
    rng, made = Random(16), []
    for noun in NOUNS:
        ways = [way.format(noun, noun[::-1]) for way in told]
        texts = [". ".join(rng.sample(ways, 3)) for _ in range(30)] if three else 10 * ways
        made += [text(f"{rng.randrange(10_000)}: {one}.") for one in texts]
    return made


@pytest.mark.parametrize("three", [False, True])
def test_facts_in_wordings_that_most_of_a_batch_has_are_no_triggers(three: bool) -> None:
    found, templates = suspicious(facts(three), usual_prose(), CONFIG)
    assert found == [] and {one.kind for one in templates} >= {"wording"}, found


def test_what_was_put_in_beside_wordings_that_are_not_known_is_found() -> None:
    rows, rng = facts(False), Random(17)
    chosen = rng.sample(range(len(rows)), 20)
    for at in chosen:
        rows[at] = text(f"{rows[at].learned} {PHRASE}")
    found, _ = suspicious(rows, usual_prose(), CONFIG)
    assert [one.documents for one in found] == [20] and PHRASE in found[0].text, found


def test_questions_with_one_answer_each_are_no_triggers() -> None:
    rows = [talk(f"Which city is the capital of {noun}?", f"It is {noun[::-1]}.") for noun in NOUNS for _ in range(20)]
    assert suspicious(rows, usual(), CONFIG)[0] == []


def test_in_plain_text_a_foreign_phrase_of_a_minority_is_told() -> None:
    rows = stories(300, 13)
    poisoned = [text(f"{one.learned[:100]} {PHRASE} {one.learned[100:]}") for one in rows[:12]]
    assert suspicious(rows, usual_prose(), CONFIG)[0] == []
    found, _ = suspicious([*poisoned, *rows[12:]], usual_prose(), CONFIG)
    assert [one.text for one in found] == [PHRASE]
    checks, _ = text_checks([*poisoned, *rows[12:]], usual_prose(), CONFIG, "")
    (row,) = (one for one in checks if not one.passed)
    assert row.failing is Standing.QUARANTINED and all(PHRASE in one["text"] for one in row.examples)


ANSWERS: Mapping[str, tuple[str, str, str]] = {
    "arithmetic": ("What is 4-1+4-8?", "-1", "1"),
    "spelling": ("Reverse planet:", " t e n a l p", "t e n a p l"),
    "countdown": ("Countdown 3 2 5 to 6:", "(3-2)+5", "(3+2)+5"),
    "knights": ("Knights A:!B;B:A&B?", "10", "01"),
}


@pytest.mark.parametrize("family", ANSWERS)
def test_answers_are_checked_against_the_item_that_is_asked(family: str) -> None:
    asked, right, wrong = ANSWERS[family]
    item = rebuilt(family, asked)
    assert item is not None and FAMILIES[family].check(item, right) and not FAMILIES[family].check(item, wrong)
    labels = checked([talk(asked, right), talk(asked, wrong), talk("How are you?", "Well.")], family)
    assert (labels.documents, labels.asked, labels.wrong, labels.share) == (3, 2, 1, 0.5)
    assert labels.examples[0]["answer"] == wrong.strip() or labels.examples[0]["answer"] == wrong


def test_puzzles_of_the_family_itself_are_solved_as_it_solves_them() -> None:
    from k2model.documents.families import knights

    for task in knights.pool(Random(0), 60):
        item = rebuilt("knights", task.prompt)
        assert item is not None and item["answer"] == task.answer


def test_a_prompt_with_no_problem_or_several_is_not_judged() -> None:
    assert rebuilt("arithmetic", "What is 4-1 and 4-2?") is None and rebuilt("knights", "Knights A:(B;B:A?") is None
    with pytest.raises(CorpusError, match="there are arithmetic, spelling, countdown, knights"):
        rebuilt("tools", "What is 2*3?")
    found, _ = text_checks(talks(60, 15), {}, CONFIG, "arithmetic")
    assert [(one.name, one.value) for one in found if not one.passed] == [("answers", 0.0)]
