"""An early word about a mapped field that is not there, before any work is done.

A mistyped name would otherwise quarantine a whole source row by row, or leave a licence empty without a word.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from k2model.corpus.errors import CorpusError
from k2model.corpus.ingest.columnar import schema_of
from k2model.corpus.ingest.columns import check_unique, dotted_names
from k2model.corpus.ingest.inputs import InputFile
from k2model.corpus.ingest.lines import first_lines
from k2model.corpus.ingest.mapping import absent, content_field, extra_fields
from k2model.corpus.ingest.storage import Place
from k2model.recipe.schema import SourceConfig, SourceFormat


def check_fields(source: SourceConfig, place: Place, inputs: Sequence[InputFile]) -> None:
    """Raises `CorpusError` when a mapped field is in no row at the beginning of the first input that has any.

    The message names the fields there are. Several columns of a mapped name are an error, too; inputs that cannot be
    read are left to the quarantine.
    """
    for file in inputs:
        if names := _names(source, place, file):
            for field, name in {"text": content_field(source.fields), **extra_fields(source.fields)}.items():
                if name not in names:
                    field = "messages" if field == "text" and source.fields.messages else field
                    raise CorpusError(f"corpus.sources.{source.name}.fields.{field}: {absent(name, names, file.path)}")
            return


def _names(source: SourceConfig, place: Place, file: InputFile) -> set[str]:
    """The fields at the beginning of an input of rows; none when it cannot be read."""
    if file.format in (SourceFormat.PARQUET.value, SourceFormat.ARROW.value):
        schema = schema_of(place, file.path, file.format)
        if schema is None:
            return set()
        check_unique(source, file.path, schema)
        return set(dotted_names(schema))
    if file.format == SourceFormat.JSONL.value:
        return {name for row in first_lines(place, file.path, source) for name in _dotted(row)}
    return set()


def _dotted(row: Mapping[str, Any], above: str = "") -> Iterable[str]:
    for name, value in row.items():
        yield above + name
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")
