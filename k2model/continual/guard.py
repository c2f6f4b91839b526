"""Whether a turn trains: a function of the ledger, the recipe and a kickoff, asked before anything costs anything.

The first of these that holds ends the turn, with a sentence that says it in figures: no champion; a turn that has begun
and not ended; one that waits for a person; signatures that are lost; nothing, or too little, that waits; nothing that
was not tried before; no budget of tokens or of money.

New text goes before new dialogues: fine-tuning is run again behind it and takes the dialogues that wait, so such a turn
is of all batches. Where it cannot be run, dialogues alone are asked about: text that was refused once does not hold
them up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from k2model.continual.state import Batch, Outcome, State, moment
from k2model.planning.estimate import estimate, gpu_of
from k2model.recipe import Recipe
from k2model.recipe.continual import BatchKind
from k2model.units import readable_count


@dataclass(frozen=True)
class Guarded:
    """go: the kind of turn that trains on `batches`, None where none does. reason: a sentence or two, either way."""

    go: BatchKind | None
    batches: tuple[str, ...]
    reason: str


def guard(recipe: Recipe, state: State, kickoff: str | datetime, price_per_token: float = 0.0) -> Guarded:
    """Whether the turn of a kickoff trains, and on what.

    price_per_token: of a token that is trained on, in the unit of `continual.guard.budget_money`; 0 = not known.

    Raises K2Error for a kickoff that is no time.
    """
    at = moment(kickoff)
    note = _unsigned(recipe, state) + _clock(state, at)
    if problem := _idle(recipe, state):
        return Guarded(None, (), problem + note)
    waiting = state.waiting()
    both: tuple[tuple[BatchKind, Sequence[Batch]], ...] = (
        (BatchKind.BASE, waiting if state.waiting(BatchKind.BASE) else ()),
        (BatchKind.TUNED, state.waiting(BatchKind.TUNED)),
    )
    problems: list[str] = []
    for kind, batches in both:
        if not batches:
            continue
        problem = _too_little(recipe, batches) or _known(state, batches)
        problem = problem or _over_budget(recipe, state, kind, batches, at, price_per_token)
        if problem is None:
            before = f" (not on all that wait: {'; '.join(problems)})" if problems else ""
            reason = f"{_named(batches)}: {_count(batches)} tokens that are valid and new{before}"
            return Guarded(kind, tuple(one.name for one in batches), reason + note)
        if problem not in problems:
            problems.append(problem)
    return Guarded(None, (), "; ".join(problems) + note)


def planned_tokens(recipe: Recipe, kind: BatchKind, batches: Sequence[Batch]) -> float:
    """Tokens that a turn on `batches` trains on: `epochs` over the new ones with their replay, capped by the guard;
    for a base also the fine-tuning that is run again."""
    config = recipe.continual
    room = 1 - config.replay
    new = sum(one.tokens for one in batches if kind is BatchKind.TUNED or one.kind is BatchKind.BASE)
    tokens = config.epochs * new / room if room > 0 else float("inf")
    if kind is BatchKind.BASE:
        tokens += config.tune_again * recipe.phase(config.tuned).tokens
    return min(tokens, config.guard.max_tokens or tokens)


def token_price(recipe: Recipe) -> float:
    """What a token that a turn trains on costs, by the estimate that `k2 plan` shows of the line's own phases, the
    dearer of them; 0 where the recipe does not say what GPU it runs on, or what that costs."""
    gpu, config, price = gpu_of(recipe), recipe.continual, recipe.cluster.price_per_gpu_hour
    if gpu is None or not price:
        return 0.0
    own = [one for one in estimate(recipe, gpu) if one.phase in (config.base, config.tuned)]
    return max(price * one.gpu_hours / recipe.phase(one.phase).tokens for one in own)


def _idle(recipe: Recipe, state: State) -> str | None:
    """What stands against any turn, whatever waits."""
    if state.model is None:
        return "there is no champion to go on from"
    if state.open is not None:
        return f"turn {state.open.turn} has begun and not ended; it is gone on with first"
    if state.held:
        turns = " and ".join(f"turn {turn}" for turn in state.held)
        waits = "waits" if len(state.held) == 1 else "wait"
        return f"{turns} {waits} for a person: `k2 promote {state.held[0]}`, with --decline for no"
    if (lost := _lost(state)) and not recipe.continual.guard.unsigned:
        return (
            f"the signatures of {', '.join(lost)} are lost, so that copies of what the champion was trained on would "
            "not be found in new data; make the lifecycle's corpus_clean again, or set continual.guard.unsigned"
        )
    if not state.waiting():
        return "no batch waits"
    return None


def _too_little(recipe: Recipe, batches: Sequence[Batch]) -> str | None:
    least, tokens = recipe.continual.guard.min_tokens, sum(one.tokens for one in batches)
    if tokens >= max(least, 1):
        return None
    return (
        f"{_named(batches)}: {_count(batches)} tokens that are valid and new, and {readable_count(max(least, 1))} are "
        "wanted (continual.guard.min_tokens)"
    )


def _known(state: State, batches: Sequence[Batch]) -> str | None:
    """A turn on just these batches would give what it gave: it is tried again when one comes or goes, the champion is
    another, or a person brings one back."""
    if any(not one.tries for one in batches):
        return None
    wanted = {one.name for one in batches}
    for turn in reversed(state.turns):
        same = {*turn.batches} == wanted and turn.champion == state.champion
        if same and turn.outcome is Outcome.REFUSED and turn.verdict is not None:
            return f"{_named(batches)}: turn {turn.turn} was on just this against the same champion, and was refused"
    return None


def _over_budget(
    recipe: Recipe, state: State, kind: BatchKind, batches: Sequence[Batch], at: datetime, price: float
) -> str | None:
    config = recipe.continual.guard
    since = at - timedelta(days=config.budget_days)
    spent = sum(turn.trained_tokens for turn in state.turns if moment(turn.kickoff) > since)
    wanted = planned_tokens(recipe, kind, batches)
    days = f"{config.budget_days:g} days"
    if config.budget_tokens and spent + wanted > config.budget_tokens:
        return (
            f"{_named(batches)}: a turn on it takes {readable_count(wanted)} tokens, and of the "
            f"{readable_count(config.budget_tokens)} of {days} {readable_count(spent)} are spent "
            "(continual.guard.budget_tokens)"
        )
    if not config.budget_money:
        return None
    if price <= 0:
        return (
            f"there is a budget of {config.budget_money:,.2f} for {days} (continual.guard.budget_money), and what a "
            "token costs is not known; set cluster.price_per_gpu_hour and cluster.gpu"
        )
    if price * (spent + wanted) > config.budget_money:
        return (
            f"{_named(batches)}: a turn on it costs {price * wanted:,.2f}, and of the {config.budget_money:,.2f} of "
            f"{days} {price * spent:,.2f} are spent (continual.guard.budget_money)"
        )
    return None


def _lost(state: State) -> list[str]:
    """Names of the champion's corpora whose signatures are lost."""
    return [name for name in state.model.corpora if state.corpora[name].clean is None] if state.model else []


def _unsigned(recipe: Recipe, state: State) -> str:
    if not recipe.continual.guard.unsigned or not (lost := _lost(state)):
        return ""
    return f". The signatures of {', '.join(lost)} are lost: copies of it in new data are not found"


def _clock(state: State, at: datetime) -> str:
    """A note on a kickoff that lies before one that was handled."""
    later = [turn for turn in state.turns if moment(turn.kickoff) > at]
    if not later:
        return ""
    return (
        f". The kickoff {at.isoformat()} lies before that of turn {later[-1].turn} ({later[-1].kickoff}): a clock was "
        "set back, or schedules were caught up with; the order of turns is that of their numbers"
    )


def _named(batches: Sequence[Batch]) -> str:
    names = [one.name for one in batches]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"batch {shown}" if len(names) == 1 else f"{len(names)} batches ({shown})"


def _count(batches: Sequence[Batch]) -> str:
    return readable_count(sum(one.tokens for one in batches))
