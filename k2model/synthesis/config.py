"""How a synthesis job is read from a TOML file, and what the kinds of job ask of its names."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from k2model.errors import SynthesisError, nearest
from k2model.recipe.overrides import OverrideError, apply_overrides, convert
from k2model.recipe.synthesis import EffortMix, EndpointConfig, Form, Kind, SynthesisConfig, TeacherKind, job_problem

__all__ = ["EffortMix", "EndpointConfig", "Form", "Kind", "SynthesisConfig", "TeacherKind", "load_job", "table"]


def load_job(path: Path, overrides: Mapping[str, Any] | None = None) -> SynthesisConfig:
    """The job written in a TOML file; `overrides` are dotted fields.

    Raises `SynthesisError` or `OverrideError` with the field.
    """
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SynthesisError(f"there is no job file {path}; see docs/synthesis.md for one to start from") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SynthesisError(f"job file {path} is not TOML: {error}") from error
    job: SynthesisConfig = apply_overrides(_build(SynthesisConfig, table, str(path.name)), overrides or {})
    if problem := job_problem(job):
        raise SynthesisError(problem)
    return job


def unknown(what: str, name: str, known: Collection[str]) -> SynthesisError:
    """The error of a mistyped name, with the nearest known one."""
    return SynthesisError(f"{what} '{name}' is not known; {nearest(name, known)}")


def named_families(config: SynthesisConfig, what: str, known: Collection[str]) -> tuple[str, ...]:
    """The families a job names, or all `known`. Raises `SynthesisError` for another name, as of no known `what`."""
    for name in config.families:
        if name not in known:
            raise unknown(what, name, known)
    return config.families or tuple(known)


@cache
def table(name: str) -> dict[str, Any]:
    """A TOML file of this package, e.g. `topics.toml`; read once, not to be changed."""
    return tomllib.loads(files("k2model.synthesis").joinpath(name).read_text())


def _build(cls: Any, table: Mapping[str, Any], where: str) -> Any:
    types = get_type_hints(cls)
    values = {}
    for name, value in table.items():
        if name not in types:
            raise unknown(f"{where}: field", name, [f.name for f in fields(cls)])
        nested = is_dataclass(types[name]) and isinstance(value, dict)
        try:
            values[name] = (
                _build(types[name], value, f"{where}: {name}") if nested else convert(value, types[name], name)
            )
        except OverrideError as error:
            raise SynthesisError(f"{where}: {str(error).removeprefix('override ')}") from error
    missing = [name for name in ("name", "kind", "count") if cls is SynthesisConfig and name not in values]
    if missing:
        raise SynthesisError(f"{where}: a job needs the field {missing[0]}; set it, e.g. {missing[0]} = ...")
    return cls(**values)
