"""A synthesis job as a typed table, and how it is read from a TOML file.

Fields marked `hardware` say how fast and at which address a teacher is asked; they never bear identity. This module
checks single fields; what `families` may name is known by the module of each kind (`run.known_families` lists them).
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from k2model.errors import SynthesisError, nearest
from k2model.recipe.fields import hardware
from k2model.recipe.overrides import OverrideError, convert


class Kind(str, Enum):
    THINKING = "thinking"
    BEHAVIOUR = "behaviour"
    TOOLS = "tools"
    CHAT = "chat"
    CONSTRAINTS = "constraints"


class Form(str, Enum):
    REASONING = "reasoning"  # PROMPT <think> TRACE </think> ANSWER, for mid-training
    CHAT = "chat"  # ChatML with the tag of the effort, for fine-tuning


class TeacherKind(str, Enum):
    PROCEDURAL = "procedural"
    ENDPOINT = "endpoint"


@dataclass(frozen=True)
class EffortMix:
    """Relative weights of the reasoning efforts. K2's positive SFT budget: high .40, medium .38, low .22."""

    high: float = 0.40
    medium: float = 0.38
    low: float = 0.22


@dataclass(frozen=True)
class EndpointConfig:
    """An OpenAI-compatible `/chat/completions` endpoint. 0 = no limit, for rates and budgets."""

    base_url: str = hardware("")  # up to and with `/v1`; https, or a loopback address
    model: str = ""
    api_key_env: str = hardware("")  # name of the environment variable that holds the key; "" = none is sent
    temperature: float = 1.0
    top_p: float = 0.95
    max_tokens: int = 4096  # of one completion
    send_effort: bool = True  # `reasoning_effort` in the request
    concurrency: int = hardware(16)
    requests_per_minute: float = hardware(0.0)
    tokens_per_minute: float = hardware(0.0)
    max_attempts: int = hardware(6)
    timeout_seconds: float = hardware(300.0)
    backoff_seconds: float = hardware(1.0)  # first wait; doubles up to `backoff_limit_seconds`, with full jitter
    backoff_limit_seconds: float = hardware(60.0)
    max_failures: int = hardware(8)  # requests in a row given up before the run stops asking
    budget_tokens: int = hardware(0)  # over all runs on one record
    budget_cost: float = hardware(0.0)  # in the currency of the prices
    price_prompt: float = hardware(0.0)  # per million tokens
    price_completion: float = hardware(0.0)
    allow_plain_http: bool = hardware(False)  # http to a host that is not this one


@dataclass(frozen=True)
class SynthesisConfig:
    """`name` becomes the corpus source `synth/<name>`; `count` is the number of cases, not of documents.

    Raises `SynthesisError` for a field out of its range.
    """

    name: str
    kind: Kind
    count: int
    families: tuple[str, ...] = ()  # of questions, tools, sets or constraints, as the kind has them; () = all
    templates: tuple[str, ...] = ()  # of reasoning behaviours; () = all that suit
    queries: str = hardware("")  # JSONL or Parquet with a column `query`; its digest is `queries_sha256`
    queries_sha256: str = ""  # when set, the file must have it
    seed: int = 0
    efforts: EffortMix = field(default_factory=EffortMix)
    form: Form = Form.REASONING  # of thinking and behaviour documents; the other kinds are always chat
    persona: str = "K2"  # who the model says it is
    maker: str = "the K2 lifecycle pipeline"  # and who it says made it
    licence: str = ""  # of what the teacher writes; "" = the question's own
    system_share: float = 0.1  # of ordinary conversations that open with the system prompt (K2)
    identity_system_share: float = 0.5  # the same of identity and safety conversations (K2)
    max_feedback: int = 2  # a teacher's hints in a tool dialogue before it is given up
    max_characters: int = 20_000  # of one document
    part_size: int = 5_000  # cases a part
    teacher: TeacherKind = TeacherKind.PROCEDURAL
    error_rate: float = 0.0  # of the procedural teacher: share of replies that get an error
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def system_prompt(self) -> str:
        return f"You are {self.persona}, a language model trained by {self.maker}."

    @property
    def source(self) -> str:
        return f"synth/{self.name}"


def load_job(path: Path, overrides: Mapping[str, Any] | None = None) -> SynthesisConfig:
    """The job written in a TOML file; `overrides` are top-level fields. Raises `SynthesisError` with the field."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SynthesisError(f"there is no job file {path}; see docs/synthesis.md for one to start from") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SynthesisError(f"job file {path} is not TOML: {error}") from error
    job: SynthesisConfig = _build(SynthesisConfig, table | dict(overrides or {}), str(path.name))
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


def _check(job: SynthesisConfig) -> None:
    mix = job.efforts
    problems = {
        f"name = '{job.name}' must be lower-case letters, digits and '-'": not job.name
        or not all(c.isdigit() or "a" <= c <= "z" or c == "-" for c in job.name),
        f"count = {job.count} must be at least 1": job.count < 1,
        f"part_size = {job.part_size} must be at least 1": job.part_size < 1,
        f"error_rate = {job.error_rate} must be between 0 and 1": not 0 <= job.error_rate <= 1,
        "system_share and identity_system_share must be between 0 and 1": not (
            0 <= job.system_share <= 1 and 0 <= job.identity_system_share <= 1
        ),
        "efforts must be at least 0 and not all 0": min(mix.high, mix.medium, mix.low) < 0
        or mix.high + mix.medium + mix.low <= 0,
        "endpoint.base_url and endpoint.model must be set for teacher = 'endpoint'": job.teacher == TeacherKind.ENDPOINT
        and not (job.endpoint.base_url and job.endpoint.model),
        "persona and maker must not be empty": not (job.persona.strip() and job.maker.strip()),
        "queries is for kind = 'behaviour'": bool(job.queries) and job.kind != Kind.BEHAVIOUR,
    }
    for message, wrong in problems.items():
        if wrong:
            raise SynthesisError(f"synthesis job '{job.name}': {message}")
