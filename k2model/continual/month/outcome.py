"""What a month came to, read from the ledger and the store, and what must hold of it.

Models are compared on the same items, by the tests of a verdict (`continual.verdict.capabilities`): the champion at the
end, the same batches without replay, and all of them from scratch, each with the model of the lifecycle or with the
champion. Probabilities are corrected over all rows of a comparison (Holm).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from k2model.artifacts import ArtifactRef, Store
from k2model.continual.entries import Arrival, Canary, Rollback, TurnEnded
from k2model.continual.ledger import Ledger
from k2model.continual.month.chain import Trained, promoted, scored
from k2model.continual.month.days import Day, day
from k2model.continual.month.material import ORDERED, RIVERS
from k2model.continual.state import TUNED, Outcome, Standing, State
from k2model.continual.verdict.capabilities import Row, allowed_loss, by_score, row_of
from k2model.continual.verdict.comparison import read_verdict
from k2model.evals.cells import results_of
from k2model.evals.noninferiority import holm
from k2model.evals.scores import ScoreRow, load_scores
from k2model.recipe import Recipe
from k2model.recipe.tasks import LOSS

NEW = (ORDERED, RIVERS)  # scores that the lifecycle could not have
RISE = 0.4  # of the new problems
NO_LONGER = (Standing.REFUSED, Standing.QUARANTINED)
SHARE_OF_SCRATCH = 1 / 3  # of its training tokens, at most
LOSS_OF_SCRATCH = 0.02  # more than its held-out loss, at most


@dataclass(frozen=True)
class Line:
    """A day: what came, and what was decided, a sentence each with how it is shown (`pass`, `fail` or "")."""

    day: Day
    came: tuple[str, ...]
    decided: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Champion:
    """A model that stood, from a day of the month on, with its scores by name."""

    turn: int
    since: int
    scores: Mapping[str, ScoreRow]


@dataclass(frozen=True)
class Check:
    """Something that must hold of the month."""

    name: str
    passed: bool
    said: str


@dataclass(frozen=True)
class Month:
    """kept: the champion at the end beside the lifecycle's model. forgotten: the chain without replay beside it.
    beside: the champion beside the model from scratch; the last two where they were trained. tokens: that each was
    trained on, the month's turns all together."""

    lines: tuple[Line, ...]
    champions: tuple[Champion, ...]
    chain: tuple[Champion, ...]
    kept: tuple[Row, ...]
    forgotten: tuple[Row, ...]
    beside: tuple[Row, ...]
    tokens: Mapping[str, int]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def month_of(
    store: Store, recipe: Recipe, days: Sequence[Day], chain: Trained | None, scratch: Trained | None
) -> Month:
    """The whole of it. Raises the store's and the ledger's errors for what is damaged."""
    ledger = Ledger.open(store, recipe.name)
    state = ledger.state()
    champion = state.model
    assert champion is not None, "the month begins with a champion"
    first, last = (scored(store, recipe, champion, one.made[f"{TUNED}/export"]) for one in (state.root, champion))
    kept = compared(store, recipe, first, last)
    forgotten = compared(store, recipe, first, chain.last) if chain and chain.scores else ()
    month = Month(
        _lines(ledger, days),
        _champions(store, recipe, state),
        tuple(
            Champion(turn, _day_of(_ended(state, turn)), _by_name(store, recipe, ref))
            for turn, ref in (chain.scores if chain else ())
        ),
        kept,
        forgotten,
        compared(store, recipe, scratch.last, last) if scratch else (),
        _tokens(state, chain, scratch),
        (),
    )
    return replace(month, checks=tuple(_checks(store, recipe, state, days, month)))


def compared(store: Store, recipe: Recipe, first: ArtifactRef, second: ArtifactRef) -> tuple[Row, ...]:
    """Every score that both have, the second beside the first."""
    ours, theirs = (by_score(results_of(store, ref)) for ref in (first, second))
    config = recipe.continual
    rows = [
        row_of(score, ours[score], theirs[score], allowed_loss(config, score), config.confidence)
        for score in ours
        if score in theirs
    ]
    return tuple(replace(row, p_all=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True))


def lost(row: Row) -> bool:
    """Whether the second is worse beyond doubt."""
    return row.gain < 0 and row.p_all <= 0.05


def old(rows: Sequence[Row], losses: bool = False) -> list[Row]:
    """The accuracies, or the losses, of what the lifecycle taught."""
    return [
        row
        for row in rows
        if row.score.removeprefix(f"{LOSS}/") not in NEW and row.score.startswith(f"{LOSS}/") is losses
    ]


