"""Markdown as MLflow's pages show it: tables, links inside of its UI, and a text that its database takes.

A page is made of sections. What a person must see stands in a section's lines; its table gives way, row by row from its
end, where the whole would be longer than MLflow keeps.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from k2model.errors import visible

CELL_CHARACTERS = 400  # of what a document says, in a table
RUN_CHARACTERS = 8000  # of the description of a run: the column of its tag
CHARACTERS = 5000  # of that of an experiment, a registered model, a version
SPACE, GAP = "&ensp;", "&nbsp;"  # behind a cell, below a table: MLflow's pages set them without any

Row = Sequence[str]


@dataclass(frozen=True)
class Section:
    """`title` "" = no heading. `lines` stay; `rows` of the table below them may be cut, with `more` as what is said of
    the others: where they are."""

    title: str
    lines: Sequence[str] = ()
    head: Row = ()
    rows: Sequence[Row] = ()
    more: str = ""

    def written(self, shown: int) -> str:
        """With the first `shown` rows of its table."""
        parts = [f"### {self.title}"] if self.title else []
        parts += ["\n".join(self.lines)] if self.lines else []
        if self.rows and shown:
            parts.append("\n".join(table(self.head, self.rows[:shown])))
        if shown < len(self.rows):
            parts.append(f"{len(self.rows) - shown} more: {self.more}" if self.more else "")
        elif self.rows:
            parts.append(GAP)
        return "\n\n".join(part for part in parts if part)


def page(sections: Sequence[Section], limit: int) -> str:
    """The sections one after the other, of at most `limit` characters."""
    there = [one for one in sections if one.lines or one.rows]
    shown = [len(one.rows) for one in there]

    def text() -> str:
        return "\n\n".join(one.written(rows) for one, rows in zip(there, shown, strict=True))

    while len(written := text()) > limit and any(shown):
        longest = max(range(len(shown)), key=shown.__getitem__)
        shown[longest] -= 1
    return written if len(written) <= limit else f"{written[: limit - 1]}…"


def with_section(text: str, title: str, lines: Sequence[str], limit: int) -> str:
    """A page with these lines in its section of that title, which is its second where there was none.
    The longest tables give way to it."""
    parts = _parts(text)
    new = Section(title, lines).written(0)
    place = next((at for at, part in enumerate(parts) if part.startswith(f"### {title}\n")), None)
    if place is None:
        parts.insert(1, new)
    else:
        parts[place] = new
    while len(joined := "\n\n".join(parts)) > limit:
        longest = max(range(len(parts)), key=lambda at: len(_rows(parts[at])))
        if not _rows(parts[longest]):
            return f"{joined[: limit - 1]}…"
        parts[longest] = _without_a_row(parts[longest])
    return joined


def _rows(part: str) -> list[str]:
    """Of the table in a section."""
    return [line for line in part.splitlines() if line.startswith("| ")][1:]


def _without_a_row(part: str) -> str:
    """A section whose table has given way by one row, which is counted below it."""
    before, _, after = part.rpartition(_rows(part)[-1])
    said = re.search(r"(?m)^(\d+) more", after)
    counted = after.replace(said[0], f"{int(said[1]) + 1} more", 1) if said else "\n\n1 more"
    return before.rstrip("\n") + counted


def lines_of(text: str, title: str) -> list[str]:
    """Of the section of that title; none where there is no such section."""
    found = next((part for part in _parts(text) if part.startswith(f"### {title}\n")), "")
    return found.splitlines()[2:]


def _parts(text: str) -> list[str]:
    return [part.strip("\n") for part in re.split(r"(?m)^(?=### )", text)]


def table(head: Row, rows: Sequence[Row]) -> list[str]:
    """Lines of a table."""
    ruler = ["---"] * len(head)
    return [f"| {f'{SPACE} | '.join(cells)} |" if cells is not ruler else f"|{'|'.join(ruler)}|"
            for cells in (head, ruler, *rows)]  # fmt: skip


def link(text: str, address: str) -> str:
    return f"[{text}]({address})" if address else text


def run_at(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Where MLflow's UI has a run, or an artifact of it."""
    place = f"#/experiments/{experiment_id}/runs/{run_id}"
    return f"{place}/artifacts/{quote(artifact)}" if artifact else place


def version_at(name: str, version: int | str) -> str:
    return f"#/models/{quote(name, safe='')}/versions/{version}"


def model_at(name: str) -> str:
    return f"#/models/{quote(name, safe='')}"


def code(text: object) -> str:
    """As it is written, on one line; no markup inside of it counts."""
    return f"`{' '.join(visible(str(text)).split()).replace('`', chr(0x2BC))}`"


def as_cell(text: str) -> str:
    """Words from elsewhere for a line or a cell of a table in Markdown: one short line in which nothing is markup, an
    entity, a formula or an address that becomes a link, and no character commands a terminal."""
    line = visible(" ".join(text.split()))
    line = line if len(line) <= CELL_CHARACTERS else f"{line[:CELL_CHARACTERS]}…"
    line = re.sub(r"([\\`*\[\]!|<>&_~#$@])", r"\\\1", line)
    return re.sub(r"(?i):(?=//)|(?<=www)\.", lambda found: f"\\{found[0]}", line)
