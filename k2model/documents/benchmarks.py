"""Files of evaluation items from outside: a recipe's own benchmarks, and the rows of any file of items.

A benchmark's file is JSONL, or Parquet where its name ends so, with an item a row. It is read whole or not at all: a
row that cannot be asked as it stands is refused with its file, row and field, and none is left out. What a file holds
bears identity by its sha256, and is read under that: one that has changed since is named.
"""

import ast
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from k2model.documents.answers import last_number
from k2model.documents.schema import Item, make_item
from k2model.errors import CorpusError, EvaluationError
from k2model.recipe.evaluation import LETTERS, AnswerCheck, BenchmarkConfig, Mode

TOLD = 5  # of the rows that are refused


class ItemFile(NamedTuple):
    """A file of items (a path or URI), the sha256 of what is in it, and the recipe's field that names it."""

    path: str
    digest: str
    field: str


def item_file(path: str, field: str) -> ItemFile:
    """A file as it is now. Raises CorpusError when it cannot be read."""
    return ItemFile(path, hashlib.sha256(_read(path, field)).hexdigest(), field)


def rows_of(file: ItemFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`line 7`, its row) of every row; of Parquet `row 7`. Both count from 1.

    Raises CorpusError for a file that is not what it was, and for a line that is no JSON object.
    """
    content = _read(file.path, file.field)
    found = hashlib.sha256(content).hexdigest()
    if found != file.digest:
        raise CorpusError(
            f"{file.path} has changed since the run began: sha256 {found}, expected {file.digest}. Leave the files of "
            f"{file.field} alone while a run reads them, and run again"
        )
    if file.path.endswith(".parquet"):
        yield from _parquet_rows(file.path, content)
        return
    for number, line in enumerate(io.BytesIO(content), 1):
        if line.strip():
            yield f"line {number}", _parsed(file.path, number, line)


def _read(path: str, field: str) -> bytes:
    """The whole file, so that what is hashed is what is read."""
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError as error:
        raise CorpusError(f"{field}: there is no file {path}") from error
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"{field}: {path} cannot be read ({error})") from error


def _parquet_rows(path: str, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(pa.BufferReader(content)).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet ({error}); get the file again") from error


def _parsed(path: str, number: int, line: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{path}: line {number} is not JSON in UTF-8 ({error}); expected one object a line"
        ) from error
    if not isinstance(row, dict):
        raise CorpusError(f"{path}: line {number} is a {type(row).__name__}; expected one object a line")
    return row


@dataclass(frozen=True)
class Benchmark:
    """What is asked, and what is shown solved before each. An item's `answer` is the first accepted, or the text of the
    right choice; `meta` holds all `accepted`, or `choices` and the `index` of the right one."""

    config: BenchmarkConfig
    items: list[Item]
    shots: list[Item]


def benchmark_files(config: BenchmarkConfig) -> tuple[ItemFile, ...]:
    """The files that a benchmark is read from, as they are now. Raises CorpusError when one cannot be read."""
    named = {name: getattr(config, name) for name in ("location", "examples") if getattr(config, name)}
    return tuple(item_file(path, f"evaluation.benchmarks.{config.name}.{name}") for name, path in named.items())


def read_benchmark(config: BenchmarkConfig, files: tuple[ItemFile, ...]) -> Benchmark:
    """A benchmark from `benchmark_files`.

    Raises EvaluationError naming the file, and the rows and fields that cannot be used; CorpusError for a file that
    cannot be read or has changed.
    """
    items = items_in(config, files[0])
    shots = items_in(config, files[1]) if config.examples else items
    if config.shots > len(shots) or (not config.examples and config.shots == len(items)):
        raise EvaluationError(
            f"{files[-1].path} has {len(shots)} rows, too few for evaluation.benchmarks.{config.name}.shots="
            f"{config.shots}{'' if config.examples else ' and at least one to ask'}; show fewer, or add rows"
        )
    return Benchmark(config, items if config.examples else items[config.shots :], shots[: config.shots])


def items_in(config: BenchmarkConfig, file: ItemFile) -> list[Item]:
    """Every row of a benchmark's file as an item. Raises as `read_benchmark` does."""
    made: list[Item] = []
    places: dict[str, str] = {}  # by id
    problems: list[str] = []
    for place, row in rows_of(file):
        try:
            item = _item(config, row, place)
            if item["id"] in places:
                raise _Unusable(f"field '{config.id}' is {item['id']!r} as in {places[item['id']]}; expected another")
        except _Unusable as problem:
            problems.append(f"{place}: {problem}")
            continue
        places[item["id"]] = place
        made.append(item)
    if problems:
        more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        raise EvaluationError(
            f"{file.path}: {'; '.join(problems[:TOLD])}{more}. Every row is asked or none is: mend these, or name the "
            f"right fields in evaluation.benchmarks.{config.name}"
        )
    if not made:
        raise EvaluationError(f"{file.path} has no rows; expected an item a row in the file that {file.field} names")
    return made


