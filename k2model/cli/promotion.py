"""Who is the champion, why, and what a person decides about it: `k2 gates`, `k2 promote`, `k2 rollback`, `k2 ledger`.

They serve lifecycles and the turns of a line alike. What is decided here is an entry of the ledger, as any decision is;
MLflow is brought to what the ledger says, now or by the next run.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.line import by_option, gate_outcome, line_options, reason_option, tell, value, what
from k2model.cli.terminal import as_json_option, console, pairs, show, table
from k2model.errors import K2Error
from k2model.settings import tracking_uri
from k2model.units import whole_number

if TYPE_CHECKING:
    from k2model.artifacts import Store
    from k2model.continual.ledger import Ledger
    from k2model.continual.state import Judged, State
    from k2model.recipe import Recipe

ENTRIES = ("number", "written", "kind", "what")
GATES = ("gate", "", "what was found")
BESIDE = ("score", "n", "champion", "challenger", "gain", "at worst", "allowed", "")


def opened(name: str, overrides: tuple[str, ...], store: str) -> "tuple[Store, Recipe, Ledger]":
    """Raises MissingArtifact where there is no store: looking makes none."""
    from k2model.continual.ledger import Ledger
    from k2model.inspect.artifact import open_existing
    from k2model.recipe import chosen_recipe

    recipe, there = chosen_recipe(name, pairs(overrides)), open_existing(store)
    return there, recipe, Ledger.open(there, recipe.name)


@click.command()
@click.argument("reference", default="")
@click.option("--anew", is_flag=True, help="Judge it beside the present champion, by the gates as they are now.")
@click.option("--measure", is_flag=True, help="The same, and measure what was not, here: both models are loaded.")
@line_options
@as_json_option
def gates(
    reference: str, anew: bool, measure: bool, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool
) -> None:
    """What a fine-tuned model had to show to be the champion, and did; and the champion beside it.

    REFERENCE is sft@3 (version 3), sft: the one that was judged last, or the number of a turn, whose gates are on its
    artifacts beside its verdict. Nothing is entered in the ledger; ends with 1 where a gate is not passed.

    \b
    k2 gates
    k2 gates 12
    k2 gates sft@7 --anew
    """
    from k2model.continual.state import Outcome
    from k2model.promotion.comparison import shown_beside
    from k2model.promotion.gates import failing
    from k2model.promotion.names import judged_called

    there, chosen, ledger = opened(recipe, overrides, store)
    state, turn = ledger.state(), whole_number(reference)
    if turn is not None:
        known = _turns(there, chosen, state, turn, anew or measure, measure)
    else:
        known = judged_called(state, reference or next(reversed([one.name for one in state.judged.values()]), ""))
        if anew or measure:
            known = _anew(there, chosen, state, known, measure)
    name, beside = known.name if turn is None else f"turn {turn}", shown_beside(there, known.verdict)
    if as_json:
        click.echo(json.dumps(_plain(state, name, known, beside)))
    else:
        _draw(state, name, known, beside)
    if failing(known.gates) or known.outcome is Outcome.REFUSED:
        raise SystemExit(1)


def _anew(store: "Store", recipe: "Recipe", state: "State", known: "Judged", measure: bool) -> "Judged":
    from dataclasses import replace

    from k2model.promotion.decide import is_champion, judged
    from k2model.promotion.gates import before_in

    if is_champion(state, known):
        raise K2Error(f"{known.name} is the champion; k2 gates {known.name} shows what it was judged by")
    phase = recipe.phase(known.phase)
    return judged(store, recipe, phase, replace(known.model, turn=0), before_in(known), state, measure=measure)


def _turns(store: "Store", recipe: "Recipe", state: "State", turn: int, anew: bool, measure: bool) -> "Judged":
    """A turn as what is judged."""
    from k2model.continual.state import Judged
    from k2model.continual.turn_gates import gates_of

    ended = next((one for one in state.turns if one.turn == turn), None)
    if ended is None or ended.challenger is None or ended.champion is None:
        trained = ", ".join(str(one.turn) for one in state.turns if one.challenger) or "none"
        raise K2Error(
            f"turn {turn} of line '{state.line}' has trained nothing that could be judged; these have: {trained}"
        )
    gates = ended.gates
    if anew:
        gates = gates_of(store, recipe, turn, ended.challenger, state.models[ended.champion], measure)
    return Judged(
        ended.challenger, recipe.continual.tuned, ended.outcome, ended.reason, gates, ended.champion, ended.verdict
    )


def _against(state: "State", known: "Judged") -> str:
    return "nobody" if known.champion is None else state.called(state.models[known.champion])


def _plain(state: "State", name: str, known: "Judged", beside: list[Any]) -> dict[str, Any]:
    from k2model.plain import to_plain

    return {
        "model": name, "checkpoint": known.digest, "outcome": known.outcome.value, "reason": known.reason,
        "champion": state.called(state.model) if state.model else None, "against": _against(state, known),
        "who": known.who, "why": known.why, "gates": to_plain(known.gates), "beside": beside,
        "verdict": known.verdict.uri if known.verdict else None,
    }  # fmt: skip


def _draw(state: "State", name: str, known: "Judged", beside: list[Any]) -> None:
    from k2model.continual.verdict.comparison import PAGE

    out = console()
    rows = [(one.gate, gate_outcome(one), one.said) for one in known.gates]
    out.print(table(GATES, rows), "")
    if beside:
        against = _against(state, known)
        told = [
            (one["score"], one["n"], f"{one['champion']:.3f}", f"{one['challenger']:.3f}", f"{one['gain']:+.3f}",
             "unknown" if one["at_worst"] is None else f"{one['at_worst']:+.3f}", f"{one['allowed']:.3f}",
             one["outcome"] if one["decides"] else f"{one['outcome']}, decides nothing")
            for one in beside
        ]  # fmt: skip
        out.print(table(BESIDE, told), f"champion: {against}; challenger: {name}; {known.verdict.uri}/{PAGE}", "")  # type: ignore[union-attr]
    by = f" ({known.who}: {known.why})" if known.who else ""
    now = state.called(state.model) if state.model else "nobody"
    said = f"{name} {known.outcome.value}{by}: {known.reason}. The champion of {state.line} is {now}"
    out.print(said, highlight=False, markup=False)


@click.command()
@click.argument("reference")
@click.option("--decline", is_flag=True, help="Say no instead; of a turn, its batches are set aside.")
@click.option("--waive", multiple=True, metavar="GATE", help="Let it pass without this gate: provenance.")
@click.option("--measure", is_flag=True, help="Measure what was not, here: both models are loaded.")
@by_option
@reason_option
@line_options
@as_json_option
def promote(
    reference: str, decline: bool, waive: tuple[str, ...], measure: bool, by: str, reason: str, recipe: str,
    overrides: tuple[str, ...], store: str, as_json: bool,
) -> None:  # fmt: skip
    """Make a model the champion: of a turn that is held for a person, by its number; or of a lifecycle (sft@7, sft).

    A lifecycle's is judged anew beside the champion, of a turn its artifacts are. Neither is promoted where a gate is
    not passed (ends with 1). Nobody can overrule a gate on what a model does; that its code is of no clean commit can
    be waived, which the ledger keeps: of a turn by saying who decides and why.

    \b
    k2 promote 12 --why "read its answers"
    k2 promote 12 --by ann --why "only a notebook differed"
    k2 promote 12 --decline --why "it swears"
    k2 promote sft@7 --by ann --why "looked at 50 answers"
    k2 promote sft@7 --by ann --why "only a notebook differed" --waive provenance
    """
    there, chosen, ledger = opened(recipe, overrides, store)
    if (turn := whole_number(reference)) is not None:
        if decline:
            state = _declined(ledger, turn, by, reason)
        else:
            from k2model.continual.state import WAIVABLE
            from k2model.continual.turn_gates import approved

            if unknown := {*waive} - {*WAIVABLE}:
                raise K2Error(f"gate {min(unknown)} cannot be waived, expected {' or '.join(WAIVABLE)}")
            state = ledger.state()
            yes = approved(there, chosen, state, turn, reason, by, measure)
            state = ledger.append("promote", yes, after=state)
        tell(there, chosen, state, as_json)
        return
    from k2model.continual.state import Outcome
    from k2model.promotion import decide
    from k2model.promotion.names import judged_called

    if not (by and reason):
        raise click.UsageError(f"say who decides about {reference} and why: --by NAME --why TEXT")
    known, person = judged_called(ledger.state(), reference), decide.Person(by, reason, frozenset(waive))
    if decline:
        tell(there, chosen, decide.decline(ledger, known, person), as_json)
        return
    state, found = decide.promote(there, chosen, ledger, known, person, measure)
    if found.outcome is not Outcome.PROMOTED:
        tell(there, chosen, state, as_json)
        raise K2Error(f"{known.name} is not promoted ({found.outcome.value}): {found.reason}")
    tell(there, chosen, state, as_json)


def _declined(ledger: "Ledger", turn: int, by: str, reason: str) -> "State":
    state = ledger.state()
    if turn not in state.held or state.champion is None:
        held = " and ".join(f"turn {one}" for one in state.held) or "none"
        raise K2Error(f"turn {turn} does not wait for a person; {held} does")
    said = {"to": state.champion, "reason": reason or "declined", "who": by}
    return ledger.append("rollback", said, after=state)


@click.command()
@click.option(
    "--to", metavar="MODEL", help="Whose champion stands again: a turn's number (0 is the first lifecycle's) or sft@3; "
    "else the one before.",
)  # fmt: skip
@click.option("--why", "--reason", "reason", required=True, metavar="TEXT", help="Why; it is kept in the ledger.")
@by_option
@line_options
@as_json_option
def rollback(
    to: str | None, reason: str, by: str, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool
) -> None:
    """Let an earlier champion stand again; batches of the turns after it are set aside.

    A turn that is running is given up, and one that waits for a person is declined.

    \b
    k2 rollback --by ann --why "worse at spelling"
    k2 rollback --to 3 --why "all since November"
    k2 rollback --to sft@7 --why "the turns since drifted"
    """
    from k2model.promotion.names import turn_called

    there, chosen, ledger = opened(recipe, overrides, store)
    state = ledger.state()
    if to is None and not state.before:
        raise K2Error(f"line '{state.line}' has had no other champion that could stand again")
    turn = state.before[-1] if to is None else turn_called(state, to)
    state = ledger.append("rollback", {"to": turn, "reason": reason, "who": by}, after=state)
    tell(there, chosen, state, as_json)


@click.command()
@click.option("--verify", is_flag=True, help="Read the whole chain, and look whether artifacts and aliases are there.")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="Entries to show.")
@line_options
@as_json_option
def ledger(verify: bool, last: int, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Every decision about the models of a line, the newest entries, oldest first.

    --verify checks that no entry was changed or taken away, and ends with 1 where an artifact is gone or an alias in
    MLflow was moved by hand.

    \b
    k2 ledger --last 10
    k2 ledger --verify
    """
    _, chosen, opened_ledger = opened(recipe, overrides, store)
    if verify:
        _verify(chosen, opened_ledger, as_json)
        return
    after = max(0, opened_ledger.state().entries - last)
    times = opened_ledger.times(after)
    rows = [
        (entry.number, times.get(entry.number, "not known"), entry.kind, what(entry.content))
        for entry in opened_ledger.entries(after)
    ]
    show(ENTRIES, rows, as_json)


def _verify(recipe: "Recipe", ledger: "Ledger", as_json: bool) -> None:
    found = ledger.verify()
    aliases, asked = _aliases(recipe, ledger.state())
    told = {"entries": found.entries, "head": found.head, "artifacts": found.artifacts, "lost": [*found.lost],
            "mlflow": asked, "aliases": aliases}  # fmt: skip
    if as_json:
        click.echo(json.dumps(told))
    else:
        show(("checked", "value"), [(name, value(one)) for name, one in told.items()], as_json)
    if found.lost or aliases:
        raise SystemExit(1)


def _aliases(recipe: "Recipe", state: "State") -> tuple[list[str], str]:
    """What is wrong with aliases in MLflow, and whether it was asked. A database that is not there is not made."""
    from k2model.continual.promotion import differing
    from k2model.registry import RegistryError
    from k2model.registry.database import database_file
    from k2model.settings import masked

    uri = tracking_uri()
    if (file := database_file(uri)) is not None and not file.exists():
        return [], f"was not asked: {file} is not there"
    try:
        return differing(uri, recipe, state), f"{masked(uri)} was asked"
    except RegistryError as error:
        return [], f"was not asked: {error}"
