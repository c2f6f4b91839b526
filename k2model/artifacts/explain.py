"""Why a step runs: what its identity has that an earlier artifact of the same step had not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2model.artifacts.identity import Identity
from k2model.artifacts.record import described

Difference = tuple[str, Any, Any]  # dotted field, old value, new value; None where there is none


def nearest_record(
    identity: Identity, records: Sequence[dict[str, Any]], stand_ins: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Of the `records` of a step, oldest first, that with the fewest differences, the latest of equals.

    A step makes one artifact for each phase, and the others' are no news: where its config has a phase, only records
    with an equal `phase.name` are compared. stand_ins: as in `differences`.
    """
    phase = _phase_of(described(identity))
    own = [record for record in records if _phase_of(record) == phase]
    return min(reversed(own), key=lambda record: len(differences(identity, record, stand_ins)), default=None)


def differences(
    identity: Identity, record: dict[str, Any], stand_ins: Mapping[str, str] | None = None
) -> list[Difference]:
    """(field, recorded value, value now) of every field in which a record is not of this identity, sorted by field.

    Fields are `version`, config fields such as `phase.optimizer.lr`, rows of tables by their names
    (`mixture.prose.weight`), and inputs as `inputs.<name>` with their digests. A row that only one side has is one
    difference. stand_ins: for an input that is to be made anew, the digest of the artifact that it takes the place of.
    """
    now = _compared(described(identity))
    for name, digest in (stand_ins or {}).items():
        now["inputs"][name] = digest
    return sorted(_differences("", _compared(record), now), key=lambda difference: difference[0])


def between(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """The same of two records, for their settings and the files they read, and not for artifacts among their inputs."""
    old, new = ({**record["config"], "version": record["version"]} for record in (first, second))
    return sorted(_differences("", old, new), key=lambda difference: difference[0])


def _compared(record: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {name: ref["digest"] for name, ref in record["inputs"].items()}
    return {**record["config"], "version": record["version"], "inputs": inputs}


def _phase_of(record: Mapping[str, Any]) -> Any:
    phase = record["config"].get("phase")
    return phase.get("name") if isinstance(phase, dict) else None


def _differences(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() | new.keys():
            below = f"{path}.{name}" if path else name
            if name in old and name in new:
                yield from _differences(below, old[name], new[name])
            else:
                yield below, old.get(name), new.get(name)
    elif (rows := by_name(old)) and (rows_now := by_name(new)):
        yield from _differences(path, rows, rows_now)
        order, order_now = [n for n in rows if n in rows_now], [n for n in rows_now if n in rows]
        if order != order_now:
            yield f"the order of {path}", ", ".join(order), ", ".join(order_now)
    elif type(old) is not type(new) or old != new:  # with their types, since 1 and 1.0 are two identities
        yield path, old, new


def by_name(table: Any) -> dict[str, Any]:
    """The rows of a table of a readable config by their names, files by their paths; empty for anything else."""
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        return {}
    named = {_row_name(row, place): row for place, row in enumerate(table)}
    return named if len(named) == len(table) else {str(place): row for place, row in enumerate(table)}


def _row_name(row: dict[str, Any], place: int) -> str:
    name = row.get("path") or row.get("name")
    if not name and row.get("source"):
        name = row["source"] + (f"[{row['bucket']}]" if row.get("bucket") else "")  # as overrides address it
    return str(name or place)
