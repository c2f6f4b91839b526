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

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypedDict, TypeVar

import pandas as pd
import pyarrow as pa

from k2model.artifacts import Part, read_json_file
from k2model.artifacts.entry import ATTACHMENTS
from k2model.documents.counts import Counts
from k2model.documents.tables import opened_table
from k2model.recipe.expectations import Severity
from k2model.validation.outcome import Outcome, ValidationFailed, merge_parts, one_part
from k2model.validation.render import Page, deck, few_sections, page_if_broken, page_of
from k2model.validation.suites import Located, Runner, Suite

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

    def stats(self) -> dict[str, float]:
        """How many expectations there are, and how many of them are not met and only warned of."""
        warned = sum(not one.success and one.severity is Severity.WARN for one in self.outcomes)
        return {"expectations": len(self.outcomes), "warnings": warned}

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
    return findings.stats()


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


@dataclass
class LookedAt:
    """A file whose frames are looked at: the outcomes of all of them, the page of the first that breaks a rule, and
    what is counted of its source."""

    path: Path
    source: str
    outcomes: list[Outcome] = field(default_factory=list)
    page: Page | None = None
    counts: Counts = field(default_factory=Counts)


File = TypeVar("File", bound=LookedAt)


def look_together(
    runner: Runner, suite: Suite, frames: Iterable[tuple[File, Located]]
) -> Iterator[tuple[File, Located, list[Outcome]]]:
    """Each frame with its outcomes, which are added to its file. Small ones, by their `share`, are looked at as one."""
    waiting: list[tuple[File, Located]] = []

    def look() -> Iterator[tuple[File, Located, list[Outcome]]]:
        outcomes = runner.run_together(suite, [place for _, place in waiting]) if waiting else []
        for (file, place), found in zip(waiting, outcomes, strict=True):
            file.page = file.page or page_if_broken(runner, suite.name, f"{place.shard}/{place.part}", found)
            file.outcomes += found
            yield file, place, found
        waiting.clear()

    for file, place in frames:
        if place.share + sum(one.share for _, one in waiting) > 1:
            yield from look()
        waiting.append((file, place))
    yield from look()


class _InFile(TypedDict):
    outcomes: list[Outcome]
    pages: list[Page]
    counts: dict[str, dict[str, int]]
    columns: list[dict[str, str]]


@dataclass(frozen=True)
class Found:
    """What was found in some files: outcomes, pages of what broke a rule, counts by source, and the distinct `columns`
    of the files (rows of `schema_rows`)."""

    outcomes: Sequence[Outcome]
    pages: Sequence[Page]
    counts: Mapping[str, Counts]
    columns: Sequence[Mapping[str, str]] = ()

    @staticmethod
    def of(files: Sequence[LookedAt], columns: Iterable[Mapping[str, str]] = ()) -> "Found":
        counts: defaultdict[str, Counts] = defaultdict(Counts)
        for file in files:
            counts[file.source].update(file.counts)
        outcomes = [outcome for file in files for outcome in one_part(file.outcomes)]
        return Found(outcomes, [file.page for file in files if file.page is not None], counts, _distinct(columns))

    def write(self, folder: Path, part: str) -> None:
        """As a file of the part, below `folder`; outcomes are merged, of the pages a few keep their sections."""
        content = {
            "outcomes": [outcome.to_json() for outcome in merge_parts(self.outcomes)],
            "pages": [asdict(page) for page in few_sections(self.pages, Counter())],
            "counts": self.counts,
            "columns": self.columns,
        }
        path = folder / FOUND / f"{part}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: Path, parts: Sequence[str]) -> "Found":
        """What was found in all parts, in their order. Raises CorruptArtifact naming a file of another form.

        One part is read at a time, so memory depends on sources and expectations and hardly on the number of parts.
        """
        pages: list[Page] = []
        columns: list[Mapping[str, str]] = []
        counts: defaultdict[str, Counts] = defaultdict(Counts)
        seen: Counter[str] = Counter()

        def outcomes() -> Iterator[Outcome]:
            for part in parts:
                content = read_json_file(_InFile, folder, f"{FOUND}/{part}.json")
                pages.extend(few_sections(content["pages"], seen))
                columns[:] = _distinct([*columns, *content["columns"]])
                for source, one in content["counts"].items():
                    counts[source].update(one)
                yield from content["outcomes"]

        return Found(merge_parts(outcomes()), pages, counts, columns)


def _distinct(columns: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The first of those that differ in nothing but the part they are of."""
    found: dict[tuple[str, ...], Mapping[str, str]] = {}
    for row in columns:
        found.setdefault(tuple(value for name, value in row.items() if name != "part"), row)
    return list(found.values())


def _name(group: Sequence[str]) -> str:
    first = str(PurePosixPath(group[0]).with_suffix(""))
    return f"{first}-and-{len(group) - 1}" if len(group) > 1 else first


MEMORY = "512MB"


@contextlib.contextmanager
def table_in_database(
    name: str, paths: Sequence[Path], schema: pa.Schema, spill: Path, threads: int
) -> Iterator["DuckDBPyConnection"]:
    """A database in memory, whose rows come in no order, with the columns of `schema` of all rows of some Parquet files
    as the table `name`. Raises CorruptArtifact naming a file that has others."""
    import duckdb

    for path in paths:
        with opened_table(path, schema):
            pass
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    columns = ", ".join(f'"{column}"' for column in schema.names)
    rows = f"SELECT {columns} FROM read_parquet([{listed}], hive_partitioning=false)"
    limits: dict[str, str | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(spill),
        "threads": threads,
    }
    with duckdb.connect(config={**limits, "preserve_insertion_order": False}) as connection:
        connection.execute(f"CREATE TEMP VIEW {name} AS {rows}")
        yield connection
