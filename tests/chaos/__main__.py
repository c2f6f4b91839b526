"""Breaks things, and tells how each of them ended.

    python -m tests.chaos                   # all (`make chaos`); --fast: what takes under three minutes
    python -m tests.chaos --only 'kill/*'   # those whose name matches
    python -m tests.chaos --list

The seed decides which moment, file or bit is struck. The table is also written, as Markdown and as JSON.
"""

import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from tests.chaos import clocks, damage, disks, network, processes, registries, releases, trainings, views
from tests.chaos.bench import Bench, Fault, Services, Unexpected, judge, opened_services, preload

ROOT = Path(__file__).parents[2]
ROOMS = (processes, clocks, disks, damage, network, releases, views, trainings, registries)
FAULTS: list[Fault] = [fault for room in ROOMS for fault in room.FAULTS]
PASSED, FAILED, LEFT_OUT = "as expected", "UNEXPECTED", "left out"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    expected: str
    outcome: str
    verdict: str
    seconds: float


def try_one(fault: Fault, place: Path, services: Services, template: Path, calm: dict[str, str], seed: int) -> Row:
    """Breaks one thing in a folder of its own, which is kept if it ends otherwise than expected."""
    began = time.monotonic()
    folder = place / "".join(one if one.isalnum() else "-" for one in fault.name)
    folder.mkdir()
    bench = Bench(folder, Random(f"{seed} {fault.name}"), services, template, calm, fault.seconds)
    try:
        outcome, verdict = judge(fault, fault.run(bench)), PASSED
        shutil.rmtree(folder, ignore_errors=True)
    except Exception as error:  # whatever it is, the others are tried as well
        what = str(error) if isinstance(error, Unexpected) else f"{type(error).__name__}: {error}"
        outcome, verdict = f"{what} (see {folder})", FAILED
    outcome = outcome.replace(str(folder), "...").replace(str(place), "...")
    return Row(fault.name, fault.expected.value, outcome, verdict, time.monotonic() - began)


def suite(faults: Sequence[Fault], place: Path, seed: int, workers: int, tell: Callable[[Row], None]) -> list[Row]:
    """Tries all, `workers` at a time, in the table's order; those that want to be alone come last."""
    needed = {name for room in (trainings, registries) if {*room.FAULTS} & {*faults} for name in room.NEEDS}
    preload(["k2model.cli.main", "k2model.artifacts", "s3fs", "pytest", *sorted(needed)])
    with opened_services(place) as services:
        template = place / "undisturbed"
        bench = Bench(place / "calm", Random(seed), services, template, {})
        bench.folder.mkdir()
        calm = bench.line(template)
        if calm.status != 0:
            raise SystemExit(f"the line cannot be made even undisturbed: {calm.said}")
        one = partial(try_one, place=place, services=services, template=template, calm=calm.digests, seed=seed)
        rows: dict[str, Row] = {}

        def noted(fault: Fault) -> None:
            rows[fault.name] = row = one(fault)
            tell(row)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(noted, [fault for fault in faults if not fault.alone]))
        for fault in faults:
            if fault.alone:
                noted(fault)
    return [rows[fault.name] for fault in faults]


def cell(text: str, most: int = 160) -> str:
    """Of a Markdown table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_markdown(rows: Sequence[Row], heading: str) -> str:
    lines = [heading, "", "| fault | expected | outcome | s |", "|---|---|---|---|"]
    for row in rows:
        outcome = row.outcome if row.verdict == PASSED else f"**{row.verdict}**: {row.outcome}"
        lines.append(f"| {cell(row.fault)} | {row.expected} | {cell(outcome)} | {row.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return f"{os.cpu_count()} cores" + (f", commit {commit.stdout.strip()}" if commit.returncode == 0 else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where all ended as expected, 1 where one did not, 2 for a wrong call."""
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__.split("\n\n")[0])
    parser.add_argument("--fast", action="store_true", help="what takes under three minutes on two idle cores")
    parser.add_argument("--seed", type=int, default=0, help="which moments, files and bits are struck (default 0)")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="faults whose name matches, as 'disk/*'")
    parser.add_argument("--list", action="store_true", help="name the faults and what is expected of each")
    parser.add_argument("--out", type=Path, help="where the table is written (default: $K2_HOME/chaos)")
    parser.add_argument("--workers", type=int, default=2, help="faults at a time (default 2)")
    asked = parser.parse_args(arguments)
    faults = [one for one in FAULTS if (one.fast or not asked.fast) and fnmatch.fnmatchcase(one.name, asked.only)]
    if not faults:
        parser.error(f"no fault matches {asked.only!r}; --list names them")
    if asked.list:
        for fault in faults:
            print(f"{fault.name:60} {fault.expected.value}{'' if fault.fast else '  (not with --fast)'}")
        return 0
    left_out = [] if disks.possible() else [*disks.NEEDS_MOUNT, *trainings.NEEDS_MOUNT, *registries.NEEDS_MOUNT]
    tried = [fault for fault in faults if fault.name not in left_out]
    began = time.monotonic()

    def tell(row: Row) -> None:
        print(f"{row.verdict:11} {row.seconds:6.1f} s  {row.fault}: {row.outcome[:300]}", flush=True)

    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="k2-chaos-"))
        stack.callback(lambda: None if any(place.iterdir()) else place.rmdir())
        rows = suite(tried, place, asked.seed, asked.workers, tell)
        for done in (place / "calm", place / "undisturbed", *place.glob("shared-*")):
            shutil.rmtree(done, ignore_errors=True)
    rows += [Row(name, "", "mounting is not permitted here", LEFT_OUT, 0.0) for name in faults_names(faults, left_out)]
    bad = [row for row in rows if row.verdict == FAILED]
    took = time.monotonic() - began
    summary = f"{len(rows) - len(bad)} of {len(rows)} faults as expected, seed {asked.seed}, {took:.0f} s, {machine()}"
    out = asked.out or Path(os.environ.get("K2_HOME", ROOT / "outputs")) / "chaos"
    out.mkdir(parents=True, exist_ok=True)
    (out / "faults.md").write_text(as_markdown(rows, summary), encoding="utf-8")
    (out / "faults.json").write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print(f"{summary}; {out}/faults.md")
    return 1 if bad else 0


def faults_names(faults: Sequence[Fault], wanted: Sequence[str]) -> list[str]:
    return [fault.name for fault in faults if fault.name in wanted]


if __name__ == "__main__":
    sys.exit(main())