def forgotten(month: Month) -> list[Row]:
    """What is worse beyond doubt without replay than the lifecycle's model, and than with it; losses too."""
    with_replay = {row.score: row.gain for row in month.kept}
    rows = [*old(month.forgotten), *old(month.forgotten, losses=True)]
    return [row for row in rows if lost(row) and row.gain < with_replay.get(row.score, 0.0)]


def _by_name(store: Store, recipe: Recipe, ref: ArtifactRef) -> dict[str, ScoreRow]:
    return {row.score: row for row in load_scores(store, [ref])}


def _ended(state: State, turn: int) -> str:
    return next(one.kickoff for one in state.turns if one.turn == turn)


def _champions(store: Store, recipe: Recipe, state: State) -> tuple[Champion, ...]:
    """All that stand in the champion's line, the lifecycle's first."""
    found = [Champion(0, 0, _by_name(store, recipe, state.root.made[f"{TUNED}/scores"]))]
    for ended in promoted(state):
        scores = _by_name(store, recipe, state.models[ended.turn].made[f"{TUNED}/scores"])
        found.append(Champion(ended.turn, _day_of(ended.kickoff), scores))
    return tuple(found)


def _day_of(kickoff: str) -> int:
    return (datetime.fromisoformat(kickoff).date() - day(1)).days + 1


def _lines(ledger: Ledger, days: Sequence[Day]) -> tuple[Line, ...]:
    decided: dict[int, list[tuple[str, str]]] = {one.number: [] for one in days}
    for entry in ledger.entries():
        content = entry.content
        if isinstance(content, Arrival):
            batch = content.batch
            good = batch.standing is Standing.WAITING
            said = f"{batch.name} {'accepted' if good else batch.standing.value}: {batch.reason or 'all checks passed'}"
            decided[_day_of(content.kickoff)].append(
                (f"{said}{' (late)' if batch.late else ''}", "" if good else "fail")
            )
        elif isinstance(content, TurnEnded) and content.ended.outcome is not Outcome.IDLE:
            ended = content.ended
            said = f"turn {ended.turn}, {', '.join(ended.batches)}: {ended.outcome.value}. {ended.reason}"
            shown = "pass" if ended.outcome is Outcome.PROMOTED else "fail"
            decided[_day_of(ended.kickoff)].append((said, shown))
        elif isinstance(content, TurnEnded):
            decided[_day_of(content.ended.kickoff)].append((f"no turn: {content.ended.reason}", ""))
        elif isinstance(content, Canary):
            decided[_day_of(content.kickoff)].append((f"canary of turn {content.turn}: {content.reason}", ""))
        elif isinstance(content, Rollback) and content.kickoff:
            said = f"rolled back to turn {content.to}: {content.reason}"
            decided[_day_of(content.kickoff)].append((said, "fail"))
    return tuple(
        Line(one, tuple(f"{each.batch}: {each.what}" for each in one.deliveries), tuple(decided[one.number]))
        for one in days
    )


def _tokens(state: State, chain: Trained | None, scratch: Trained | None) -> dict[str, int]:
    found = {"month": sum(one.trained_tokens for one in state.turns)}
    found |= {"without replay": chain.tokens} if chain else {}
    return found | ({"from scratch": scratch.tokens} if scratch else {})


def _checks(store: Store, recipe: Recipe, state: State, days: Sequence[Day], month: Month) -> list[Check]:
    return [
        *_batch_checks(state, days),
        _promotions(store, recipe, state),
        *_learned(month),
        *_kept(month),
    ]


def _batch_checks(state: State, days: Sequence[Day]) -> list[Check]:
    """Nothing bad was trained on, and nothing good was turned away."""
    deliveries = {one.batch: one for each in days for one in each.deliveries}
    began = {name for ended in state.turns for name in ended.batches}
    began |= {*state.open.batches} if state.open else set()
    bad = [name for name, one in deliveries.items() if not one.good]
    through = [
        name for name in bad
        if name in began or name not in state.batches or state.batches[name].standing not in NO_LONGER
    ]  # fmt: skip
    good = [name for name, one in deliveries.items() if one.good]
    away = [name for name in good if name not in state.batches or state.batches[name].standing in NO_LONGER]
    idle = [name for name in good if name not in away and state.batches[name].standing is not Standing.TAKEN]
    return [
        Check(
            "Nothing that is bad was trained on", not through,
            f"{len(bad) - len(through)} of {len(bad)} bad batches were turned away and are in no turn"
            + (f"; not {', '.join(through)}" if through else ""),
        ),
        Check(
            "Nothing that is good was turned away", not away,
            f"{len(good) - len(away)} of {len(good)} good batches were accepted"
            + (f"; not {', '.join(away)}" if away else "")
            + (f"; {', '.join(idle)} are in no champion" if idle else ""),
        ),
    ]  # fmt: skip


