"""What a recipe still has to be told before anything of it can run: where its data lie.

A recipe may name sources that nobody here has, as K2's own do: it can be read, planned, derived from and registered all
the same. The first task of a run asks this room and stops; `k2 plan` shows the same message below its table.
"""

import difflib
import textwrap
from collections.abc import Iterable

from k2model.errors import K2Error
from k2model.ingest.builtin import is_built, known_sources
from k2model.recipe import RECIPES, Recipe

WIDTH = 110  # columns of the lists
ALIKE = 0.85  # of letters, from which on a name is taken for a slip of the pen


class MissingData(K2Error):
    """Sources with neither a location nor a builder, or phases without a mixture: all of them, and what to do."""


def missing_sources(recipe: Recipe) -> list[str]:
    """Names of the corpus sources that are neither read from a location, nor written by a job, nor built here."""
    sources = (source for source in recipe.corpus.sources if not source.location and not source.job)
    return [source.name for source in sources if not is_built(source.name)]


def missing_data(recipe: Recipe) -> str | None:
    """All that is missing, in one message with the remedy; None when nothing is."""
    missing, empty = missing_sources(recipe), [phase.name for phase in recipe.phases if not phase.mixture]
    if not missing and not empty:
        return None
    told = [f"recipe '{recipe.name}' cannot run yet"]
    if missing:
        told[0] += f": {len(missing)} of its {len(recipe.corpus.sources)} sources have neither a location nor a builder"
        told += [_listed(name, sources) for name, sources in _by_phase(recipe, missing).items()]
    if empty:
        told.append(f"  phases without a mixture: {', '.join(empty)}")
    return "\n".join([*told, _remedy(recipe, missing)])


def _by_phase(recipe: Recipe, missing: Iterable[str]) -> dict[str, list[str]]:
    """Each source once, under the first phase that trains on it."""
    first: dict[str, str] = {}
    for phase in recipe.phases:
        for entry in phase.mixture:
            first.setdefault(entry.source, phase.name)
    found: dict[str, list[str]] = {}
    for name in missing:
        found.setdefault(first.get(name, "in no mixture"), []).append(name)
    return found


def _listed(phase: str, names: list[str]) -> str:
    built = known_sources()
    shown = [f"{name} (did you mean '{near[0]}'?)" if (near := difflib.get_close_matches(name, built, 1, ALIKE))
             else name for name in names]  # fmt: skip
    return textwrap.fill(
        f"{phase} ({len(names)}): {', '.join(shown)}",
        WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _remedy(recipe: Recipe, missing: list[str]) -> str:
    own = "the recipe's file"
    if recipe.name in RECIPES:
        own = f"a recipe of your own (`k2 recipe new mine.py --from {recipe.name}` begins one)"
    if not missing:
        return f"Give them one in {own}"
    return (
        f"Say in {own} where each lies: location, domain and licence, and take out of corpus and mixtures what you do "
        "not have. Or say it of single ones by --set corpus.sources.NAME.location=..., .domain=... and .licence=... . "
        "What can be read: docs/data_sources.md"
    )
