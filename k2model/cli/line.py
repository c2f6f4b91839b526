"""What the commands about a line of models share: their options, and what they show as rows and sentences. The commands
are `k2model.cli.continual`, `k2model.cli.promotion` and `k2model.cli.inbox`."""

import json
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import console, overrides_option, pairs, records, store_option
from k2model.errors import K2Error, nearest
from k2model.recipe.continual import FIXED_INPUTS
from k2model.settings import recipe_name, tracking_uri

if TYPE_CHECKING:
    from k2model.artifacts import Store
    from k2model.continual.entries import Content
    from k2model.continual.inbox import Inbox
    from k2model.continual.ledger import Ledger
    from k2model.continual.state import Checked, State
    from k2model.recipe import Recipe

TURNS = ("turn", "kickoff", "outcome", "batches", "tokens", "reason")
SCHEDULES = ("schedule", "plan", "cron", "next, UTC", "fixed inputs")
NEW, BROKEN, UNFINISHED = "new", "broken", "being written"  # beside the standings of the ledger
NOT_LOOKED_AT = "nobody has looked at it yet"
LISTED = 8  # items of a list that are shown

line_option = click.option("--recipe", default=recipe_name, show_default="$K2_RECIPE", help="Whose line.")


def line_options(command: Callable[..., None]) -> Callable[..., None]:
    """Of which line, in which store: the arguments of `line_of`."""
    for option in (store_option, overrides_option, line_option):
        command = option(command)
    return command


reason_option = click.option(
    "--why", "--reason", "reason", default="", metavar="TEXT", help="Why; it is kept in the ledger."
)


by_option = click.option("--by", "--who", "by", default="", metavar="NAME", help="Who decides; kept in the ledger.")


def recipe_of(name: str, overrides: tuple[str, ...]) -> "Recipe":
    """Raises K2Error for a recipe that is of no line."""
    from k2model.recipe import chosen_recipe

    chosen = chosen_recipe(name, pairs(overrides))
    if not chosen.continual:
        raise K2Error(
            f"recipe '{chosen.name}' is of no line: continual.tuned names no phase that is gone on with. Set it, e.g. "
            f"--set continual.tuned={chosen.phases[-1].name}"
        )
    return chosen


def line_of(name: str, overrides: tuple[str, ...], store: str) -> "tuple[Store, Inbox, Ledger]":
    """Raises MissingArtifact where there is no store: looking makes none."""
    from k2model.continual.inbox import Inbox
    from k2model.continual.ledger import Ledger
    from k2model.inspect.artifact import open_existing

    chosen, opened = recipe_of(name, overrides), open_existing(store)
    return opened, Inbox.open(opened, chosen), Ledger.open(opened, chosen.name)


def batch_rows(state: "State", inbox: "Inbox") -> Iterator[tuple[Any, ...]]:
    """Of every batch its name, kind, standing, reason, tokens and turn: those of the ledger as they arrived, then what
    else lies in the inbox, by name."""
    from k2model.continual.batches import Broken

    contents = inbox.look()
    lying = {one.name: one for one in contents.all}
    new = {one.name for one in contents.new(state)}
    for name, batch in state.batches.items():
        reason = batch.reason
        if name in new:
            reason += "; changed in the inbox since, and looked at again with the next arrivals"
        elif name in lying and lying[name].digest != batch.digest:
            reason += "; changed in the inbox since, which has no effect"
        standing = "held" if batch.turn in state.held else batch.standing.value
        yield name, batch.kind.value, standing, reason.removeprefix("; "), batch.tokens, batch.turn
    for name in sorted(new - state.batches.keys()):
        one = lying[name]
        if isinstance(one, Broken):
            yield name, one.kind.value, BROKEN, one.reason, 0, 0
        else:
            yield name, one.kind.value, NEW, NOT_LOOKED_AT, 0, 0
    for name in contents.unfinished:
        yield name, "", UNFINISHED, "no batch.json yet", 0, 0


def unknown_batch(name: str, known: Collection[str], unfinished: Collection[str]) -> str:
    if name in unfinished:
        return f"batch '{name}' is being written: it has no batch.json yet"
    return f"there is no batch '{name}'; {nearest(name, known)}"


