"""MLflow, as the ledger of a line has it: the challengers of lifecycles and turns, who is champion, and why.

The ledger decides and MLflow shows it: `apply` brings the one to what the other says and may be repeated at any time.
It looks models up by the digest of their checkpoint, so nothing is lost where MLflow was down when a turn ended, or
where its database is another one: the next run registers what is not there. Aliases: `champion`, also back to an older
version after a rollback, and `previous`, the one that a rollback would go to. One that somebody moved by hand is named,
and moved back.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2model.artifacts import Store, fingerprint
from k2model.continual.entries import Promote, Rollback, Start, TurnEnded
from k2model.continual.ledger import Entry, Ledger
from k2model.continual.state import BASE, TUNED, Checked, Ended, Judged, Model, Outcome, State, model_name
from k2model.continual.verdict.comparison import PAGE, read_verdict
from k2model.continual.verdict.verdict import Verdict, told
from k2model.recipe import Recipe
from k2model.registry.aliases import aliases, moved_by_hand, set_alias
from k2model.registry.gates import Registration, RegistryError
from k2model.registry.markdown import as_cell, code
from k2model.registry.model_page import retell
from k2model.registry.phase_record import CHAMPION, PROMOTION, UNJUDGED, allowed
from k2model.registry.register import register_phase
from k2model.registry.tracking import tracking
from k2model.registry.versions import registered, registration_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PREVIOUS = "previous"  # the alias of the model before the champion
PREFIX = "k2.continual."
SHOWN = f"{PREFIX}shown"  # tag: digest of what the others were written from
LONGEST = 5000  # characters of a description that every database of MLflow takes
_log = logging.getLogger(__name__)


class NotRegistered(RegistryError):
    """MLflow does not have the version that an alias belongs to."""


@dataclass(frozen=True)
class Applied:
    """champion: the version with the alias, 0 = nobody was promoted yet. registered: versions that were not there.
    changed: aliases and versions that were brought up to date. by_hand: of each alias that somebody moved, a sentence.
    """

    champion: int
    registered: int
    changed: int
    by_hand: tuple[str, ...] = ()


def apply(
    tracking_uri: str, store: Store, recipe: Recipe, ledger: Ledger, recipe_of: Callable[[Ended], Recipe] | None = None
) -> Applied:
    """Brings MLflow to what the ledger says. recipe_of: the challenger's recipe of a turn, None = derived from the
    ledger as it was when that turn began.

    Raises RegistryError when MLflow cannot be used, NotRegistered when it does not know a lifecycle's model, when all
    else is done; a repetition goes on.
    """
    state, name = ledger.state(), f"k2-{recipe.name}"
    with tracking(tracking_uri) as client:
        versions = registered(client, name)
        shown = [*state.turns, *(one.ended for one in state.anneals.values())]
        missing = [one for one in shown if one.challenger and _digest(one.challenger) not in versions]
    for ended in missing:
        register_challenger(
            tracking_uri, store, recipe, (recipe_of or _derived(store, recipe, ledger))(ended), state, ended
        )
    with tracking(tracking_uri) as client:
        versions = registered(client, name) if missing else versions
        changed = sum(_described(client, store, ledger, state, ended, versions) for ended in shown)
        changed += sum(_tagged(client, state, one, versions) for one in state.judged.values())
        (wanted, lacking), held = _wanted(state, versions, name), aliases(client, name)
        by_hand = [said for alias, version in wanted.items() if (said := set_alias(client, name, alias, version))]
        changed += sum(held.get(alias) != version for alias, version in wanted.items())
        if versions:
            changed += retell(client, name, _reasons(state, versions))
    if lacking:
        raise NotRegistered(lacking)
    champion = wanted.get(CHAMPION) or 0
    if changed and state.model is not None:
        _log.info("MLflow: champion of %s is version %s (%s)", name, champion, state.called(state.model))
    return Applied(champion, len(missing), changed, tuple(by_hand))


def differing(tracking_uri: str, recipe: Recipe, state: State) -> list[str]:
    """A sentence on each alias in MLflow that is not where the ledger, or a registration, has put it; nothing is
    changed. Raises RegistryError."""
    name = f"k2-{recipe.name}"
    with tracking(tracking_uri) as client:
        by_hand, held = moved_by_hand(client, name), aliases(client, name)
        wanted, lacking = _wanted(state, registered(client, name), name)
    late = [
        f"alias {alias} of {name} is at version {held.get(alias)} and belongs to version {version}: MLflow was not "
        "told yet, the next run of the line tells it"
        for alias, version in wanted.items() if held.get(alias) != version and alias not in by_hand
    ]  # fmt: skip
    if state.model is None and CHAMPION in held:
        lacking = (
            f"alias {CHAMPION} of {name} is at version {held[CHAMPION]}, and the ledger of {state.line} knows of no "
            "champion: its entries are gone, or this is not the store that they lie in (K2_STORE). Bring them back "
            "from a copy of the store"
        )
    return [*by_hand.values(), *late, *([lacking] if lacking else [])]


def _wanted(
    state: State, versions: Mapping[str, "ModelVersion"], name: str
) -> tuple[dict[str, int | None], str]:  # fmt: skip
    """Where the aliases of a line belong by its ledger, None = nowhere; and what is said where MLflow does not have the
    version. Nothing of a line without a champion."""
    if state.model is None:
        return {}, ""
    before = state.models[state.before[-1]] if state.before else None
    found: dict[str, int | None] = {}
    lacking = ""
    for alias, model in ((PREVIOUS, before), (CHAMPION, state.model)):
        version = versions.get(_digest(model)) if model is not None else None
        if version is not None or model is None:
            found[alias] = None if version is None else int(version.version)
        else:
            lacking = (
                f"MLflow has no version of {name} for {state.called(model)} (checkpoint {_digest(model)[:16]}), so "
                f"alias {alias} cannot point at it. Run its lifecycle again with this MLFLOW_TRACKING_URI: nothing is "
                "trained again, its phases are registered"
            )
    return found, lacking


def _tagged(client: "MlflowClient", state: State, judged: Judged, versions: Mapping[str, "ModelVersion"]) -> bool:
    """Whether the version of a lifecycle's model had to be told what came of it."""
    if (version := versions.get(judged.digest)) is None:
        return False
    told = promotion_of(state, judged.model)[:LONGEST]
    if version.tags.get(PROMOTION) == told:
        return False
    client.set_model_version_tag(version.name, str(version.version), PROMOTION, told)
    return True


