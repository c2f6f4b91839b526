"""Questions that need tools, each with the calls that answer it and the reference answer.

A plan's calls are made of the question and of what earlier calls returned, so that whoever follows it after a
wrong call carries the error on, as a person would. Keys of calculations and look-ups are those of
`families.tools`, by which held-out calls are recognised.
"""

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from random import Random
from typing import Any, NamedTuple

from k2model.documents.families.facts import fact_tables
from k2model.documents.schema import is_heldout
from k2model.synthesis.conversation import ToolCall
from k2model.synthesis.tools.toolbox import PRICES, TOOLS, UNITS, execute

Step = Callable[[Sequence[str]], ToolCall]
DISTRACTORS = 2
UNABLE = "None of the tools here can do that."
_OUT_OF_REACH = (
    "Sing me a song.",
    "Water my plants, please.",
    "Turn the light off.",
    "Bring me a glass of milk.",
    "Close the window.",
    "Fold the letter in half.",
)


class ToolTask(NamedTuple):
    family: str
    question: str
    offered: tuple[str, ...]
    plan: tuple[Step, ...]
    answer: str
    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        return "\n".join(self.keys)

    @property
    def splits(self) -> set[bool]:
        """Whether its keys are held out: both values when they fall apart."""
        return {is_heldout(key) for key in self.keys}

    def right(self, said: str) -> bool:
        """Whether a reply states the answer: as its last number where it is one, else as words."""
        if re.fullmatch(r"-?\d+(\.\d+)?", self.answer):
            numbers = re.findall(r"-?\d+(?:\.\d+)?", said.replace(",", ""))
            return bool(numbers) and float(numbers[-1]) == float(self.answer)
        return re.search(rf"(?<!\w){re.escape(self.answer.rstrip('.'))}(?!\w)", said) is not None

    def revealed_by(self, said: str) -> bool:
        return re.search(rf"(?<![\w.-]){re.escape(self.answer)}(?!\w)", said) is not None


def draw(family: str, rng: Random) -> ToolTask:
    """A task with the tools it needs and some it does not; the answer is what following the plan gives."""
    question, plan, keys = TASKS[family](rng)
    needed = {step(["0"] * 9).name for step in plan}
    others = [name for name in TOOLS if name not in needed]
    offered = tuple(sorted(needed | set(rng.sample(others, DISTRACTORS if needed else 3))))
    observed: list[str] = []
    for step in plan:
        observed.append(execute(step(observed), offered))
    return ToolTask(family, question, offered, plan, observed[-1] if plan else UNABLE, keys)


def call(name: str, /, **arguments: Any) -> ToolCall:
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))


Drawn = tuple[str, tuple[Step, ...], tuple[str, ...]]


def _whole(text: str) -> int:
    """A number that a tool returned, 0 where it returned something else."""
    return int(text) if re.fullmatch(r"-?\d+", text) else 0


def _calculation(rng: Random) -> Drawn:
    a, b, op = rng.randint(100, 9999), rng.randint(10, 999), rng.choice("+-*")
    return f"What is {a} {op} {b}?", (lambda _: call("calculate", a=a, op=op, b=b),), (f"calc {a}{op}{b}",)


def _two_calculations(rng: Random) -> Drawn:
    a, b, c = (rng.randint(11, 999) for _ in range(3))
    op, other = rng.choice("+-"), rng.choice("+-*")
    first = a + b if op == "+" else a - b
    plan = (
        lambda _: call("calculate", a=a, op=op, b=b),
        lambda seen: call("calculate", a=_whole(seen[0]), op=other, b=c),
    )
    return (
        f"Take {a} {op} {b}, then the result {other} {c}. What comes out?",
        plan,
        (f"calc {a}{op}{b}", f"calc {first}{other}{c}"),
    )


def _conversion(rng: Random) -> Drawn:
    unit = rng.choice([*UNITS])
    to = rng.choice([name for name in UNITS if UNITS[name][0] == UNITS[unit][0] and name != unit])
    value = rng.randint(2, 500)
    return (
        f"How many {to} are {value} {unit}?",
        (lambda _: call("convert_units", value=value, unit=unit, to=to),),
        (f"convert {value} {unit} {to}",),
    )


def _date(rng: Random) -> date:
    return date(1990, 1, 1) + timedelta(days=rng.randrange(20_000))


def _days(rng: Random) -> Drawn:
    start = _date(rng)
    end = start + timedelta(days=rng.randint(5, 900))
    plan = (lambda _: call("days_between", start=start.isoformat(), end=end.isoformat()),)
    return f"How many days lie between {start} and {end}?", plan, (f"days {start} {end}",)


def _weekday_after(rng: Random) -> Drawn:
    start, days = _date(rng), rng.randint(5, 400)
    plan = (lambda _: call("add_days", day=start.isoformat(), days=days), lambda seen: call("weekday", day=seen[0]))
    return f"Which day of the week is it {days} days after {start}?", plan, (f"weekday {start} {days}",)


def _statistics(rng: Random) -> Drawn:
    numbers, measure = [rng.randint(1, 400) for _ in range(rng.randint(4, 9))], rng.choice(("mean", "median", "sum"))
    plan = (lambda _: call("statistics", numbers=numbers, measure=measure),)
    return f"What is the {measure} of {', '.join(map(str, numbers))}?", plan, (f"statistics {measure} {numbers}",)


def _look_up(rng: Random) -> Drawn:
    table = rng.choice(("capital", "symbol"))
    name = rng.choice([*fact_tables()[table]])
    plan = (lambda _: call("look_up", table=table, name=name),)
    return f"Find the {table} of {name} with the tools you have.", plan, (f"lookup {table} {name}",)


def _shopping(rng: Random) -> Drawn:
    item, number = rng.choice([*PRICES]), rng.randint(12, 240)
    plan = (lambda _: call("price", item=item), lambda seen: call("calculate", a=_whole(seen[0]), op="*", b=number))
    return f"What do {number} pieces of '{item}' cost together, in cents?", plan, (f"calc {PRICES[item]}*{number}",)


def _two_items(rng: Random) -> Drawn:
    one, other = rng.sample([*PRICES], 2)
    plan = (
        lambda _: call("price", item=one),
        lambda _: call("price", item=other),
        lambda seen: call("calculate", a=_whole(seen[0]), op="-", b=_whole(seen[1])),
    )
    return (
        f"How many cents more does '{one}' cost than '{other}'? A negative number means less.",
        plan,
        (f"calc {PRICES[one]}-{PRICES[other]}",),
    )


def _counting(rng: Random) -> Drawn:
    word = "".join(rng.choices("abcdr", k=rng.randint(12, 30)))
    letter = rng.choice(sorted(set(word)))
    plan = (lambda _: call("count_character", text=word, character=letter),)
    return f"How often does '{letter}' occur in '{word}'?", plan, (f"count {letter} {word}",)


def _abstention(rng: Random) -> Drawn:
    question = rng.choice(_OUT_OF_REACH)
    return question, (), (f"abstain {question}",)


TASKS: dict[str, Callable[[Random], Drawn]] = {
    "calculation": _calculation,
    "two-calculations": _two_calculations,
    "conversion": _conversion,
    "days": _days,
    "weekday-after": _weekday_after,
    "statistics": _statistics,
    "look-up": _look_up,
    "shopping": _shopping,
    "two-items": _two_items,
    "counting": _counting,
    "abstention": _abstention,
}
