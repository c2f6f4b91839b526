"""What is hidden in a long text and asked for, without the text: five tasks, in sentences or in the laptop's entries.

    needle             one number under one key, at a depth
    multi_key          the same among seven more keys with numbers of their own, which are somewhere
    multi_value        four numbers under one key, spread over the text: all are wanted
    variable_tracking  a value is handed on from variable to variable, four times, and another one is beside it:
                       all that have it are wanted
    frequent_words     the text is a list of words, three of which occur far more often than the rest

Entries (`; key value` in prose, asked as `? key`) are what a model of two million parameters learns in its retrieval
documents; a needle and several keys can be asked in that form.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from random import Random

from k2model.errors import EvaluationError
from k2model.evals.longcontext.haystack import start_of, vocabulary, with_pieces

KEYS, VALUES, HOPS, CHAINS, FREQUENT = 8, 4, 4, 2, 3
WEIGHTS = (1.0, 0.6, 0.36)  # of the three frequent words
RARE, RARE_WORDS = 0.05, 40  # weight of each of the others, and how many there are
ADJECTIVES = (
    "amber", "brisk", "calm", "dusty", "eager", "faint", "gentle", "hollow", "icy", "jolly", "keen", "lively", "mellow",
    "narrow", "olive", "plain", "quiet", "rusty", "silent", "tidy", "upper", "vivid", "woolen", "young",
)  # fmt: skip
NOUNS = (
    "anchor", "basket", "candle", "desert", "engine", "falcon", "garden", "harbor", "island", "jacket", "kettle",
    "lantern", "meadow", "needle", "orchard", "pepper", "quarry", "ribbon", "saddle", "temple", "umbrella", "valley",
    "window", "zipper",
)  # fmt: skip


class Form(str, Enum):
    SENTENCES = "sentences"
    ENTRIES = "entries"


@dataclass(frozen=True)
class Hidden:
    """One item but for its length.

    text: of so many units of filling (words of prose, or of the list). wanted: the answers in that text, `answers` of
    them; raises `Tied`. candidates: what an answer might name, right or wrong. question: put behind the text;
    beginning: of the answer, for a completion to go on from. stop: texts that end the answer of a completion.
    """

    text: Callable[[int], str]
    wanted: Callable[[int], tuple[str, ...]]
    answers: int
    candidates: frozenset[str]
    question: str
    beginning: str
    stop: tuple[str, ...]


Maker = Callable[[Random, Form, float], Hidden]


def hidden(task: str, form: Form, rng: Random, depth: float = 0.5) -> Hidden:
    """An item of `task`; `depth` counts where one thing is asked for, 0 = in front and 1 = behind all.

    Raises EvaluationError for a task that has no such form.
    """
    if form is Form.ENTRIES and task not in IN_ENTRIES:
        raise EvaluationError(f"'{task}' cannot be asked in entries, only {', '.join(IN_ENTRIES)}; ask it in sentences")
    return TASKS[task](rng, form, depth)


def _needle(rng: Random, form: Form, depth: float, keys: int) -> Hidden:
    sentences = form is Form.SENTENCES
    names, values = _pairs(rng, keys) if sentences else _entries(rng, keys)
    places = [depth, *(rng.random() for _ in range(keys - 1))]
    said = "The secret number of {} is {}." if sentences else "; {} {}"
    pieces = [(place, said.format(*pair)) for place, pair in zip(places, zip(names, values, strict=True), strict=True)]
    if not sentences:
        return _of_pieces(rng, form, pieces, values[:1], values, f"? {names[0]}", "", ("?", ";"))
    question = f"What is the secret number of {names[0]} in the text above? Answer with the number alone."
    beginning = f"The secret number of {names[0]} is"
    return _of_pieces(rng, form, pieces, values[:1], values, question, beginning, (".", "\n"))


def _multi_value(rng: Random, form: Form, _: float) -> Hidden:
    names, values = _pairs(rng, KEYS)
    name, wanted = names[0], values[:VALUES]
    owners = [name] * VALUES + names[1 : KEYS - VALUES + 1]
    spread = [(place + rng.random()) / len(owners) for place in rng.sample(range(len(owners)), len(owners))]
    pieces = [
        (place, f"A secret number of {owner} is {value}.")
        for place, owner, value in zip(spread, owners, values, strict=True)
    ]
    question = (
        f"What are all {VALUES} secret numbers of {name} in the text above? Answer with these numbers alone, separated "
        "by commas."
    )
    beginning = f"The {VALUES} secret numbers of {name} are"
    return _of_pieces(rng, form, pieces, wanted, values, question, beginning, (".", "\n"))


def _variable_tracking(rng: Random, form: Form, _: float) -> Hidden:
    names = _distinct(rng, CHAINS * (HOPS + 1), lambda: "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=5)))
    values = _distinct(rng, CHAINS, lambda: str(rng.randint(10_000, 99_999)))
    chains = [names[i * (HOPS + 1) : (i + 1) * (HOPS + 1)] for i in range(CHAINS)]
    pieces = []
    for chain, value in zip(chains, values, strict=True):
        said = [f"Variable {chain[0]} is set to {value}."]
        said += [f"Variable {after} is set to the value of {before}." for before, after in itertools.pairwise(chain)]
        pieces += list(zip(sorted(rng.random() for _ in chain), said, strict=True))
    question = (
        f"Which variables have the value {values[0]} in the text above? There are {HOPS + 1}. Answer with their names "
        "alone, separated by commas."
    )
    beginning = f"The {HOPS + 1} variables with the value {values[0]} are"
    return _of_pieces(rng, form, pieces, chains[0], names, question, beginning, (".", "\n"))


def _frequent_words(rng: Random, _: Form, __: float) -> Hidden:
    """Draws from one stream, so that more filling only adds to a list."""
    words = rng.sample([f"{a}-{n}" for a in ADJECTIVES for n in NOUNS], FREQUENT + RARE_WORDS)
    weights = [*WEIGHTS, *[RARE] * RARE_WORDS]
    seed = rng.randrange(2**32)

    def drawn(size: int) -> list[str]:
        return Random(seed).choices(words, weights, k=size)

    def wanted(size: int) -> tuple[str, ...]:
        counts = [*Counter(drawn(size)).most_common(FREQUENT + 1), *[("", 0)] * (FREQUENT + 1)]
        if counts[FREQUENT - 1][1] == counts[FREQUENT][1]:
            raise Tied
        return tuple(word for word, _ in counts[:FREQUENT])

    opening = "Here is a list of words.\n\n"
    question = (
        f"Which {FREQUENT} words occur most often in the list above? Answer with these words alone, separated by "
        "commas."
    )
    beginning = f"The {FREQUENT} most frequent words are"
    return Hidden(
        lambda size: opening + " ".join(drawn(size)),
        wanted,
        FREQUENT,
        frozenset(words),
        question,
        beginning,
        (".", "\n"),
    )


class Tied(Exception):
    """A list in which the last of the words asked for is as frequent as the next: another one is drawn."""


def _of_pieces(
    rng: Random, form: Form, pieces: list[tuple[float, str]], wanted: list[str], candidates: list[str], question: str,
    beginning: str, stop: tuple[str, ...],
) -> Hidden:  # fmt: skip
    start, sentences = start_of(rng), form is Form.SENTENCES
    opening = "Keep the sentences in mind that do not belong in the following text.\n\n" if sentences else ""

    def text(size: int) -> str:
        return opening + with_pieces(start, size, pieces, sentences)

    return Hidden(text, lambda _: tuple(wanted), len(wanted), frozenset(candidates), question, beginning, stop)


def _pairs(rng: Random, count: int) -> tuple[list[str], list[str]]:
    """Keys, and a number of seven digits for each."""
    names = [f"{ADJECTIVES[i // len(NOUNS)]} {NOUNS[i % len(NOUNS)]}"
             for i in rng.sample(range(len(ADJECTIVES) * len(NOUNS)), count)]  # fmt: skip
    return names, _distinct(rng, count, lambda: str(rng.randint(1_000_000, 9_999_999)))


def _entries(rng: Random, count: int) -> tuple[list[str], list[str]]:
    """Keys and values of frequent words. No two entries share a value, so that one alone is right."""
    words = rng.sample(vocabulary(), 2 * count)
    return words[:count], words[count:]


def _distinct(rng: Random, count: int, draw: Callable[[], str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw()] = None
    return list(found)


#: By the first part of their scores' names.
TASKS: Mapping[str, Maker] = {
    "needle": partial(_needle, keys=1),
    "multi_key": partial(_needle, keys=KEYS),
    "multi_value": _multi_value,
    "variable_tracking": _variable_tracking,
    "frequent_words": _frequent_words,
}
IN_ENTRIES = ("needle", "multi_key")
AT_DEPTHS = ("needle", "multi_key")
