"""A judge by its config, and a config by how a person names a judge: `rules`, or `http://host/v1#model`."""

import re
from pathlib import Path
from typing import Any

from k2model.errors import EvaluationError
from k2model.judges.rules import RulesJudge
from k2model.judges.rules import identity as identity_of_rules
from k2model.judges.verdict import Judge
from k2model.recipe.safety import RULES, JudgeConfig, judge_problem
from k2model.settings import home


def open_judge(config: JudgeConfig, record: Path | None = None) -> Judge:
    """The judge of a config. `record`: where its calls are written and read again; default `record_of(config)`.

    Raises EvaluationError for a config that makes no judge, TeacherError for an address or key that cannot be used.
    """
    _check(config)
    if config.by_rules:
        return RulesJudge()
    from k2model.judges.language_model import LanguageModelJudge

    return LanguageModelJudge(config, record or record_of(config))


def identity_of(config: JudgeConfig) -> dict[str, Any]:
    """What of a judge bears on its verdicts, told without opening it. Raises EvaluationError like `open_judge`."""
    _check(config)
    if config.by_rules:
        return identity_of_rules()
    from k2model.judges.language_model import identity_of as of_language_model

    return of_language_model(config)


def _check(config: JudgeConfig) -> None:
    if problem := judge_problem(config):
        raise EvaluationError(f"judge: {problem}")


def record_of(config: JudgeConfig) -> Path:
    """`$K2_HOME/judges/<model>.jsonl`: calls are told apart by all that is sent, so one file serves all wordings."""
    return home() / "judges" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', config.model)}.jsonl"


def judge_of(named: str, wording: str = "plain", api_key_env: str = "", plain_http: bool = False) -> JudgeConfig:
    """`rules`, or `http(s)://host/v1#model`. Raises EvaluationError for another name."""
    if named == RULES:
        return JudgeConfig(wording=wording)
    url, separator, model = named.partition("#")
    if not separator or not model or not url.startswith(("http://", "https://")):
        raise EvaluationError(
            f"judge '{named}' is not known; name '{RULES}', or a model with its address: http://127.0.0.1:8000/v1#model"
        )
    return JudgeConfig(model, url, wording, api_key_env=api_key_env, allow_plain_http=plain_http)