def status_of(ledger: "Ledger", inbox: "Inbox") -> dict[str, Any]:
    """A line as it stands, as JSON has it; what there is nothing of is None or empty."""
    state = ledger.state()
    model, began = state.model, state.open
    anneal = state.anneals.get(model.turn) if model else None
    number, since = _stands_since(ledger, state)
    turns: list[tuple[Any, ...]] = [
        (one.turn, one.kickoff, _outcome(state, one.turn), ", ".join(one.batches), one.trained_tokens, one.reason)
        for one in state.turns
    ]
    return {
        "line": state.line,
        "entries": state.entries,
        "champion": model and {"turn": model.turn, "version": model.version or None, "since": since, "entry": number},
        "before": [*state.before],
        "canary": state.canaries.get(model.turn, "") if model else "",
        "annealed": _told(anneal.ended.released, anneal.ended.reason) if anneal else "",
        "open": began and {"turn": began.turn, "kickoff": began.kickoff, "batches": [*began.batches]},
        "training": _training(ledger, inbox.recipe, state),
        "held": [*state.held],
        "waiting": [one.name for one in state.waiting() if one.turn not in state.held],
        "new": [one.name for one in inbox.look().new(state)],
        "turns": records(TURNS, turns),
        "schedules": records(SCHEDULES, schedule_rows(inbox.recipe)),
    }


def _training(ledger: "Ledger", recipe: "Recipe", state: "State") -> list[str]:
    """Over how much training the open turn's settings average the weights, else those of the last one that trained."""
    from k2model.continual.continuation import continuation
    from k2model.continual.seen import timescales
    from k2model.continual.verdict.comparison import read_verdict

    store = ledger.store
    try:
        if state.open is not None:
            return [*timescales(continuation(store, recipe, state, state.open), state, state.open)]
        verdicts = (one.verdict for one in reversed(state.turns) if one.verdict is not None)
        return [*read_verdict(store, last).training] if (last := next(verdicts, None)) else []
    except K2Error as error:  # the line is told all the same
        return [f"not known: {error}"]


def _stands_since(ledger: "Ledger", state: "State") -> tuple[int, str]:
    """The number of the entry that made the champion stand, and when that was written; (0, "") without one."""
    from k2model.continual.entries import Promote, Rollback, Start, TurnEnded
    from k2model.continual.state import Judged, Outcome

    champion, number = None, 0
    for entry in ledger.entries():
        match entry.content:
            case Start(model=model):
                turn = model.turn
            case Judged(model=model, outcome=Outcome.PROMOTED):
                turn = model.turn
            case TurnEnded(ended=ended) if ended.outcome is Outcome.PROMOTED:
                turn = ended.turn
            case Promote(turn=turn) | Rollback(to=turn):
                pass
            case _:
                continue
        if turn != champion:
            champion, number = turn, entry.number
    return number, ledger.times(number - 1).get(number, "not known") if number else ""


def _outcome(state: "State", turn: int) -> str:
    """Of a turn as it stands: a promoted one may have been rolled back since."""
    ended = next(one for one in state.turns if one.turn == turn)
    gone = turn in state.models and turn != state.champion and turn not in state.before
    return "rolled back" if gone else ended.outcome.value


def schedule_rows(recipe: "Recipe") -> list[tuple[Any, ...]]:
    """Of every schedule that has a cron expression: its name, launch plan, expression, next time, fixed inputs."""
    from dataclasses import asdict

    from croniter import croniter

    matrix = {"tasks": list(recipe.evaluation.matrix_tasks), "checkpoints": [], **FIXED_INPUTS}
    schedules: dict[str, tuple[str, dict[str, Any]]] = {
        **{name: (cron, dict(FIXED_INPUTS)) for name, cron in asdict(recipe.continual.schedules).items()},
        "matrix": (recipe.evaluation.matrix_schedule, matrix),
    }
    rows = []
    for name, (cron, inputs) in schedules.items():
        if not cron:
            continue
        due = croniter(cron, datetime.now(UTC)).get_next(datetime)
        fixed = ", ".join(f"{one}={stated}" for one, stated in inputs.items())
        rows.append((name, f"{recipe.name}.{name}", cron, due.strftime("%a %Y-%m-%d %H:%M"), fixed))
    return rows