def _reasons(state: State, versions: Mapping[str, "ModelVersion"]) -> dict[int, list[str]]:
    """Who or what decided on lifecycles' models, and on what grounds, as lines of Markdown by version."""
    said: dict[int, list[str]] = {}
    for one in state.judged.values():
        if (version := versions.get(one.digest)) is None:
            continue
        lines = [f"{one.outcome.value.capitalize()}: {as_cell(one.reason)}."]
        lines += [f"Decided by {as_cell(one.who)}: {as_cell(one.why) or 'no reason given'}."] if one.who else []
        lines += [f"{_outcome(gate)}: {as_cell(gate.gate)}, {as_cell(gate.said)}" for gate in one.gates]
        lines += [f"Compared with the champion: {code(f'{one.verdict.uri}/{PAGE}')}"] if one.verdict else []
        said[int(version.version)] = [f"- {line}" for line in lines]
    return said


def _outcome(gate: Checked) -> str:
    return "passed" if gate.passed else "waived" if gate.waived else "**not passed**"


def promotion_of(state: State, model: Model) -> str:
    """`champion`, or `none: ` and why a lifecycle's model is not."""
    if state.model is not None and _digest(state.model) == _digest(model):
        return CHAMPION
    last = state.judged.get(_digest(model))
    if last is None:
        return UNJUDGED
    if last.outcome is not Outcome.PROMOTED:
        return f"none: {last.outcome.value}: {last.reason}"
    now = state.called(state.model) if state.model else "nobody"
    return f"none: it was the champion, which is {now} now; k2 promote {last.name} judges it anew"


