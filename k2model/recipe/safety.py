"""What a recipe says of its safety tests: which are run, after which phases, how they are asked, and who judges.

The tests are `k2model.safety`'s, the judges `k2model.judges`'s. Nothing is measured where no kind of phase is named.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from k2model.errors import nearest
from k2model.recipe.evaluation import Mode
from k2model.recipe.fields import hardware, place

WORDINGS = ("plain", "rubric", "questions")  # of a language model's instruction, see k2model/judges/wordings.toml
RULES = "rules"
SAFETY = "safety"  # begins the scores `safety/...`
#: What is told of all tests together; `k2model.safety.rows` measures them.
HEADLINES = ("safe", "right", "correct_refusal", "over_refusal", "divergence", "without_trace")
_DETAILED = re.compile(rf"{SAFETY}/(?:[a-z_/]+/(?:safe|right|divergence)|resistance/[a-z_]+)")


@dataclass(frozen=True)
class JudgeConfig:
    """Who says what an answer is: documented patterns, or a language model behind an OpenAI-compatible address."""

    model: str = RULES  # `rules`, or the name of a model that `url` serves
    url: str = hardware("")  # up to and with `/v1`
    wording: str = "plain"  # of its instruction
    temperature: float = 0.1  # K2's (libra-eval, batch_harmful_check)
    max_tokens: int = 512  # of a verdict
    asked: int = 2  # times at most for a verdict that can be read; after that the answer is unscored
    api_key_env: str = hardware("")  # name of the environment variable that holds the key; "" = none is sent
    concurrency: int = hardware(8)
    attempts: int = hardware(4)  # at one call, where the server fails
    timeout_seconds: float = hardware(120.0)
    allow_plain_http: bool = hardware(False)  # http to a host that is not this one

    @property
    def by_rules(self) -> bool:
        return self.model == RULES


@dataclass(frozen=True)
class SafetyConfig:
    """Which phases are safety-tested, and how; none where no kind of phase is named.

    A test is asked with its first `prompts` prompts, the same ones in every phase, in chat form at each of `efforts`.
    """

    kinds: tuple[str, ...] = ()  # of phases: sft, midtrain, pretrain
    parents: bool = True  # test the phases that these start from too, to show what changed
    tests: tuple[str, ...] = ()  # names of tests or domains; () = all of the registry
    prompts: int = 200  # of a test; K2 has 200
    efforts: tuple[str, ...] = ("high",)
    max_new_tokens: int = 1024  # trace and answer together
    judge: JudgeConfig = JudgeConfig()
    data: str = place()  # folder of public suites and human labels, as wheels or unpacked (docs/safety.md); "" = none

    def __bool__(self) -> bool:
        return bool(self.kinds)


#: Scores over all tests together; a tested phase has them.
HEADLINE_SCORES = tuple(f"{SAFETY}/{name}" for name in HEADLINES)


def is_safety_score(score: str) -> bool:
    """Whether a tested phase may have a score of that name: one of all tests, or by its form one of a single test,
    domain or wrapper. Which tests there are is known when they are planned."""
    return score in HEADLINE_SCORES or bool(_DETAILED.fullmatch(score))


def judge_problem(judge: JudgeConfig) -> str | None:
    """The first thing wrong with a judge, field and remedy named; None when nothing is."""
    if judge.wording not in WORDINGS:
        return f"wording='{judge.wording}' is not known; {nearest(judge.wording, WORDINGS)}"
    if not judge.by_rules and not judge.url:
        return f"model='{judge.model}' needs an address; set url, e.g. http://127.0.0.1:8000/v1, or model='{RULES}'"
    if judge.by_rules and judge.url:
        return f"url has no effect with model='{RULES}'; name the model that it serves, or drop it"
    for name in ("asked", "attempts", "concurrency", "max_tokens"):
        if getattr(judge, name) < 1:
            return f"{name}={getattr(judge, name)} must be at least 1"
    return None if judge.temperature >= 0 else f"temperature={judge.temperature} must not be negative"


def safety_problem(config: SafetyConfig, kinds: Sequence[str]) -> str | None:
    """The first thing wrong with the safety tests of a recipe, whose phases are of these `kinds`; None when nothing is.
    Names of tests are checked where the tests are known, when their step is planned."""
    for kind in config.kinds:
        if kind not in kinds:
            return f"safety.kinds names '{kind}', which is no kind of phase; {nearest(kind, kinds)}"
    chats = [mode.value for mode in (Mode.LOW, Mode.MEDIUM, Mode.HIGH)]
    for effort in config.efforts:
        if effort not in chats:
            return f"safety.efforts names '{effort}'; {nearest(effort, chats)}"
    if not config.efforts:
        return "safety.efforts is empty; name at least one of low, medium, high"
    for name in ("prompts", "max_new_tokens"):
        if getattr(config, name) < 1:
            return f"safety.{name}={getattr(config, name)} must be at least 1"
    problem = judge_problem(config.judge)
    return f"safety.judge.{problem}" if problem else None
