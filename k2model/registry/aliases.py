"""Aliases of a registered model, set so that one which somebody moved by hand is noticed.

What was set is kept in a tag of the registered model, `k2.alias.<alias>`: the version, or `3>7` while it is moved from
one to the other, so that whoever is killed in the middle is not taken for a person.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from k2model.registry.phase_record import allowed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

PREFIX = "k2.alias."
NOWHERE = "none"

_log = logging.getLogger(__name__)


def aliases(client: "MlflowClient", name: str) -> dict[str, int]:
    """Version by alias; empty where there is no such model."""
    return _held(_model(client, name))


def moved_by_hand(client: "MlflowClient", name: str) -> dict[str, str]:
    """By alias, a sentence on each that is not where it was set here."""
    return _moved(name, _model(client, name))


def set_alias(client: "MlflowClient", name: str, alias: str, version: int | None) -> str:
    """Points an alias at a version, or takes it away. Gives a sentence where somebody else had moved it, else ""."""
    model = _model(client, name)
    held, said = _held(model).get(alias), _moved(name, model).get(alias, "")
    tag = _tag(alias)
    if version is None and (model is None or (held is None and tag not in model.tags)):
        return ""  # it never was anywhere
    if held != version:
        client.set_registered_model_tag(name, tag, f"{_told(held)}>{_told(version)}")
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, str(version))
    if model is None or held != version or model.tags.get(tag) != _told(version):
        client.set_registered_model_tag(name, tag, _told(version))
    if said:
        said += f"; it is at {_version(version)} again" if held != version else f", where it belongs ({_version(held)})"
        _log.warning("%s", said)
    return said


def _model(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    return next(iter(client.search_registered_models(f"name = '{name}'")), None)


def _held(model: "RegisteredModel | None") -> dict[str, int]:
    return {alias: int(version) for alias, version in model.aliases.items()} if model is not None else {}


def _moved(name: str, model: "RegisteredModel | None") -> dict[str, str]:
    held: Mapping[str, int] = _held(model)
    tags = dict(model.tags) if model is not None else {}
    said = {}
    for tag, value in tags.items():
        if not tag.startswith(PREFIX):
            continue
        alias = next((one for one in held if _tag(one) == tag), tag.removeprefix(PREFIX))
        at = _told(held.get(alias))
        if at not in (stood := value.split(">")):
            said[alias] = (
                f"alias {alias} of {name} was moved by hand from {_version(stood[-1])} to {_version(at)} in MLflow"
            )
    return said


def _tag(alias: str) -> str:
    return allowed(f"{PREFIX}{alias}")


def _told(version: int | None) -> str:
    return NOWHERE if version is None else str(version)


def _version(version: int | str | None) -> str:
    return "no version" if version in (None, NOWHERE) else f"version {version}"