def what(content: "Content") -> str:
    """An entry in a line."""
    from k2model.continual.entries import Accept, Arrival, Canary, Promote, Retry, Rollback, Start, TurnBegan, TurnEnded
    from k2model.continual.state import Annealed, Judged

    match content:
        case Start():
            version = f", version {content.model.version} in MLflow" if content.model.version else ""
            return f"{content.model.name} model is the champion{version}"
        case Judged():
            why = "; ".join(filter(None, (content.reason, content.why and f"{content.who} says: {content.why}")))
            return _told(f"{content.name}: {content.outcome.value}", why)
        case Arrival(batch=batch):
            return _told(f"{batch.name}: {batch.standing.value}", batch.reason or f"{batch.tokens:,} tokens")
        case TurnBegan(began=began):
            return f"turn {began.turn} ({began.kind.value}, from turn {began.champion}): {value([*began.batches])}"
        case TurnEnded(ended=ended):
            return _told(f"turn {ended.turn}: {ended.outcome.value}", _with_gates(ended.reason, ended.gates))
        case Annealed(began=began, ended=ended):
            return _told(f"{began.challenger}: {ended.released}", _with_gates(ended.reason, ended.gates))
        case Canary():
            return _told(f"turn {content.turn} stays", content.reason)
        case Promote():
            by = f" by {content.who}" if content.who else ""
            return _told(f"turn {content.turn} is promoted{by}", _with_gates(content.reason, content.gates))
        case Rollback():
            by = f" by {content.who}" if content.who else ""
            return _told(f"back to turn {content.to}{by}", content.reason)
        case Retry():
            return _told(f"{content.batch} waits again", content.reason)
        case Accept():
            by = f" by {content.who}" if content.who else ""
            return _told(f"{content.batch}: {', '.join(content.checks)} accepted{by}", content.reason)


def tell(store: "Store", recipe: "Recipe", state: "State", as_json: bool) -> None:
    """Says who the champion is, here, to MLflow and to people, as far as they can be reached: the next run of the line
    tells what could not be told."""
    from k2model.continual.watch import told
    from k2model.lifecycle import LifecyclePlan

    model = state.model
    champion = state.called(model) if model is not None else "nobody"
    said = f"the champion of {state.line} is {champion}; entry {state.entries}"
    said = told(LifecyclePlan(recipe, store.uri), tracking_uri(), said)
    if as_json:
        turn = model.turn if model is not None else None
        click.echo(json.dumps({"champion": turn, "entry": state.entries, "told": said}))
    else:
        console().print(said, highlight=False, markup=False)


def lines(found: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """A value of JSON as dotted fields and values; of long lists the beginning."""
    if isinstance(found, dict):
        for name, one in found.items():
            yield from lines(one, f"{path}.{name}" if path else name)
    elif isinstance(found, list) and any(isinstance(one, dict | list) for one in found):
        for number, one in enumerate(found[:LISTED]):
            yield from lines(one, f"{path}[{number}]")
        if len(found) > LISTED:
            yield path, f"{len(found) - LISTED} more (--json shows all)"
    elif found not in (None, "", [], {}):
        yield path, value(found)


def value(found: Any) -> str:
    """A value of JSON for people."""
    if isinstance(found, dict):
        return ", ".join(f"{name} {value(one)}" for name, one in found.items() if one not in (None, "", []))
    if isinstance(found, list):
        more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
        return ", ".join(str(one) for one in found[:LISTED]) + more
    return f"{found:.4g}" if isinstance(found, float) else str(found)


def _with_gates(reason: str, gates: "tuple[Checked, ...]") -> str:
    """A reason, and what was found of the artifacts."""
    found = ", ".join(f"{one.gate} {gate_outcome(one)}" for one in gates)
    return "; ".join(filter(None, (reason, found)))


def gate_outcome(one: "Checked") -> str:
    """What became of a gate, in a word or two."""
    if one.passed:
        return "passed"
    return "waived" if one.waived else "not passed" if one.measured else "not measured"


def _told(what_happened: str, reason: str) -> str:
    return f"{what_happened}: {reason}" if reason else what_happened
