"""The description of a registered model, and on the pages of its versions what became of each and why.

All of it is what MLflow holds, so whoever moves an alias may have it told anew (`retell`) without a store.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from k2model.registry.aliases import aliases
from k2model.registry.markdown import CHARACTERS, Row, Section, as_cell, code, page, version_at
from k2model.registry.page import CANNOT_SAY, promotion_of, run_of, tell_promotion
from k2model.registry.phase_record import CHAMPION, KEY, TRAINED, versioned
from k2model.registry.versions import CANDIDATE, versions_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

WHY_CHARACTERS = 90  # of the reason in a row of the table
OPENING = "Checkpoints of recipe"
NOTHING: Mapping[int, Sequence[str]] = MappingProxyType({})
TOLD_BY_A_TURN = "k2.continual.turn"  # tag of versions whose pages a line of continual training writes


def retell(client: "MlflowClient", name: str, why: Mapping[int, Sequence[str]] = NOTHING) -> int:
    """Brings the page of a registered model and the sections on promotion of its versions to what MLflow says now; how
    many had to be written. `why`: lines of Markdown by version on who or what decided, where the caller knows; of the
    others those stay that were told before. Raises MlflowException where there is no such model."""
    versions = sorted(versions_of(client, name), key=lambda one: -int(one.version))
    held = aliases(client, name)
    number = held.get(CHAMPION)
    champion = next(((int(one.version), _linked(one)) for one in versions if int(one.version) == number), None)
    written = 0
    for one in versions:
        if KEY in one.tags and one.description and TOLD_BY_A_TURN not in one.tags:
            said = promotion_of(one.tags.get("k2.promotion", ""), int(one.version), champion)
            written += tell_promotion(client, one, said, why.get(int(one.version)))
    text = _described(client, name, versions, held, champion)
    there = client.get_registered_model(name).description or ""
    if there != text and (not there or there.startswith(OPENING)):  # another one is of whoever wrote it
        client.update_registered_model(name, text)
        written += 1
    return written


def _described(
    client: "MlflowClient", name: str, versions: "list[ModelVersion]", held: dict[str, int],
    champion: tuple[int, str] | None,
) -> str:  # fmt: skip
    by_number: dict[int, list[str]] = {}
    for alias, number in sorted(held.items()):
        by_number.setdefault(number, []).append(alias)
    newest = next((one for one in versions if int(one.version) == held.get(CANDIDATE)), None)
    run = run_of(client, newest) if newest else None
    recipe = name.removeprefix("k2-")
    where = f" Runs: [the experiment](#/experiments/{run.info.experiment_id}/runs)." if run else ""
    opening = [
        f"{OPENING} {code(recipe)}, a version for each phase and each time it came out otherwise. They stand for "
        f"weights in the artifact store; MLflow has none.{where}",
        "",
        f"**Champion: {champion[1]}.**"
        if champion
        else "**There is no champion**: no version has passed what it takes.",
        f"Newest: {_linked(newest)}." if newest else "",
    ]
    rows = [_row(one, by_number.get(int(one.version), [])) for one in versions]
    return page(
        [
            Section("", opening),
            Section(
                "Versions", (), ("version", "aliases", "tokens", "trained", "promotion"), rows, "in the list below"
            ),
        ],
        CHARACTERS,
    )


def _row(version: "ModelVersion", named: list[str]) -> Row:
    tags = version.tags
    why = tags.get("k2.promotion", "")
    told = "promoted" if why == CHAMPION else as_cell(why.removeprefix("none: ")[:WHY_CHARACTERS])
    tokens = tags.get("k2.tokens_seen", "")
    return (
        _linked(version),
        ", ".join(f"**{one}**" if one == CHAMPION else one for one in named) or CANNOT_SAY,
        f"{int(tokens):,}" if tokens.isdigit() else CANNOT_SAY,
        tags.get(TRAINED, "")[:16].replace("T", " ") or CANNOT_SAY,
        told or CANNOT_SAY,
    )


def _linked(version: "ModelVersion") -> str:
    title = versioned(version.tags.get("k2.phase", "version"), version.version)
    return f"[{title}]({version_at(version.name, version.version)})"