def _promotions(store: Store, recipe: Recipe, state: State) -> Check:
    """Each promoted model once more beside the one before it, on what the last champion was asked."""
    worse, within, turns = [], [], [one for one in state.turns if one.outcome is Outcome.PROMOTED]
    assert state.model is not None
    for ended in turns:
        models = (state.models[one] for one in (ended.champion or 0, ended.turn))
        before, after = (scored(store, recipe, state.model, one.made[f"{TUNED}/export"]) for one in models)
        falls = [row for row in old(compared(store, recipe, before, after)) if lost(row)]
        found = [row.score for row in falls if row.gain <= -row.allowed]
        failing = read_verdict(store, ended.verdict).failing if ended.verdict else ["it has no verdict"]
        worse += [f"turn {ended.turn}: {', '.join(map(str, [*found, *failing]))}"] if found or failing else []
        within += [f"turn {ended.turn} lost {100 * -row.gain:.0f} points of {row.score}" for row in falls]
    said = f"{len(turns)} were promoted, none worse in anything than the champion before it beyond what is allowed"
    return Check(
        "No worse challenger was promoted", not worse,
        "; ".join(worse) or said + (f"; within it, and beyond doubt, {', '.join(within)}" if within else ""),
    )  # fmt: skip


def _learned(month: Month) -> list[Check]:
    rows = {row.score: row for row in month.kept}
    found, ordered = [], rows.get(ORDERED)
    rise = ordered.difference if ordered else 0.0
    said = "not asked"
    if ordered:
        said = f"{ordered.champion:.3f} to {ordered.challenger:.3f} of {ordered.n} held-out items"
    found.append(Check(f"The new problems rise by at least {100 * RISE:.0f} points", rise >= RISE, said))
    if told := rows.get(f"{LOSS}/{RIVERS}"):
        said = f"{told.champion:.3f} to {told.challenger:.3f} nats a token on held-out texts about them"
        found.append(Check("The new facts are known better than before", told.gain > 0 and told.p_all <= 0.05, said))
    return found


def _kept(month: Month) -> list[Check]:
    mine, with_replay = old(month.kept), {row.score: f" (with it {row.challenger:.3f})" for row in month.kept}
    worse, gone = [row for row in mine if lost(row)], forgotten(month)
    told = ", ".join(f"{row.score} {row.champion:.3f} to {row.challenger:.3f}" for row in worse)
    found = [
        Check(
            "Every old capability stays within its interval", not worse,
            (told or f"none of {len(mine)} is worse than the lifecycle's model beyond doubt (paired, corrected)")
            + _risen(old(month.kept, losses=True)),
        )
    ]  # fmt: skip
    if month.forgotten:
        told = ", ".join(
            f"{row.score} {row.champion:.3f} to {row.challenger:.3f}{with_replay.get(row.score, '')}"
            for row in gone[:4]
        )
        more = f" and {len(gone) - 4} more" if len(gone) > 4 else ""
        found.append(Check("Without replay it is seen what is lost", bool(gone), f"{told}{more}" or "nothing"))
    return found


def _risen(rows: Sequence[Row]) -> str:
    """Which held-out losses are higher than the lifecycle's beyond doubt: they are no capability, and told."""
    risen = [row for row in rows if lost(row)]
    told = ", ".join(f"{row.score} {row.challenger / row.champion - 1:+.1%}" for row in risen)
    return f"; held-out losses are higher in {len(risen)} of {len(rows)} domains{': ' if told else ''}{told}"


def claim(month: Month) -> list[Check]:
    """As good as from scratch on everything, for a third of its tokens: what of it holds."""
    if not month.beside:
        return []
    share = month.tokens["month"] / month.tokens["from scratch"]
    losses = [(row.score, row.challenger / row.champion - 1) for row in old(month.beside, losses=True)]
    above = [f"{score} {more:+.1%}" for score, more in losses if more > LOSS_OF_SCRATCH]
    accuracies = [row for row in month.beside if not row.score.startswith(f"{LOSS}/")]
    worse = [f"{row.score} {row.difference:+.3f}" for row in accuracies if lost(row)]
    return [
        Check(
            "No more than a third of its training tokens", share <= SHARE_OF_SCRATCH,
            f"{month.tokens['month']:,} of {month.tokens['from scratch']:,} tokens, {share:.1%}",
        ),
        Check(
            "Held-out loss within 2% in every domain", bool(losses) and not above,
            ", ".join(above) or f"{len(losses)} domains",
        ),
        Check(
            "Accuracies within their intervals", not worse,
            ", ".join(worse) or f"none of {len(accuracies)} is worse beyond doubt",
        ),
    ]  # fmt: skip
