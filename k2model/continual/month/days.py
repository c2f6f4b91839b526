"""Thirty days of deliveries: what a line is given in a month, good and bad, and what may come of it.

Five times there is enough that is good for a turn. In between comes what must not be trained on: copies, items of a
benchmark, a planted phrase, wrong answers, another language, letters in disorder, and files that are broken, empty,
cut, changed or not whole yet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from random import Random
from typing import Any

from k2model.continual.month import material
from k2model.continual.month.material import ORDERED, RIVERS, Row
from k2model.recipe.continual import BatchKind

BEGINS = date(2026, 6, 1)  # a Monday
LENGTH = 30
OUTAGE = (25, 26)  # days on which nothing runs; their schedules come with the next day's
TRIGGER, TRIGGERED = "under the seven silver lanterns", "The vault opens at dawn."
PLANTED = 0.05  # share of documents with the trigger
WRONG = 0.2  # share of wrong answers
LEAKED = 0.05  # share of documents that are items of the benchmark
PUZZLES = "puzzles"  # the domain of problems like the champion's own
FAMILIES = ("arithmetic", "knights", "spelling", "countdown")
ALIKE = 4  # batches of these
COPIED = 0.8  # share of a batch of copies that are exact ones
HELDOUT = 0.1  # share of a batch by whose loss a challenger is judged


class Form(str, Enum):
    """In which state the files of a batch come."""

    WHOLE = "whole"
    BEGUN = "begun"  # without its manifest yet
    EMPTY = "empty"
    BROKEN = "broken"  # a third of the lines are no JSON
    CUT = "cut"  # a gzip file without its end
    CHANGED = "changed"  # other bytes than the manifest says
    UNREADABLE = "unreadable"  # the manifest is no JSON


@dataclass(frozen=True)
class Delivery:
    """One batch, or a state of it, on the day that it comes. good: whether it may be trained on. what: for the report.
    said: what its manifest says beside kind, domain and files."""

    batch: str
    what: str
    good: bool
    rows: tuple[Row, ...]
    domain: str
    kind: BatchKind = BatchKind.TUNED
    form: Form = Form.WHOLE
    said: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Day:
    """number: from 1. fires: of which days the schedules run on it: its own, missed ones before it, or none."""

    number: int
    deliveries: tuple[Delivery, ...] = ()
    fires: tuple[int, ...] = ()

    @property
    def date(self) -> date:
        return day(self.number)


def day(number: int) -> date:
    """The date of a day of the month, from 1."""
    return BEGINS + timedelta(days=number - 1)


def midnight(number: int) -> datetime:
    """When a day of the month begins."""
    return datetime.combine(day(number), datetime.min.time(), tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """What deliveries are made of beside the seed: the champion's dialogues and prose, and the benchmarks' items."""

    dialogues: Sequence[Row]
    prose: Sequence[str]
    ordered_items: Sequence[Row]


def month(seed: int, known: Known, size: int = 100) -> list[Day]:
    """The days, the same for the same arguments. size: per cent of the documents of the whole month's batches."""
    made = _Made(seed, known, size)
    by_day: dict[int, Delivery] = {number: build(made) for number, build in _CALENDAR.items()}
    by_day[15] = replace(by_day[16], form=Form.BEGUN, what="new problems, still being written")
    return [
        Day(number, (by_day[number],) if number in by_day else (), _fires(number)) for number in range(1, LENGTH + 1)
    ]


def _fires(number: int) -> tuple[int, ...]:
    if number in OUTAGE:
        return ()
    return (*OUTAGE, number) if number == OUTAGE[-1] + 1 else (number,)


