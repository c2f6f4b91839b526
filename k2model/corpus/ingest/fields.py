"""An early word about a mapped field that is not there, before any work is done.

A mistyped name would otherwise quarantine a whole source row by row, or leave a licence empty without a word.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from k2model.corpus.errors import CorpusError
from k2model.corpus.ingest.columnar import schema_of
from k2model.corpus.ingest.columns import dotted_names
from k2model.corpus.ingest.inputs import InputFile
from k2model.corpus.ingest.lines import first_lines
from k2model.corpus.ingest.mapping import absent, content_field, extra_fields
from k2model.corpus.ingest.storage import Place
from k2model.recipe.schema import SourceConfig, SourceFormat


def check_fields(source: SourceConfig, place: Place, inputs: Sequence[InputFile]) -> None:
    """Raises `CorpusError` when a mapped field is in no row at the beginning of the first input of rows.

    The message names the fields there are. A first input that cannot be read is left to the quarantine.
    """
    columnar_formats = (SourceFormat.PARQUET.value, SourceFormat.ARROW.value)
    first = next((file for file in inputs if file.format in (SourceFormat.JSONL.value, *columnar_formats)), None)
    if first is None:
        return
    if first.format in columnar_formats:
        schema = schema_of(place, first.path, first.format)
        names = set(dotted_names(schema)) if schema is not None else set()
    else:
        rows = first_lines(place, first.path, source)
        names = {name for row in rows for name in _dotted(row)}
    if names:
        for field, name in {"text": content_field(source.fields), **extra_fields(source.fields)}.items():
            if name not in names:
                field = "messages" if field == "text" and source.fields.messages else field
                raise CorpusError(f"corpus.sources.{source.name}.fields.{field}: {absent(name, names, first.path)}")


def _dotted(row: Mapping[str, Any], above: str = "") -> Iterable[str]:
    for name, value in row.items():
        yield above + name
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")
