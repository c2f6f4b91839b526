"""What a release says of itself: model card and README, from the recipe, its data and the measured scores alone."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from k2model.artifacts.result import LifecycleResult
from k2model.errors import visible
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import PhaseKind
from k2model.recipe.validate import hub_licence
from k2model.registry.gates import gate_results, unpromoted
from k2model.registry.markdown import as_cell
from k2model.release.manifest import MANIFEST
from k2model.reporting.safety import Tested, gated_rows, headline
from k2model.reporting.scores import parse, score_order
from k2model.reporting.sections_run import undone_lines
from k2model.training.log import Intervention

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # of a model on the Hugging Face Hub


def sources(corpus: Path) -> list[dict[str, Any]]:
    """Documents and characters by split, source, licence and origin, from a validated corpus folder."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from k2model.documents.schema import DOCUMENT_SCHEMA
    from k2model.documents.tables import read_table, selected

    keys = ["source", "domain", "licence", "origin"]
    rows: list[dict[str, Any]] = []
    for split in ("train", "heldout"):
        for path in sorted((corpus / split).glob("*/*.parquet")):
            table = read_table(path, selected(DOCUMENT_SCHEMA, *keys, "text"))
            table = table.append_column("characters", pc.cast(pc.utf8_length(table["text"]), pa.int64()))
            counted = table.group_by(keys).aggregate([("characters", "count"), ("characters", "sum")])
            for row in counted.to_pylist():
                rows.append(
                    {"split": split}
                    | {key: row[key] for key in keys}
                    | {"documents": row["characters_count"], "characters": row["characters_sum"]}
                )
    return sorted(rows, key=lambda row: tuple(str(row[key]) for key in ("split", *keys)))


def licences(rows: list[dict[str, Any]]) -> list[tuple[str, int, list[str]]]:
    """(licence, training documents, sources) in the order of their names."""
    found: dict[str, tuple[int, set[str]]] = {}
    for row in rows:
        if row["split"] == "train":
            documents, names = found.get(row["licence"], (0, set()))
            found[row["licence"]] = (documents + row["documents"], names | {row["source"]})
    return [(licence, documents, sorted(names)) for licence, (documents, names) in sorted(found.items())]


def composition_csv(composition: dict[str, Any]) -> str:
    """One phase's `composition.json` as a table, a source per line."""
    out = io.StringIO()
    entries = composition["sources"]
    columns = list(dict.fromkeys(name for entry in entries.values() for name in entry))
    writer = csv.DictWriter(out, fieldnames=["source", *columns], lineterminator="\n")
    writer.writeheader()
    for source, entry in entries.items():
        writer.writerow({"source": source, **entry})
    return out.getvalue()


def model_card(
    result: LifecycleResult,
    rows: list[ScoreRow],
    origins: list[dict[str, Any]],
    interventions: dict[str, list[Intervention]],
    efforts: Mapping[str, int] = MappingProxyType({}),
    adopted: Sequence[dict[str, Any]] = (),
    safety: Sequence[Tested] = (),
    turns: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Markdown with the front matter of a model hub.

    `adopted` are the records of adopted models (`read_adopted`), `origins` the rows of `sources`, `interventions` by
    phase, `efforts` the replies that the last phase learned by reasoning effort: where there are none, or it was no
    fine-tuning, the example is without chat. `safety`: the phases that were safety-tested. `turns`: of a line, by which
    the model went on after its lifecycle.
    """
    from k2model.model import count_parameters
    from k2model.tokens.chat_template import default_effort

    recipe = result.recipe
    phases = [one.phase for one in result.phases]
    licence, licence_name = hub_licence(recipe.licence)
    origin = recipe.origin(phases[-1].name)
    effort = default_effort(efforts) if phases[-1].kind is PhaseKind.SFT else ""
    return _render(
        "MODEL_CARD.md.j2",
        recipe=recipe,
        parameters=count_parameters(recipe.model),
        phases=phases,
        tokens=result.tokens_seen(),
        last=phases[-1],
        origin=origin,
        base_model=origin.source if origin and _HUB_NAME.fullmatch(origin.source) else "",
        adopted=adopted,
        longest=recipe.trained_length(phases[-1].name),
        licence=licence,
        licence_name=licence_name,
        effort=effort,
        others=[f'"{other}"' for other in reversed(list(efforts)) if other != effort],
        efforts=efforts,
        scores=_score_table(rows, [phase.name for phase in phases]),
        gates=gate_results(recipe.gates, [*rows, *gated_rows(safety)]),
        safety=safety,
        turns=turns,
        safety_lines=headline(safety),
        unpromoted=unpromoted(phases, recipe.gates),
        licences=licences(origins),
        undone=undone_lines(interventions),
        manifest=MANIFEST,
    )


def readme(result: LifecycleResult, line: bool = False) -> str:
    """line: whether files of a line are part of it."""
    return _render("README.md.j2", recipe=result.recipe, last=result.phases[-1].phase, manifest=MANIFEST, line=line)


def _score_table(rows: list[ScoreRow], phases: list[str]) -> list[tuple[str, list[str]]]:
    """(score, cells in the order of `phases`), each cell `value [low, high]` or empty."""
    found = {(row.score, row.phase): row for row in rows}
    lines = []
    for score in score_order(rows):
        if not parse(score).variant:
            cells = [found.get((score, phase)) for phase in phases]
            lines.append((score, [f"{c.value:.2f} [{c.low:.2f}, {c.high:.2f}]" if c else "" for c in cells]))
    return lines


def _render(name: str, **context: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown of the recipe's own texts and of numbers; what documents say goes through `cell`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = as_cell
    return visible(environment.get_template(name).render(**context))
