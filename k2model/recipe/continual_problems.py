"""What is wrong with how a recipe says its champion is continued, told before anything is trained on its account."""

import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from k2model.errors import nearest
from k2model.recipe.continual import ArrivalConfig, ContinualConfig, NotifyConfig, Rewarming
from k2model.recipe.safety import SAFETY
from k2model.recipe.schema import PhaseConfig, PhaseKind, Recipe
from k2model.recipe.source_problems import secret_problem
from k2model.recipe.tasks import LOSS, score_names

_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
#: The five fields of a cron expression: name, least and largest value, names of values from the least on.
_CRON = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_SPAN = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")


def steps_again(tuned: PhaseConfig, config: ContinualConfig) -> int:
    """Steps of fine-tuning that is run again on a continued base."""
    return max(1, round(config.tune_again * tuned.steps))


def continual_problem(recipe: Recipe) -> str | None:
    """The first thing wrong with `recipe.continual`, field and remedy named; None when nothing is."""
    config = recipe.continual
    if not config:
        return None
    return (
        _phases_problem(recipe)
        or _amounts_problem(config)
        or _arrival_problem(config.arrival)
        or _guard_problem(recipe)
        or _scores_problem(recipe)
        or _schedules_problem(config)
        or _notify_problem(config.notify)
        or secret_problem("continual.inbox", config.inbox)
    )


def _phases_problem(recipe: Recipe) -> str | None:
    config, names = recipe.continual, [phase.name for phase in recipe.phases]
    for field in ("tuned", "base"):
        name = getattr(config, field)
        if name and name not in names:
            without = "no such line" if field == "tuned" else "a line that takes dialogues alone"
            return f"continual.{field}='{name}': no such phase; {nearest(name, names)}. Or set it to \"\" for {without}"
    tuned = recipe.phase(config.tuned)
    if tuned.kind is not PhaseKind.SFT:
        of_kind = [phase.name for phase in recipe.phases if phase.kind is PhaseKind.SFT]
        return (
            f"continual.tuned='{config.tuned}' is a phase of kind {tuned.kind.value}; name one of fine-tuning (kind "
            f"sft: {', '.join(of_kind) or 'there is none'})"
        )
    if config.base and config.base != tuned.parent:
        return (
            f"continual.base='{config.base}', but phase '{config.tuned}' starts from '{tuned.parent}': when a base "
            "goes on, fine-tuning is run again on it, and what lies between would be lost. Set continual.base="
            f"'{tuned.parent}', or \"\" for a line that takes dialogues alone"
        )
    return None


def _amounts_problem(config: ContinualConfig) -> str | None:
    for name, least, most, ends in (
        ("replay", 0, 1, "[)"), ("base_replay", 0, 1, "[]"), ("warmup", 0, 1, "[)"), ("final", 0, 1, "[]"),
        ("anneal", 0, 1, "[]"), ("confidence", 0.5, 1, "()"), ("epochs", 0, math.inf, "()"),
        ("peak", 0, math.inf, "()"), ("tune_again", 0, math.inf, "()"), ("default_loss", 0, math.inf, "[)"),
    ):  # fmt: skip
        if problem := _outside(f"continual.{name}", getattr(config, name), least, most, ends):
            return problem
    if config.rewarming is Rewarming.INFINITE and not config.final:
        return "continual.final=0: an infinite schedule anneals by equal factors and never reaches 0; set it above 0"
    for name, least, most, ends in (("items", 0, math.inf, "[)"), ("allowed", 0, math.inf, "[)")):
        if problem := _outside(f"continual.canary.{name}", getattr(config.canary, name), least, most, ends):
            return problem
    return None


def _outside(field: str, value: float, least: float, most: float, ends: str = "[]") -> str | None:
    """What is wrong with a number outside of an interval; [ and ] are ends that belong to it."""
    above = value > least if ends[0] == "(" else value >= least
    below = value < most if ends[1] == ")" else value <= most
    if above and below:
        return None
    low = f"{'above' if ends[0] == '(' else 'at least'} {least:g}"
    high = "" if math.isinf(most) else f" and {'below' if ends[1] == ')' else 'at most'} {most:g}"
    return f"{field}={value:g} must be {low}{high}"


def _arrival_problem(arrival: ArrivalConfig) -> str | None:
    where = "continual.arrival"
    shares = (
        "max_rejected",
        "max_copies",
        "max_contaminated",
        "max_phrase_share",
        "max_mislabelled",
        "max_implausible",
    )
    for name in shares:
        if problem := _outside(f"{where}.{name}", getattr(arrival, name), 0, 1):
            return problem
    for name, least in (
        ("max_bytes", 1), ("min_documents", 1), ("max_drift", 0), ("phrase_words", 1), ("max_phrase_excess", 1),
        ("measured_documents", 0),
    ):  # fmt: skip
        if problem := _outside(f"{where}.{name}", getattr(arrival, name), least, math.inf, "[)"):
            return problem
    return _outside(f"{where}.implausible_quantile", arrival.implausible_quantile, 0, 0.5, "[)")