def register_challenger(
    tracking_uri: str, store: Store, line: Recipe, recipe: Recipe, state: State, ended: Ended
) -> int:
    """Registers the phases that a turn has trained in the line's registered model; gives the version of the tuned one.
    No gate moves `champion`: the turn decides. recipe: the challenger's. Raises as `register_phase` does."""
    challenger, config = ended.challenger, line.continual
    assert challenger is not None, "an idle turn has trained nothing"
    champion = state.models[ended.champion if ended.champion is not None else state.champion or 0]
    phases = {BASE: config.base, TUNED: config.tuned}
    trained = [part for part in phases if phases[part] and _trained(part, challenger, champion)]
    tags = {f"{PREFIX}line": state.line, f"{PREFIX}turn": str(ended.turn), f"{PREFIX}batches": ", ".join(ended.batches)}
    parent: Registration | None = None
    for part in trained:
        parent = parent or _registration(tracking_uri, line, champion.made.get(f"{part}/checkpoint"))
        parent = register_phase(
            tracking_uri, store, line.name, recipe.model, recipe.phase(phases[part]),
            line.gates if part == TUNED else (),
            sequences=challenger.made[f"{part}/sequences"],
            corpus=challenger.made["corpus_valid"],
            checkpoint=challenger.made[f"{part}/checkpoint"],
            export=challenger.made[f"{part}/export"],
            scores=challenger.made.get(f"{part}/scores"),
            safety=challenger.made.get(f"{part}/safety"),
            parent=parent,
            decided_by=f"turn {ended.turn}" if ended.batches else f"the anneal of turn {ended.turn}",
            tags=tags,
        )  # fmt: skip
    assert parent is not None, "a challenger has a phase that its champion does not share"
    return parent.version


def _trained(part: str, challenger: Model, champion: Model) -> bool:
    ours, theirs = (model.made.get(f"{part}/checkpoint") for model in (challenger, champion))
    return ours is not None and (theirs is None or ours.digest != theirs.digest)


def _registration(tracking_uri: str, line: Recipe, checkpoint: object) -> Registration | None:
    """What a checkpoint was registered as, so that tokens and lineage go on from it; None where it never was."""
    digest = getattr(checkpoint, "digest", "")
    with tracking(tracking_uri) as client:
        version = registered(client, f"k2-{line.name}").get(digest)
        return registration_of(client, version) if version is not None else None


def _derived(store: Store, recipe: Recipe, ledger: Ledger) -> Callable[[Ended], Recipe]:
    def recipe_of(ended: Ended) -> Recipe:
        from k2model.continual.continuation import continuation

        if not ended.batches:
            state = ledger.state()
            return continuation(store, recipe, state, state.anneals[ended.turn].began)
        began, then = next(found for found in ledger.beginnings() if found[0].turn == ended.turn)
        return continuation(store, recipe, then, began)

    return recipe_of


def _digest(model: Model) -> str:
    return model.made[f"{TUNED}/checkpoint"].digest


