"""What is wrong with a mixture, said with the numbers that put it right.

Each function returns the first problem found, or None; whoever asks raises it as its own error: the
recipe when it is resolved, the pack step with the real documents, `k2 mixture` beside the tree. What is
not known (the size of a source that is not at hand) is taken to be enough.
"""

import itertools
import math

from k2model.recipe.mixtures import KINDS, MixturePlan, Portion, bucket_range, overlap
from k2model.recipe.schema import PhaseConfig, Weigh

SLACK = 0.02  # how far the room of a phase may exceed a list of `target_tokens`, whose weights then stretch
ROUNDING = 1e-9


def entries_problem(phase: PhaseConfig) -> str | None:
    """What is wrong with the entries of a phase by themselves, or None."""
    where = f"phases.{phase.name}.mixture"
    for entry in phase.mixture:
        amounts = {kind: getattr(entry, kind) for kind in KINDS}
        for name, value in amounts.items():
            if not (value >= 0 and math.isfinite(value)):
                return f"{where}.{entry.name}.{name}={value:g} must be a number and must not be negative"
        given = [f"{name}={value:g}" for name, value in amounts.items() if value]
        if len(given) > 1:
            return f"{where}.{entry.name}: {' and '.join(given)}; give one of them and set the others to 0"
        try:
            bucket_range(entry.bucket)
        except ValueError as error:
            return f"{where}.{entry.name}.bucket: {error}"
    for one, other in itertools.combinations(phase.mixture, 2):
        if one.source == other.source and overlap(one.bucket, other.bucket):
            if one.bucket == other.bucket:
                return f"{where}.{one.name}: named twice; give it one amount"
            return f"{where}: {one.name} and {other.name} share documents; give buckets that do not overlap"
    if phase.mixture and not any(getattr(entry, kind) for entry in phase.mixture for kind in KINDS):
        return f"{where}: no source has a positive weight, epochs or copies"
    return _weights_problem(phase, where)


def mixture_problem(plan: MixturePlan, max_epochs: float) -> str | None:
    """Why the list cannot be drawn, and by how much: a source repeated too often, a list too long or too short."""
    for portion in plan.portions:
        if problem := _portion_problem(portion, plan.phase, max_epochs):
            return problem
    where, room = f"phases.{plan.phase.name}.mixture", plan.room
    trained = f"the {room:,.0f} the phase trains on{_a_pass(plan.phase.mixing.passes)}"
    step = plan.phase.tokens_per_step / plan.phase.mixing.passes
    pinned = sum(p.tokens or 0.0 for p in plan.portions if p.pinned)
    if pinned >= room:
        return (
            f"{where}: copies and epochs alone hold {pinned:,.0f} tokens, {pinned - room:,.0f} more than {trained}; "
            f"raise steps to at least {math.floor(pinned / step) + 1} or take fewer of them"
        )
    total, weights = plan.weighted, any(p.entry.weight for p in plan.portions)
    if total is None or room - pinned <= (total - pinned) * (1 + (SLACK if weights else ROUNDING)):
        return None
    return (
        f"{where}: the list holds {total:,.0f} tokens, {room - total:,.0f} ({(room - total) / room:.2%}) fewer than "
        f"{trained}; raise {'mixing.target_tokens' if weights else 'epochs'} or lower steps to at most "
        f"{math.floor(total / step)}"
    )


def short_problem(phase: PhaseConfig, short: float, bound: str = "") -> str:
    """By how much the part `short` of a phase's tokens misses the rule on short-context data."""
    mixing = phase.mixing
    return (
        f"phases.{phase.name}.mixture: {bound}{short:.2%} of the tokens come from documents of at most "
        f"{mixing.short_tokens:,} tokens, {100 * (mixing.min_short - short):.2f} points short of the "
        f"{mixing.min_short:.0%} that mixing.min_short asks for; raise the shares of sources with short documents or "
        "take less of the long ones"
    )


def _weights_problem(phase: PhaseConfig, where: str) -> str | None:
    weights = [entry.weight for entry in phase.mixture if entry.weight]
    if phase.mixing.weigh is Weigh.TARGETS and weights and abs(sum(weights) - 1) > 1e-6:
        return (
            f"{where}: the weights sum to {sum(weights):.6f}; as fractions of the target tokens (mixing.weigh=targets) "
            f"they must sum to 1, so {1 - sum(weights):+.6f} are to be given out"
        )
    return None


def _portion_problem(portion: Portion, phase: PhaseConfig, max_epochs: float) -> str | None:
    entry, stock = portion.entry, portion.available
    where = f"phases.{phase.name}.mixture.{entry.name}"
    if stock and not stock.tokens:
        what = f"holds no document of bucket {entry.bucket}" if entry.bucket else "holds no tokens"
        return f"{where}: the source {what}; raise corpus.sources.{entry.source}.documents or take the entry out"
    if stock and not stock.targets and entry.weight and phase.mixing.weigh is Weigh.TARGETS:
        return f"{where}: the source holds no target tokens, which mixing.weigh=targets shares out; use copies instead"
    if stock and portion.share is not None:
        wanted = portion.share * phase.tokens
        epochs = wanted / stock.tokens
        found = f"{portion.share:.2%} of the phase is {wanted:,.0f} tokens, {epochs:.1f} epochs of the {stock.tokens:,}"
        found += " there are"
    else:
        epochs = 0.0 if entry.weight else phase.mixing.passes * (portion.epochs or 0.0)
        found = f"{epochs:g} epochs{_over(phase.mixing.passes)}"
    if epochs <= max_epochs * (1 + ROUNDING):
        return None
    over = f"{epochs / max_epochs:.2f} times the {max_epochs:g} allowed"
    return f"{where}: {found} and {over}; {_remedy(portion, phase, max_epochs)}"


def _remedy(portion: Portion, phase: PhaseConfig, max_epochs: float) -> str:
    if portion.entry.weight and portion.available:
        most = max_epochs * portion.available.tokens / phase.tokens
        return f"lower its weight to at most {most:.2%} of the mixture, add documents or raise max_epochs"
    name, most = ("epochs", max_epochs) if portion.entry.epochs else ("copies", math.floor(max_epochs))
    return f"lower its {name} to at most {most / phase.mixing.passes:g} or raise max_epochs"


def _a_pass(passes: int) -> str:
    return f" in each of {passes} passes" if passes > 1 else ""


def _over(passes: int) -> str:
    return f" over {passes} passes" if passes > 1 else ""
