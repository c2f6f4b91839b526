"""Why a step runs: what its identity has that the last artifact of the same step had not."""

from typing import TYPE_CHECKING, Any

from k2model.artifacts.identity import Identity
from k2model.artifacts.record import readable

if TYPE_CHECKING:
    from k2model.artifacts.store import Store

Difference = tuple[str, Any, Any]  # dotted field, old value, new value; None where there is none


def explain(identity: Identity, store: "Store", same: str = "phase.name") -> list[Difference]:
    """Compares an identity, field by field, with the nearest artifact that the same step made.

    same: a dotted config field that tells artifacts of one step apart, such as the phase; only
    records with an equal value of it are compared, when the config has it. Of those the one with the
    fewest differences counts, the latest of equals: a step without such a field makes one artifact for
    each phase, and the others' are no news.

    Returns (field, old, new), sorted by field: `version`, config fields such as
    `phase.optimizer.lr`, and inputs as `inputs.<name>` with their digests. It is empty when this
    identity was made before, and also when nothing like it was ever made.
    """
    phase = _fields_of(identity).get(same)
    nearest: list[Difference] | None = None
    for record in store.records(identity.step):
        if record["identity"] == identity.key:
            return []
        if _fields_recorded(record).get(same) == phase:
            found = differences(identity, record)
            nearest = found if nearest is None or len(found) <= len(nearest) else nearest
    return nearest or []


def differences(identity: Identity, record: dict[str, Any]) -> list[Difference]:
    """(field, recorded value, value now) of every field in which a record is not of this identity."""
    return _differences(_fields_recorded(record), _fields_of(identity))


def _fields_of(identity: Identity) -> dict[str, Any]:
    inputs = {name: ref.digest for name, ref in identity.inputs.items()}
    return _fields(identity.version, readable(identity.config), inputs)


def _fields_recorded(record: dict[str, Any]) -> dict[str, Any]:
    inputs = {name: item["digest"] for name, item in record["inputs"].items()}
    return _fields(record["version"], record["config"], inputs)


def _fields(version: str, config: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    flat: dict[str, Any] = {"version": version}
    for name, value in config.items():
        _flatten(name, value, flat)
    return flat | {f"inputs.{name}": digest for name, digest in inputs.items()}


def _flatten(path: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _flatten(f"{path}.{name}", item, into)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            # Files go by their path, so that one more among them is one difference.
            _flatten(f"{path}[{item['path'] if isinstance(item, dict) and 'path' in item else i}]", item, into)
    else:
        into[path] = value


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    # Compared with their types, since 1 and 1.0 are two identities.
    return [
        (field, old.get(field), new.get(field))
        for field in sorted(old.keys() | new.keys())
        if field not in old or field not in new or (type(old[field]), old[field]) != (type(new[field]), new[field])
    ]
