"""A month of the laptop's line in minutes: thirty days of arrivals, by the launch plans of `workflows/schedules.py`.

    make continual-demo                     # runs it, or goes on where it was killed
    python -m workflows.month --no-chain    # without the trainings that are for the report alone
    python -m workflows.month --scratch     # and a model from scratch on everything, to compare with

Everything lies in `$K2_HOME/continual-demo`, whose store begins with links to the lifecycle's artifacts. Each day what
arrives is put into the inbox; then the schedules of the day fire: their launch plans are called in this process with
the kickoff that the schedule would give and their own fixed inputs. It ends with the report and a check of all that
must hold; the exit status is 1 where something does not.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from k2model.artifacts import Store
from k2model.continual.inbox import Inbox
from k2model.continual.ledger import Ledger
from k2model.continual.month import chain, recipe
from k2model.continual.month.days import Day, Known, month
from k2model.continual.month.home import completed, copied_tracking, judged_alone, linked
from k2model.continual.month.material import dialogues_of, prose_of
from k2model.continual.month.outcome import Month, claim, month_of
from k2model.continual.month.page import render
from k2model.continual.month.run import run
from k2model.continual.start import NoChampion, start
from k2model.continual.turn import opened
from k2model.lifecycle import LifecyclePlan, resolve
from k2model.recipe import load_recipe
from k2model.settings import home
from k2model.units import readable_seconds

FOLDER, PAGE = "continual-demo", "month.html"
SLOW_SECONDS = 1.0  # from which on a part's time is told
_log = logging.getLogger("k2model.month")
Result = TypeVar("Result")


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole of it; 0 where all holds that must, 1 where something does not."""
    asked = _asked(arguments)
    began = time.monotonic()
    place = begin_home(home(), asked.line)
    from tasks._platform import prepare_local_process  # reads the recipe that was chosen just now
    from tasks._temporary import own_temporary_folder

    prepare_local_process()
    own_temporary_folder()
    line = resolve(os.environ["K2_RECIPE"], {}, str(place / "store"))
    store = Store.open(line.store)
    _timed("scores of the lifecycle on the month's benchmarks", lambda: completed(store, line.recipe))
    days = the_days(line)[: asked.days]
    run(days, Inbox.open(store, line.recipe), line.recipe.continual.schedules, fire, place)
    if asked.days < recipe.DAYS:
        return 0
    state = opened(line).state()
    without = scratch = None
    if asked.chain:
        without = _timed("the batches without replay", lambda: chain.without_replay(store, line.recipe, state))
    if asked.scratch:
        scratch = _timed("from scratch on everything", lambda: chain.from_scratch(store, line.recipe, state))
    found = month_of(store, line.recipe, days, without, scratch)
    (place / PAGE).write_text(render(found, line.recipe.name), encoding="utf-8")
    _tell(found, place / PAGE, time.monotonic() - began)
    return 0 if found.passed else 1


def fire(schedule: str, kickoff: datetime) -> str:
    """Calls the launch plan of a schedule as Flyte would, with the kickoff and the plan's fixed inputs; says what it
    gives."""
    from workflows.schedules import SCHEDULES

    return str(SCHEDULES[schedule](kickoff=kickoff))


def begin_home(outer: Path, line: str) -> Path:
    """The month's home, below that of the lifecycle, which is made where it has no champion. Sets what tasks read from
    the environment when they are imported."""
    place, base = outer / FOLDER, recipe.LINES[line]
    try:
        store, began = Store.open(outer / "store"), load_recipe(base, recipe.AS_LINE)
        start(store, began, judged_alone(Ledger.open(store, began.name)))
    except NoChampion as missing:
        _log.warning("%s; the lifecycle is run first", missing)
        command = [str(Path(sys.executable).with_name("pyflyte")), "run", "workflows/lifecycle.py", "full_lifecycle"]
        subprocess.run(command, check=True, env={**os.environ, "K2_RECIPE": base})
    linked(outer / "store", place / "store")
    copied_tracking(outer / "mlflow.db", place / "mlflow.db")
    recipe.write_items(place)
    os.environ.update(
        K2_HOME=str(place), K2_RECIPE=f"{recipe.__name__}:{line}", K2_OVERRIDES="", K2_STORE="", MLFLOW_TRACKING_URI=""
    )
    return place


def the_days(line: LifecyclePlan) -> list[Day]:
    """The month of a line, made from its lifecycle's corpus."""
    store, corpus = Store.open(line.store), opened(line).state().root.made["corpus_valid"]
    known = Known(dialogues_of(store, corpus), prose_of(store, corpus), recipe.ordered_items())
    return month(recipe.SEED, known, recipe.SIZES[line.recipe.name])


def _timed(what: str, work: Callable[[], Result]) -> Result:
    began = time.monotonic()
    made = work()
    if (took := time.monotonic() - began) > SLOW_SECONDS:
        _log.info("%s: %s", what, readable_seconds(took))
    return made


def _tell(found: Month, page: Path, seconds: float) -> None:
    for check in (*found.checks, *claim(found)):
        print(f"{'✓' if check.passed else '✗'} {check.name}: {check.said}")
    print(f"report  {page}\ntook    {readable_seconds(seconds)}")


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("continual-demo", description="A month of continual training, in minutes")
    parser.add_argument("--line", choices=[*recipe.LINES], default="demo", help="whose month it is")
    parser.add_argument("--days", type=int, default=recipe.DAYS, help="how many of the 30 days, without a report then")
    parser.add_argument("--no-chain", dest="chain", action="store_false", help="no training without replay beside it")
    parser.add_argument("--scratch", action="store_true", help="train a model from scratch on everything beside it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
