"""A synthesis job as a typed table: a row of a recipe's sources, or a TOML file of its own (`k2model.synthesis`).

Fields marked `hardware` say how fast and at which address a teacher is asked; they never bear identity. This module
checks single fields; what `families` may name is known by the module of each kind (`run.known_families` lists them).
"""

from dataclasses import dataclass
from enum import Enum

from k2model.errors import SynthesisError
from k2model.recipe.fields import hardware, place


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
    longer_tokens: int = 0  # of a second try, where the first was cut off at max_tokens; 0 = none
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
    queries: str = place()  # JSONL or Parquet with a column `query`; its digest is `queries_sha256`
    queries_sha256: str = ""  # when set, the file must have it
    seed: int = 0
    efforts: EffortMix = EffortMix()
    form: Form = Form.REASONING  # of thinking and behaviour documents; the other kinds are always chat
    persona: str = "K2"  # who the model says it is
    maker: str = "the K2 lifecycle pipeline"  # and who it says made it
    licence: str = ""  # of what the teacher writes; "" = the question's own
    system_share: float = 0.1  # of ordinary conversations that open with the system prompt (K2)
    identity_system_share: float = 0.5  # the same of identity and safety conversations (K2)
    single: bool = False  # chat of one question, each once, at one effort that is drawn
    max_feedback: int = 2  # a teacher's hints in a tool dialogue before it is given up
    max_characters: int = 20_000  # of one document
    part_size: int = 5_000  # cases a part
    teacher: TeacherKind = TeacherKind.PROCEDURAL
    error_rate: float = 0.0  # of the procedural teacher: share of replies that get an error
    endpoint: EndpointConfig = EndpointConfig()

    def __post_init__(self) -> None:
        for name, kind in (("kind", Kind), ("form", Form), ("teacher", TeacherKind)):
            if (value := getattr(self, name)) not in [*kind]:
                known = ", ".join(one.value for one in kind)
                raise SynthesisError(f"synthesis job '{self.name}': {name} = {value!r} must be one of {known}")
            object.__setattr__(self, name, kind(value))  # a word means the same as the member, and is of one identity
        _check(self)

    @property
    def system_prompt(self) -> str:
        return f"You are {self.persona}, a language model trained by {self.maker}."

    @property
    def source(self) -> str:
        return f"synth/{self.name}"


def job_problem(job: SynthesisConfig) -> str | None:
    """What of a job's fields does not go together; None when all do. A job that is changed field by field need not make
    sense in between."""
    endpoint = job.endpoint
    if job.teacher == TeacherKind.ENDPOINT and not (endpoint.base_url and endpoint.model):
        return f"synthesis job '{job.name}': endpoint.base_url and endpoint.model must be set for teacher = 'endpoint'"
    if job.queries and job.kind != Kind.BEHAVIOUR:
        return f"synthesis job '{job.name}': queries is for kind = 'behaviour'"
    if endpoint.longer_tokens and endpoint.longer_tokens <= endpoint.max_tokens:
        return (
            f"synthesis job '{job.name}': endpoint.longer_tokens = {endpoint.longer_tokens} must be more than "
            f"endpoint.max_tokens = {endpoint.max_tokens}, or 0 for no second try"
        )
    return None


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
        "persona and maker must not be empty": not (job.persona.strip() and job.maker.strip()),
        "single is for kind = 'chat'": job.single and job.kind != Kind.CHAT,
        "endpoint.max_tokens must be at least 1": job.endpoint.max_tokens < 1,
    }
    for message, wrong in problems.items():
        if wrong:
            raise SynthesisError(f"synthesis job '{job.name}': {message}")