class _Unusable(ValueError):
    """A row that cannot be asked as it stands: its field, and what was expected."""


def _item(config: BenchmarkConfig, row: Mapping[str, Any], place: str) -> Item:
    prompt = field_of(row, config.prompt)
    if not _is_text(prompt):
        raise _Unusable(f"field '{config.prompt}' is {_told(prompt)}; expected a text")
    name = field_of(row, config.id) if config.id else place
    if not _is_text(name) and not _is_number(name):
        raise _Unusable(f"field '{config.id}' is {_told(name)}; expected a text or a number")
    if config.check is AnswerCheck.CHOICE:
        choices, index = _choices(config, row)
        answer, meta = choices[index], {"choices": choices, "index": index}
    elif config.check is AnswerCheck.CODE:
        answer, meta = _tests(config, row)
    else:
        accepted = _accepted(config, row)
        answer, meta = accepted[0], {"accepted": accepted}
    return {**make_item(config.name, "", prompt, answer, meta=meta), "id": str(name)}


def _tests(config: BenchmarkConfig, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The tests of a row, as its answer and as `k2model.evals.graders.code` reads them: lines that call the function,
    or a function `check` that is given it, as HumanEval's."""
    given, entry = field_of(row, config.answer), field_of(row, config.entry_point) or ""
    tests = "\n".join(given) if isinstance(given, list) and all(map(_is_text, given)) else given
    if not _is_text(tests):
        raise _Unusable(
            f"field '{config.answer}' is {_told(given)}; expected tests in Python, a text or a list of lines"
        )
    if not isinstance(entry, str):
        raise _Unusable(f"field '{config.entry_point}' is {_told(entry)}; expected the name of a function")
    handed = "check" if entry and re.search(r"^def check\(", tests, re.MULTILINE) else ""
    prompt = str(field_of(row, config.prompt))  # may hold what the function needs: imports, other functions
    setup = prompt if entry and config.mode is Mode.COMPLETION and _is_program(prompt) else ""
    return tests, {"tests": tests, "entry_point": entry, "check": handed, "setup": setup, "accepted": [tests]}


def _is_program(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _accepted(config: BenchmarkConfig, row: Mapping[str, Any]) -> list[str]:
    given = field_of(row, config.answer)
    answers = given if isinstance(given, list) else [given]
    texts = [str(one) for one in answers if _is_text(one) or _is_number(one)]
    if not answers or len(texts) < len(answers):
        raise _Unusable(f"field '{config.answer}' is {_told(given)}; expected a text or number, or a list of those")
    if config.check is AnswerCheck.NUMERIC and (bad := [text for text in texts if last_number(text) is None]):
        raise _Unusable(
            f"field '{config.answer}' is {_told(bad[0])}, in which there is no number; check=numeric needs one"
        )
    return texts


def _choices(config: BenchmarkConfig, row: Mapping[str, Any]) -> tuple[list[str], int]:
    choices = field_of(row, config.choices)
    if not isinstance(choices, list) or not all(map(_is_text, choices)):
        raise _Unusable(f"field '{config.choices}' is {_told(choices)}; expected a list of texts")
    if not 2 <= len(choices) <= len(LETTERS) or len(set(choices)) < len(choices):
        raise _Unusable(f"field '{config.choices}' is {_told(choices)}; expected 2 to {len(LETTERS)} that differ")
    answer = field_of(row, config.answer)
    letters = LETTERS[: len(choices)]
    if answer in choices:
        return choices, choices.index(answer)
    if _is_number(answer) and answer in range(len(choices)):
        return choices, int(answer)
    if isinstance(answer, str) and len(answer) == 1 and answer in letters:
        return choices, letters.index(answer)
    raise _Unusable(
        f"field '{config.answer}' is {_told(answer)}; expected one of the choices, its letter (A to {letters[-1]}), "
        f"or its index (0 to {len(choices) - 1})"
    )


def field_of(row: Mapping[str, Any], name: str) -> Any:
    """The field that a dotted name leads to; None when there is none. A field of just that name goes first."""
    if name in row:
        return row[name]
    head, _, rest = name.partition(".")
    below = row.get(head)
    return field_of(below, rest) if rest and isinstance(below, Mapping) else None


def _is_text(value: Any) -> bool:
    """Whether it is text that says something and can be written as UTF-8 (JSON can name half a character)."""
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= mark <= "\udfff" for mark in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _told(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