def _guard_problem(recipe: Recipe) -> str | None:
    config, guard, where = recipe.continual, recipe.continual.guard, "continual.guard"
    for name, least in (
        ("min_tokens", 1),
        ("max_tokens", 0),
        ("budget_tokens", 0),
        ("budget_money", 0),
        ("max_tries", 1),
    ):
        if problem := _outside(f"{where}.{name}", getattr(guard, name), least, math.inf, "[)"):
            return problem
    if problem := _outside(f"{where}.budget_days", guard.budget_days, 0, math.inf, "()"):
        return problem
    if guard.budget_money and not (recipe.cluster.price_per_gpu_hour and recipe.cluster.gpu):
        return (
            f"{where}.budget_money={guard.budget_money:g} needs a price; set cluster.price_per_gpu_hour and "
            f"cluster.gpu, or {where}.budget_tokens in its place"
        )
    tuned = recipe.phase(config.tuned)
    least = tuned.tokens_per_step
    if config.base:
        again = steps_again(tuned, config) * tuned.tokens_per_step
        least = max(least, again + recipe.phase(config.base).tokens_per_step)
    if guard.max_tokens and guard.max_tokens < least:
        what = "a step of the base and fine-tuning again" if config.base else "one step"
        return (
            f"{where}.max_tokens={guard.max_tokens:,} is less than {what} takes ({least:,} tokens); raise it, or "
            f"{'lower continual.tune_again, or ' if config.base else ''}set it to 0 for no bound"
        )
    if guard.budget_tokens and guard.budget_tokens < tuned.tokens_per_step:
        return (
            f"{where}.budget_tokens={guard.budget_tokens:,} is less than one turn takes (at least "
            f"{tuned.tokens_per_step:,} tokens), so that none would ever run; raise it, or set it to 0 for no bound"
        )
    return None


def _scores_problem(recipe: Recipe) -> str | None:
    """Patterns that no score of the fine-tuned phase fits do nothing, and nobody would know."""
    config = recipe.continual
    names = list(score_names(recipe, recipe.phase(config.tuned)))
    patterns = [(f"continual.allowed_loss.{row.scores}", row.scores) for row in config.allowed_loss]
    for field, pattern in (*patterns, *(("continual.targets", one) for one in config.targets)):
        told_by_data = pattern.partition("/")[0] in (LOSS, SAFETY)  # domains of batches, tests of a registry
        if not told_by_data and not any(fnmatchcase(name, pattern) for name in names):
            return (
                f"{field}: no score of phase '{config.tuned}' is called '{pattern}'; {nearest(pattern, names)}. Name a "
                "score, or several by a pattern such as arithmetic/*"
            )
    for row in config.allowed_loss:
        if problem := _outside(f"continual.allowed_loss.{row.scores}.allowed", row.allowed, 0, math.inf, "[)"):
            return problem
    seen = [row.scores for row in config.allowed_loss]
    if twice := next((one for one in seen if seen.count(one) > 1), ""):
        return f"continual.allowed_loss names '{twice}' twice, and the first counts; drop one"
    return None


def _schedules_problem(config: ContinualConfig) -> str | None:
    for name, expression in vars(config.schedules).items():
        if expression and (problem := cron_problem(expression)):
            return f"continual.schedules.{name}='{expression}' {problem}; in UTC, e.g. '0 2 * * *', or \"\" for none"
    return None


def cron_problem(expression: str) -> str | None:
    """What is wrong with a cron expression of five fields; None when nothing is. Fields are lists of values, spans and
    steps; months and days of the week may be named."""
    given = expression.split()
    if len(given) != len(_CRON):
        return f"has {len(given)} fields, expected 5: minute, hour, day of the month, month, day of the week"
    for text, (what, least, most, names) in zip(given, _CRON, strict=True):
        values = {name: least + place for place, name in enumerate(names)}
        if not all(_is_sound(one, least, most, values) for one in text.lower().split(",")):
            return f"has the {what} '{text}', expected values from {least} to {most}, *, spans (1-5), steps (*/2)"
    return None


def _is_sound(text: str, least: int, most: int, values: Mapping[str, int]) -> bool:
    """Whether one part of a field of a cron expression is a value, a span or all, perhaps with a step."""
    found = _SPAN.fullmatch(text)
    if found is None or (found[3] and not int(found[3])):
        return False
    if found[1] == "*":
        return not found[2]
    ends = [values.get(end, int(end) if end.isdecimal() else -1) for end in (found[1], found[2]) if end]
    return all(least <= end <= most for end in ends) and ends == sorted(ends)


def _notify_problem(notify: NotifyConfig) -> str | None:
    where = "continual.notify"
    for address in notify.email:
        if not _ADDRESS.fullmatch(address):
            return f"{where}.email has '{address}', which is no address; expected name@host"
    for name in ("slack_env", "webhook_env"):
        value = getattr(notify, name)
        if value and not _ENVIRONMENT.fullmatch(value):
            return (
                f"{where}.{name} must be the name of an environment variable, e.g. K2_{name.upper()[:-4]}, not what it "
                "holds: a webhook's address is a secret, and recipes are recorded"
            )
    return _outside(f"{where}.attempts", notify.attempts, 1, math.inf, "[)") or _outside(
        f"{where}.timeout_seconds", notify.timeout_seconds, 0, math.inf, "()"
    )
