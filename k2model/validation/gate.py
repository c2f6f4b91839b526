"""A gate, made part by part: which files a part looks at, what it found, and what the gate leaves behind.

A run of Great Expectations costs half a second whatever the rows, and a pod more than that. So a part is a group of
neighbouring files that make up `validation.part_bytes`; which files those are follows from the input's manifest alone.
A breach does not fail a part: it is written down, and whoever gathers the parts decides, so that all breaches are told
at once and none is looked for twice. The gate leaves its results as an artifact's files, or an error before anything
goes on.

What was found stays in the artifact below `attachments/`: it is what a run goes on from until the gate is passed and
says afterwards which files broke what, it is small beside the data, and it bears no digest. What only shows over all
parts is looked for by DuckDB, which spills to a folder what does not fit in its bounded memory.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd

from k2model.artifacts import Part
from k2model.artifacts.manifest import ATTACHMENTS
from k2model.recipe.expectations import Severity
from k2model.validation.outcome import Outcome, ValidationFailed, merge_parts
from k2model.validation.render import Page, deck, few_sections, page_of
from k2model.validation.suites import Runner, Suite

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass
class Findings:
    """Empty at first; `runner` is for tables over the whole, parts come from wherever they were looked at."""

    runner: Runner = field(default_factory=Runner)
    outcomes: list[Outcome] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    def check(self, suite: Suite, frame: pd.DataFrame) -> None:
        """Run a suite on a table about the whole; an empty one gives nothing."""
        found = self.runner.run(suite, frame)
        if found:
            self.pages.append(page_of(self.runner, suite.name, "all"))
        self.outcomes += found

    def add_parts(self, outcomes: Sequence[Outcome], pages: Sequence[Page]) -> None:
        """Take what was found in parts, summed over the parts of a source."""
        self.outcomes += merge_parts(outcomes)
        self.pages += pages

    def raise_if_broken(self, what: str) -> None:
        """Raise ValidationFailed when an expectation of severity `stop` is not met."""
        if broken := [outcome for outcome in self.outcomes if outcome.stops]:
            raise ValidationFailed(broken, deck(self.pages, self.outcomes, what), what)


def publish(findings: Findings, target: Path, what: str) -> dict[str, float]:
    """Write `validation.json` and the pages into `target`; returns counts.

    Raises `ValidationFailed` when an expectation of severity `stop` is not met.
    """
    findings.raise_if_broken(what)
    outcomes = findings.outcomes
    (target / "attachments").mkdir(parents=True)
    (target / "attachments" / "deck.html").write_text(deck(findings.pages, outcomes, what), encoding="utf-8")
    records = {"expectations": [outcome.record() for outcome in outcomes]}
    (target / "validation.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    warned = sum(not one.success and one.severity is Severity.WARN for one in outcomes)
    return {"expectations": float(len(outcomes)), "warnings": float(warned)}


FOUND = f"{ATTACHMENTS}/found"

#: Path in the artifact and size in bytes.
Sized = tuple[str, int]


def group_files(files: Iterable[Sized], part_bytes: int) -> list[Part]:
    """Files in the order given, neighbours together until they make up `part_bytes`.

    A group is named by its first file and by how many more there are, so that another division of the same
    files never takes this one's results for its own.
    """
    groups: list[list[str]] = []
    held = part_bytes
    for path, size in files:
        if held >= part_bytes:
            groups.append([])
            held = 0
        groups[-1].append(path)
        held += size
    return [Part(_name(group), json.dumps(group)) for group in groups]


def files_of(part: Part) -> list[str]:
    """The files that the part looks at."""
    return list(json.loads(part.task))


@dataclass(frozen=True)
class Found:
    """What was found in a part: outcomes, pages of what broke a rule, and `told`, which the gate sums up (JSON)."""

    outcomes: Sequence[Outcome]
    pages: Sequence[Page]
    told: Mapping[str, Any]

    def write(self, folder: Path, part: str) -> None:
        """As a file of the part, below `folder`; outcomes are merged, of the pages a few keep their sections."""
        content = {
            "outcomes": [outcome.to_json() for outcome in merge_parts(self.outcomes)],
            "pages": [asdict(page) for page in few_sections(self.pages, Counter())],
            "told": self.told,
        }
        path = _path(folder, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: Path, part: str) -> "Found":
        content = json.loads(_path(folder, part).read_text(encoding="utf-8"))
        outcomes = [Outcome.from_json(one) for one in content["outcomes"]]
        return Found(outcomes, [Page(**page) for page in content["pages"]], content["told"])


def add_up(
    folder: Path, parts: Sequence[str], tell: Callable[[Mapping[str, Any]], None]
) -> tuple[list[Outcome], list[Page]]:
    """Outcomes and pages of all parts, in the order of the parts; `tell` is called with what each of them tells.

    One part is read at a time, so memory depends on sources and expectations and hardly on the number of parts.
    """
    pages: list[Page] = []
    seen: Counter[str] = Counter()

    def outcomes() -> Iterator[Outcome]:
        for part in parts:
            found = Found.read(folder, part)
            pages.extend(few_sections(found.pages, seen))
            tell(found.told)
            yield from found.outcomes

    return merge_parts(outcomes()), pages


def _name(group: Sequence[str]) -> str:
    first = str(PurePosixPath(group[0]).with_suffix(""))
    return f"{first}-and-{len(group) - 1}" if len(group) > 1 else first


def _path(folder: Path, part: str) -> Path:
    return folder / FOUND / f"{part}.json"


MEMORY = "512MB"


def open_database(spill: Path, threads: int) -> "DuckDBPyConnection":
    """An empty one in memory, whose rows come in no order; close it, or use it as a context."""
    import duckdb

    limits: dict[str, str | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(spill),
        "threads": threads,
    }
    return duckdb.connect(config={**limits, "preserve_insertion_order": False})


def files_sql(paths: Sequence[Path]) -> str:
    """The table of all rows of some Parquet files, for a FROM."""
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{listed}], hive_partitioning=false)"