def _described(
    client: "MlflowClient", store: Store, ledger: Ledger, state: State, ended: Ended,
    versions: Mapping[str, "ModelVersion"],
) -> bool:  # fmt: skip
    """Whether the version of a turn's challenger had to be described anew. What was shown already is not read again."""
    if ended.challenger is None:
        return False
    version = versions[_digest(ended.challenger)]
    canary = state.canaries.get(ended.turn, "") if ended.batches else ""
    stands = ended.turn not in state.models or ended.turn in (state.champion, *state.before)
    verdict = ended.verdict.digest if ended.verdict else ""
    shown = fingerprint(["1", ended.outcome, ended.reason, list(ended.batches), verdict, canary, stands, *ended.gates])
    if version.tags.get(SHOWN) == shown:
        return False
    undone = "" if stands else rolled_back(ledger.entries()).get(ended.turn, "")
    found = read_verdict(store, ended.verdict) if ended.verdict else None
    tags = {
        "turn": str(ended.turn), "kickoff": ended.kickoff, "outcome": "rolled back" if undone else ended.outcome.value,
        "reason": ended.reason, "trained_tokens": str(ended.trained_tokens), "canary": canary, "rolled_back": undone,
    }  # fmt: skip
    if ended.verdict:
        tags |= {"verdict.uri": ended.verdict.uri, "verdict.digest": verdict}
    tags |= {row.score: told(row) for row in found.rows} if found else {}
    for key, value in tags.items():
        key = allowed(f"{PREFIX}{key}")
        if value and version.tags.get(key) != value[:LONGEST]:
            client.set_model_version_tag(version.name, str(version.version), key, value[:LONGEST])
    client.update_model_version(version.name, str(version.version), _description(state, ended, found, undone, canary))
    client.set_model_version_tag(version.name, str(version.version), SHOWN, shown)
    return True


def rolled_back(entries: Iterator[Entry]) -> dict[int, str]:
    """Why the models of turns were rolled back, by turn."""
    chain: list[int] = []
    undone: dict[int, str] = {}
    for entry in entries:
        content = entry.content
        if isinstance(content, Start):
            chain = chain or [content.model.turn]
        elif isinstance(content, TurnEnded) and content.ended.outcome is Outcome.PROMOTED:
            chain.append(content.ended.turn)
        elif isinstance(content, Judged) and content.outcome is Outcome.PROMOTED:
            chain.append(content.model.turn)
        elif isinstance(content, Promote):
            chain.append(content.turn)
        elif isinstance(content, Rollback):
            place = chain.index(content.to) + 1
            by = f" (by {content.who})" if content.who else ""
            undone |= {turn: f"{content.reason}{by}" for turn in chain[place:]}
            chain = chain[:place]
    return undone


def _description(state: State, ended: Ended, found: Verdict | None, undone: str, canary: str) -> str:
    """Of a version, as MLflow's page shows it: Markdown, cut where a database takes no more."""
    what = f"Turn {ended.turn}" if ended.batches else f"The anneal of {model_name(ended.turn)} model, for a release"
    lines = [f"**{what}: {ended.outcome.value}.** {ended.reason}", ""]
    if undone:
        lines = [f"**Rolled back:** {undone}", "", *lines]
    lines += [
        f"- batches: {', '.join(ended.batches) or 'none, replay alone'}",
        f"- trained on {ended.trained_tokens:,} tokens",
    ]
    arrivals = [state.batches[name].arrival for name in ended.batches if name in state.batches]
    lines += [f"- evidence of arrival: `{ref.uri}`" for ref in arrivals if ref is not None]
    if ended.verdict:
        lines.append(f"- verdict: `{ended.verdict.uri}/{PAGE}`")
    lines += [f"- {_outcome(one)}: {one.gate}, {one.said}" for one in ended.gates]
    if canary:
        lines.append(f"- canary: {canary}")
    table = ["", "| score | champion | challenger | gain | at worst | allowed | |", "|---|---|---|---|---|---|---|"]
    for row in sorted(found.rows, key=lambda row: (row.passed, not row.target)) if found else ():
        unit = "" if row.unit == "accuracy" else "%"
        bound = "?" if row.bound is None else f"{100 * row.bound:+.1f}{unit}"
        table.append(
            f"| {row.score} | {row.champion:.3f} | {row.challenger:.3f} | {100 * row.gain:+.1f}{unit} | {bound} | "
            f"{-100 * row.allowed:.1f}{unit} | {row.outcome} |"
        )
    text = "\n".join(lines)[: LONGEST - 200]
    for line in table if found else ():
        if len(text) + len(line) > LONGEST - 60:
            return f"{text}\n\nThe verdict has the other rows."
        text += f"\n{line}"
    return text
