"""Versions of a registered model: one for each registration, and the aliases that point at them.

People delete and move things in MLflow by hand, and its own client asks again where an answer got lost, which makes a
second version. So nothing here trusts a number that was written down: versions are looked up by the key of what they
register, and what was trained from what is told by those keys. A phase that is registered anew, since its run or
version was deleted, is not newer than those that were trained from it.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from k2model.errors import LeaseLost
from k2model.plain import NotPlain
from k2model.registry.aliases import aliases, moved_by_hand, set_alias
from k2model.registry.gates import Registration
from k2model.registry.phase_record import KEY, PARENT, TRAINED, PhaseRecord, model_tags
from k2model.registry.tracking import ensured

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")

CANDIDATE = "candidate"
RESULT = "k2.registration"  # tag of a finished run: the registration as JSON

_log = logging.getLogger(__name__)


def registered(client: "MlflowClient", name: str) -> dict[str, "ModelVersion"]:
    """The versions of a registered model by the digest of the checkpoint that each stands for, the newest of several.
    Empty where there is no such model."""
    return {one.tags.get("k2.checkpoint.digest", ""): one for one in sorted(versions_of(client, name), key=_number)}


def registration_of(client: "MlflowClient", version: "ModelVersion") -> Registration | None:
    """What a version was registered as; None where that was cut short, where its run is gone, or where another version
    of the project did it."""
    from mlflow.exceptions import MlflowException

    try:
        return Registration.from_json(client.get_run(version.run_id or "").data.tags[RESULT])
    except (KeyError, NotPlain):
        return None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def made_alone(check: Callable[[], None], make: Callable[[], T], take_back: Callable[[T], None]) -> T:
    """What `make` adds to MLflow, which would add a second one for whoever asks as well.

    check: of the lease, raises LeaseLost. A process that was stopped between that look and its request may wake when
    another one has taken over; it takes back what it has added then, before it raises.
    """
    check()
    made = make()
    try:
        check()
    except LeaseLost:
        take_back(made)
        raise
    return made


def model_version(
    client: "MlflowClient", check: Callable[[], None], source: str, run_id: str, model_id: str, record: PhaseRecord
) -> int:
    """The one version of the line's registered model that stands for this run; `check` as `made_alone` has it.

    Others of the same key, whose run or logged model was deleted for good or which were made twice, are deleted, and
    their aliases point at this one.
    """
    name, tags = record.model_name, model_tags(record)
    ensured(
        lambda: next(iter(client.search_registered_models(f"name = '{name}'")), None),
        lambda: client.create_registered_model(
            name, description=f"Checkpoints of recipe '{record.recipe_name}' by phase."
        ),
    )

    def make() -> "ModelVersion":
        return client.create_model_version(
            name,
            source,
            run_id=run_id,
            model_id=model_id,
            tags=tags,
            await_creation_for=0,  # nothing is copied, so nothing has to be waited for
        )

    def take_back(made: "ModelVersion") -> None:
        if len(_versions_of_key(client, record, run_id)) > 1:
            client.delete_model_version(name, str(made.version))

    def stands(one: "ModelVersion") -> bool:
        by_model = str(one.source).startswith("models:/") and source.startswith("models:/")
        return one.run_id == run_id and (not by_model or one.source == source)

    found = [one for one in _versions_of_key(client, record, run_id) if stands(one)]
    version = found[0] if found else made_alone(check, make, take_back)
    for tag, value in tags.items():
        if version.tags.get(tag) != value:
            client.set_model_version_tag(name, str(version.version), tag, value)
    for other in _versions_of_key(client, record, run_id):
        if _number(other) != _number(version):
            _replace(client, name, _number(other), _number(version))
    return _number(version)


def _replace(client: "MlflowClient", name: str, old: int, new: int) -> None:
    for alias, held in aliases(client, name).items():
        if held == old:
            set_alias(client, name, alias, new)
    _log.warning(
        "version %d of %s stands for what version %d stands for, and its run is another one: deleted", old, name, new
    )
    client.delete_model_version(name, str(old))


def move_aliases(client: "MlflowClient", version: int, record: PhaseRecord) -> tuple[str, ...]:
    """Point `candidate` at the head of what this version is of, and the phase's alias at it; one of the phase that
    somebody has moved by hand stays. `champion` is none of these: it is moved by a promotion."""
    name, phase, found = record.model_name, record.phase.name, versions_of(client, record.model_name)
    head = _head(found, version, aliases(client, name).get(CANDIDATE))
    set_alias(client, name, CANDIDATE, head)
    if record.decided_by:
        return (CANDIDATE,)
    held, said = aliases(client, name).get(phase), moved_by_hand(client, name).get(phase, "")
    if said and held is not None:
        _log.warning("%s; it stays there, delete it to have it set again", said)
    else:
        set_alias(client, name, phase, version)
    return (CANDIDATE, phase)


def _head(versions: Iterable["ModelVersion"], version: int, held: int | None) -> int:
    """Where `candidate` belongs when a version is registered, maybe again: at it, or at what was trained from it: of
    that, where it is already, else the newest. So a lifecycle that is run again leaves it at its own last phase."""
    by_number = {_number(one): one for one in versions}
    line = [by_number[version]]
    for one in line:
        key = one.tags.get(KEY)
        line += [other for other in by_number.values() if key and other.tags.get(PARENT) == key and other not in line]
    return held if held in {_number(one) for one in line} and held is not None else _number(max(line, key=_age))


def is_complete(client: "MlflowClient", registration: Registration) -> bool:
    """Whether MLflow still has the one version of a registration, its logged model and its aliases. One of the phase
    may be at another version where somebody moved it by hand."""
    name, phase = registration.model_name, registration.phase
    versions = versions_of(client, name)
    ours = [
        _number(one) for one in versions if one.run_id == registration.run_id or one.tags.get(KEY) == registration.key
    ]
    if ours != [registration.version]:
        return False
    held = aliases(client, name)
    at_head = held.get(CANDIDATE) == _head(versions, registration.version, held.get(CANDIDATE))
    own = phase not in registration.aliases or held.get(phase) == registration.version
    own = own or (phase in held and phase in moved_by_hand(client, name))
    return at_head and own and _has_logged_model(client, registration)


def _has_logged_model(client: "MlflowClient", registration: Registration) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_logged_model(registration.model_id).source_run_id == registration.run_id
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def versions_of(client: "MlflowClient", name: str) -> list["ModelVersion"]:
    """All of a registered model; none where there is no such model."""
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _versions_of_key(client: "MlflowClient", record: PhaseRecord, run_id: str) -> list["ModelVersion"]:
    """Oldest first. Versions that were made before they carried the key are known by their run."""
    found = [
        one for one in versions_of(client, record.model_name) if one.run_id == run_id or one.tags.get(KEY) == record.key
    ]
    return sorted(found, key=_number)


def _number(version: "ModelVersion") -> int:
    return int(version.version)


def _age(version: "ModelVersion") -> tuple[str, int]:
    """Sorts by the end of the training; a version without that tag was registered soon after it."""
    made = datetime.fromtimestamp((version.creation_timestamp or 0) / 1000, UTC).isoformat(timespec="milliseconds")
    return version.tags.get(TRAINED, made), _number(version)
