"""A month, day by day: what arrives is put into the inbox, and the schedules of the day fire at their simulated times.

Who fires a schedule is given: `workflows/month.py` gives the launch plans that are registered for a cluster, called in
this process with the inputs that the schedule would give.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from k2model.continual.inbox import Inbox
from k2model.continual.month.days import Day, midnight
from k2model.continual.month.delivery import deliver
from k2model.continual.month.home import Journal
from k2model.recipe.continual import SchedulesConfig
from k2model.units import readable_seconds

Fire = Callable[[str, datetime], str]
NAMES = ("arrivals", "turn", "evaluation", "release")
_log = logging.getLogger(__name__)


def run(days: Sequence[Day], inbox: Inbox, schedules: SchedulesConfig, fire: Fire, home: Path) -> None:
    """All days in order, each thing once. Raises what a schedule's workflow raises."""
    journal = Journal(home)
    for day in days:
        for delivery in day.deliveries:
            what = f"deliver-{delivery.batch}"
            if journal.done(day.number, what) is None:
                deliver(inbox, delivery, home / "deliveries" / f"{day.number:02d}-{delivery.batch}")
                journal.write(day.number, what)
        for name, kickoff in fired(day, schedules):
            what = f"{kickoff:%Y%m%dT%H%M}-{name}"
            if journal.done(day.number, what) is not None:
                continue
            began = time.monotonic()
            said = fire(name, kickoff)
            took = time.monotonic() - began
            _log.info("day %d, %s: %s (%s)", day.number, name, said, readable_seconds(took))
            journal.write(day.number, what, said=said, seconds=f"{took:.1f}")


def fired(day: Day, schedules: SchedulesConfig) -> Iterator[tuple[str, datetime]]:
    """The schedules that fire on a day, in the order of their kickoffs; missed ones of earlier days come first."""
    due = [
        (kickoff, NAMES.index(name), name)
        for number in day.fires
        for name in NAMES
        if (cron := getattr(schedules, name))
        for kickoff in kickoffs(cron, midnight(number))
    ]
    yield from ((name, kickoff) for kickoff, _, name in sorted(due))


def kickoffs(cron: str, begin: datetime) -> list[datetime]:
    """The times of a cron expression within the day that begins at `begin`."""
    from croniter import croniter

    times, found = croniter(cron, begin - timedelta(seconds=1)), []
    while (at := times.get_next(datetime)) < begin + timedelta(days=1):
        found.append(at)
    return found
