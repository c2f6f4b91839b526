"""Families that are evaluated on and never trained on: an item is a function of name, seed and number, not of a corpus.

Such a family is a module with `draw(rng, ...)`, which gives one `Puzzle` whose solver has proved its answer, and with
`check(item, answer)`. `generate` keeps those whose content lies in the held-out tenth (`is_heldout`): where a family
that is trained on has the same content in another form (two knights, three numbers), its split holds here as well, and
a source that somebody makes of one of these generators later has the same line to keep to. So nothing has to be looked
for in a corpus. The first n items are the same however many are asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from random import Random
from types import ModuleType
from typing import NamedTuple

from k2model.documents.families import FAMILIES
from k2model.documents.schema import Item, is_heldout, make_item
from k2model.errors import EvaluationError, nearest

VERSION = "1"  # raised when a family makes other items: it stands for them in the identity of scores
SEED = 0  # of the items that published scores are about
MAX_DRAWS = 20_000  # in a row that gave nothing new: then there is nothing more to be had


class Puzzle(NamedTuple):
    """key: canonical content, whatever the wording. group: what decides the split instead, where it is given. chance:
    of whoever guesses among all answers of the right form."""

    key: str
    prompt: str
    answer: str
    chance: float = 0.0
    group: str = ""
    meta: Mapping[str, object] = {}


class Generator(NamedTuple):
    module: str  # in this package
    level: str | int | None = None

    @property
    def family(self) -> ModuleType:
        return import_module(f"{__package__}.{self.module}")

    def draw(self) -> Callable[[Random], Puzzle | None]:
        return self.family.draw if self.level is None else partial(self.family.draw, level=self.level)


#: By the name of items, family and scores (`knights_8/think`).
GENERATED: dict[str, Generator] = {
    **{f"knights_{people}": Generator("knights_people", people) for people in range(2, 9)},
    **{f"countdown_{level}": Generator("countdown_graded", level) for level in ("easy", "medium", "hard")},
    **{f"order_{size}": Generator("order", size) for size in range(4, 9)},
    "aime_like": Generator("competition"),
}


def module_of(name: str) -> ModuleType:
    """Of any family's items, generated ones or those of a corpus: where `check` is."""
    return GENERATED[name].family if name in GENERATED else FAMILIES[name]


def generate(name: str, count: int, seed: int = SEED) -> list[Item]:
    """The first `count` items of a family, with distinct content; `meta["chance"]` is each one's chance level.

    Raises EvaluationError for an unknown name, and where a family has no more items than so many.
    """
    if name not in GENERATED:
        raise EvaluationError(f"there is no generated family '{name}'; {nearest(name, GENERATED)}")
    found: dict[str, Item] = {}
    for puzzle in _drawn(GENERATED[name].draw(), Random(f"{seed}:evaluation {name}"), found):
        meta = {"chance": puzzle.chance, **puzzle.meta}
        found[puzzle.key] = make_item(name, puzzle.key, puzzle.prompt, puzzle.answer, meta=meta)
        if len(found) == count:
            break
    if len(found) < count:
        raise EvaluationError(
            f"the family '{name}' has {len(found)} items and not the {count} asked for: {MAX_DRAWS:,} draws in a row "
            "gave none that is new and held out; ask for fewer, or take a harder level"
        )
    return list(found.values())


def _drawn(draw: Callable[[Random], Puzzle | None], rng: Random, found: Mapping[str, Item]) -> Iterator[Puzzle]:
    """Puzzles that are held out and not found yet, until there are no more."""
    in_vain = 0
    while in_vain < MAX_DRAWS:
        puzzle = draw(rng)
        if puzzle is None or puzzle.key in found or not is_heldout(puzzle.group or puzzle.key):
            in_vain += 1
            continue
        in_vain = 0
        yield puzzle