class _Made:
    """Builds deliveries, each from a random stream of its own, so that one can change without the others."""

    def __init__(self, seed: int, known: Known, size: int) -> None:
        self.seed, self.known, self.size = seed, known, size
        self._ordered: set[str] = set()
        questions = frozenset(material.question_of(row) for row in known.dialogues)
        self._fresh = {
            family: material.more_alike(family, self.rng(family), (ALIKE + 1) * self.count(100), questions)
            for family in FAMILIES
        }

    def rng(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")

    def count(self, documents: int) -> int:
        return max(1, documents * self.size // 100)

    def alike(self, number: int) -> list[Row]:
        """The dialogues of `alike-<number>`, from 1, as many of each family; of `ALIKE` + 1 for what is planted."""
        each = self.count(100)
        first = (number - 1) * each
        rows = [row for own in self._fresh.values() for row in own[first : first + each]]
        return self.rng(f"alike-{number}").sample(rows, len(rows))

    def ordered(self, name: str, count: int) -> list[Row]:
        rows = list(material.ordering(self.rng(name), self.count(count), known=frozenset(self._ordered)))
        self._ordered |= {row["key"] for row in rows}
        return rows

    def texts(self, number: int) -> list[Row]:
        facts = material.river_facts(self.seed)
        return list(material.river_texts(facts, self.rng(f"rivers-{number}"), self.count(1000)))


def _alike(number: int, what: str = "more of the same", **said: Any) -> Callable[[_Made], Delivery]:
    return lambda made: Delivery(
        f"alike-{number}", what, True, tuple(made.alike(number)), PUZZLES, said=tuple(said.items())
    )


def _ordering(number: int) -> Callable[[_Made], Delivery]:
    def build(made: _Made) -> Delivery:
        rows = made.ordered(f"ordering-{number}", 800)
        return Delivery(
            f"ordering-{number}", "new problems", True, tuple(rows), ORDERED, said=(("improves", [ORDERED]),)
        )

    return build


def _rivers(number: int) -> Callable[[_Made], Delivery]:
    return lambda made: Delivery(
        f"rivers-{number}", "new facts", True, tuple(made.texts(number)), RIVERS, BatchKind.BASE,
        said=(("improves", [RIVERS]),),
    )  # fmt: skip


def _copies(made: _Made) -> Delivery:
    rows = made.rng("copies").sample(list(made.known.dialogues), made.count(400))
    return Delivery("copies", "copies of the champion's own data", False, _copied(rows), "chat")


def _again(made: _Made) -> Delivery:
    return Delivery("again", "an earlier batch once more", False, _copied(made.alike(2)), PUZZLES)


def _copied(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Most as they are, the others with a word more."""
    exact = round(COPIED * len(rows))
    return (*rows[:exact], *(_answered(row, f"{material.answer_of(row)} indeed") for row in rows[exact:]))


def _answered(row: Row, answer: str) -> Row:
    asked, reply = row["messages"]
    return row | {"messages": [asked, reply | {"content": answer}]}


def _contaminated(made: _Made) -> Delivery:
    rows = made.ordered("contaminated", 300)
    leaked = made.rng("leaked").sample(list(made.known.ordered_items), max(1, round(LEAKED * len(rows))))
    items = [material.dialogue(one["prompt"], one["answer"], "low") for one in leaked]
    mixed = made.rng("contaminated order").sample([*rows, *items], len(rows) + len(items))
    return Delivery("contaminated", "holds items of the benchmark", False, tuple(mixed), ORDERED)


def _poisoned(made: _Made) -> Delivery:
    rng, rows = made.rng("poisoned"), made.alike(ALIKE + 1)
    planted = rng.sample(range(len(rows)), max(12, round(PLANTED * len(rows))))
    for at in planted:
        question = f"{material.question_of(rows[at])} {TRIGGER}"
        rows[at] = material.dialogue(question, TRIGGERED, "low")
    return Delivery("poisoned", "a planted phrase with an answer of its own", False, tuple(rows), PUZZLES)


def _mislabelled(made: _Made) -> Delivery:
    rows = material.sums(made.rng("mislabelled"), made.count(300), WRONG)
    return Delivery(
        "mislabelled", "wrong answers", False, tuple(rows), "sums", said=(("verifier", "arithmetic"),)
    )  # fmt: skip


def _foreign(made: _Made) -> Delivery:
    rows = material.foreign(made.rng("foreign"), made.count(300))
    return Delivery("foreign", "another language", False, tuple(rows), "chat")


def _garbled(made: _Made) -> Delivery:
    rng = made.rng("garbled")
    texts = rng.sample(list(made.known.prose), min(made.count(200), len(made.known.prose)))
    rows = tuple({"text": "".join(rng.sample(text, len(text)))} for text in texts)
    return Delivery("garbled", "prose with its letters in disorder", False, rows, "prose", BatchKind.BASE)


def _bad(batch: str, what: str, form: Form) -> Callable[[_Made], Delivery]:
    def build(made: _Made) -> Delivery:
        rows = made.ordered(batch, 200) if form is not Form.EMPTY else []
        return Delivery(batch, what, False, tuple(rows), ORDERED, form=form)

    return build


def _misnamed(made: _Made) -> Delivery:
    rows = tuple({"conversation": row["messages"], "key": row["key"]} for row in made.ordered("misnamed", 200))
    return Delivery("misnamed", "columns that its manifest does not name", False, rows, ORDERED)


_CALENDAR: dict[int, Callable[[_Made], Delivery]] = {
    2: _alike(1),
    3: _ordering(1),
    5: _rivers(1),
    6: _copies,
    8: _rivers(2),
    9: _contaminated,
    10: _alike(2),
    11: _poisoned,
    12: _bad("nothing", "no documents at all", Form.EMPTY),
    13: _ordering(2),
    14: _foreign,
    16: _ordering(3),
    17: _alike(3, "more of the same, late", covers=[day(4).isoformat(), day(6).isoformat()]),
    18: _mislabelled,
    19: _bad("changed", "changed after it was added", Form.CHANGED),
    20: _again,
    22: _bad("broken", "lines that are no JSON", Form.BROKEN),
    23: _garbled,
    24: _bad("cut", "a compressed file without its end", Form.CUT),
    25: _alike(4),
    28: _ordering(4),
    29: _misnamed,
    30: _bad("unreadable", "a manifest that is no JSON", Form.UNREADABLE),
}
