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

from k2model.continual.continuation import planned_tokens
from k2model.continual.state import Batch, Ended, Outcome, State, moment
from k2model.planning.estimate import token_prices
from k2model.recipe import Recipe
from k2model.recipe.continual import BatchKind
from k2model.recipe.continual_problems import steps_again
from k2model.units import readable_count


@dataclass(frozen=True)
class Guarded:
    """go: the kind of turn that trains on `batches`, None where none does. reason: a sentence or two, either way."""

    go: BatchKind | None
    batches: tuple[str, ...]
    reason: str


def guard(recipe: Recipe, state: State, kickoff: str | datetime) -> Guarded:
    """Whether the turn of a kickoff trains, and on what. Raises K2Error for a kickoff that is no time, and where there
    is a budget of money and nothing can be said of what a phase costs."""
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
        if problem is None:
            wanted = planned_tokens(recipe, kind, sum(one.tokens for one in batches if one.kind is kind))
            problem = over_budget(recipe, state, kind, wanted, at, f"{_named(batches)}: a turn on it")
        if problem is None:
            before = f" (not on all that wait: {'; '.join(problems)})" if problems else ""
            reason = f"{_named(batches)}: {_count(batches)} tokens that are valid and new{before}"
            return Guarded(kind, tuple(one.name for one in batches), reason + note)
        if problem not in problems:
            problems.append(problem)
    return Guarded(None, (), "; ".join(problems) + note)


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


def over_budget(recipe: Recipe, state: State, kind: BatchKind, wanted: int, at: datetime, what: str) -> str | None:
    """What of the budget stands against training on `wanted` tokens; turns and anneals have spent of it. what: begins
    the sentence."""
    config, days = recipe.continual.guard, f"{recipe.continual.guard.budget_days:g} days"
    since = at - timedelta(days=config.budget_days)
    trained = [(_kind(state, turn), turn) for turn in state.turns if turn.trained_tokens]
    trained += [(one.began.kind, one.ended) for one in state.anneals.values()]
    trained = [(of, one) for of, one in trained if moment(one.kickoff) > since]
    spent = sum(one.trained_tokens for _, one in trained)
    if config.budget_tokens and spent + wanted > config.budget_tokens:
        return (
            f"{what} takes {readable_count(wanted)} tokens, and of the {readable_count(config.budget_tokens)} of "
            f"{days} {readable_count(spent)} are spent "
            "(continual.guard.budget_tokens)"
        )
    if not config.budget_money:
        return None
    cost = _cost(recipe, kind, wanted)
    paid = sum(_cost(recipe, of, one.trained_tokens) for of, one in trained)
    if paid + cost > config.budget_money:
        return (
            f"{what} costs {cost:,.2f}, and of the {config.budget_money:,.2f} of {days} {paid:,.2f} are spent "
            "(continual.guard.budget_money)"
        )
    return None


def _kind(state: State, turn: Ended) -> BatchKind:
    """Of a turn that has ended: one with text went on from the base."""
    kinds = {state.batches[name].kind for name in turn.batches if name in state.batches}
    return BatchKind.BASE if BatchKind.BASE in kinds else BatchKind.TUNED


def _cost(recipe: Recipe, kind: BatchKind, tokens: int) -> float:
    """Of a turn that trains on so many tokens, those of fine-tuning again among them, by the plan's price of a
    GPU-hour; accelerators that only evaluate are not counted."""
    config, prices = recipe.continual, token_prices(recipe)
    if kind is BatchKind.TUNED:
        return tokens * prices[config.tuned]
    tuned = recipe.phase(config.tuned)
    again = min(tokens, steps_again(tuned, config) * tuned.tokens_per_step)
    return again * prices[config.tuned] + (tokens - again) * prices[config.base]


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
