"""The gates on a model's artifacts, which lifecycles and turns are held to alike: parity, provenance, manifests.

They ask nothing of what a model can do: whether its export says what its checkpoint says, which code made it, and
whether its files are whole. What a model came of is read from the store's records, which know the checkpoint that each
was trained from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from k2model.artifacts import ArtifactRef, Store, make
from k2model.artifacts.identity import artifact_name
from k2model.artifacts.record import ref_of
from k2model.continual.state import TUNED, Checked, Model
from k2model.continual.verdict.canary import damaged
from k2model.continual.verdict.parity import parity_step, read_parity
from k2model.recipe import Recipe
from k2model.recipe.counts import count_parameters

IN_PLACE = 50_000_000  # parameters of a model that is measured where it is registered: in fp32 two of them in 0.4 GB
SHOWN = 3  # of a list that a sentence names
Record = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A model whose artifacts are asked. waiver, remedy: the commands that let it pass without `provenance`, and that
    measure it. measure: whether what is missing is measured, whatever it takes; a small model's always is. champion:
    the model that it goes on from: what that was made by was asked when it became the champion."""

    store: Store
    recipe: Recipe
    model: Model
    waiver: str
    remedy: str
    measure: bool = False
    champion: Model | None = None

    @property
    def measures(self) -> bool:
        return self.measure or measured_in_place(self.recipe)


def measured_in_place(recipe: Recipe) -> bool:
    """Whether a model is measured where it is decided on: it is small, and what runs it is installed."""
    return count_parameters(recipe.model) <= IN_PLACE and all(map(find_spec, ("torch", "transformers")))


def artifact_gates(asked: Asked) -> list[Checked]:
    """Those that the recipe asks, and `manifests`, which always is."""
    config, whole = asked.recipe.promotion, manifests(asked.store, asked.model)
    found = []
    if config.parity:
        found.append(
            parity(asked) if whole.passed else Checked("parity", False, "its files are damaged", measured=False)
        )
    if config.provenance:
        found.append(provenance(asked))
    return [*found, whole]


def parity(asked: Asked) -> Checked:
    """Whether the export gives tokens the log-probabilities that the checkpoint gives."""
    made, bound = asked.model.made, asked.recipe.promotion.parity
    step = parity_step(asked.store, asked.recipe.model, made[f"{TUNED}/checkpoint"], made[f"{TUNED}/export"])
    found = asked.store.find(step.identity)
    if found is None and not asked.measures:
        why = "" if find_spec("torch") else " (torch is not installed here)"
        said = f"not measured{why}: checkpoint beside export; {asked.remedy}"
        return Checked("parity", False, said, measured=False)
    told = read_parity(asked.store, found or make(asked.store, step))
    apart, length = told["difference"], int(told["length"])
    said = f"at the end of {length:,} tokens the export differs by up to {apart:.2g} nats, at most {bound:g} is allowed"
    return Checked("parity", apart <= bound, said, apart, 0.0, bound)


def provenance(asked: Asked) -> Checked:
    """Whether all that the model came of, from its champion on, was made by code as a commit has it."""
    store, made = asked.store, asked.model.made
    known = asked.champion.made if asked.champion else {}
    until = {ref.name for name, ref in known.items() if name.endswith("/checkpoint")}
    records = [(one.phase, one.record) for one in ancestry(store, made[f"{TUNED}/checkpoint"], until)]
    records += [(part, store.record(made[f"{TUNED}/{part}"])) for part in ("export", "scores", "safety")
                if f"{TUNED}/{part}" in made]  # fmt: skip
    code = {name: record["provenance"].get("git") or {} for name, record in records}
    unknown = [name for name, git in code.items() if not git.get("commit")]
    dirty = [name for name, git in code.items() if git.get("commit") and git.get("dirty")]
    against = [f"{some(unknown)}: made outside of a git checkout, so by no commit that is known"] if unknown else []
    against += [f"{some(dirty)}: made by code that differs from its commit"] if dirty else []
    if against:
        said = (
            f"{'; '.join(against)}. What is there is not made again: let it pass by name ({asked.waiver} --by NAME "
            "--why TEXT), and commit before the next one"
        )
        return Checked("provenance", False, said)
    commits = list(dict.fromkeys(git["commit"][:12] for git in code.values()))
    return Checked("provenance", True, f"made by commit{'s' if len(commits) > 1 else ''} {some(commits)}")


def manifests(store: Store, model: Model) -> Checked:
    """Whether the files of checkpoint, export and scores are those of their manifests."""
    parts = [name for name in ("checkpoint", "export", "scores", "safety") if f"{TUNED}/{name}" in model.made]
    broken = [said for name in parts if (said := damaged(store, model.made[f"{TUNED}/{name}"]))]
    if broken:
        return Checked("manifests", False, f"{some(broken)}. Bring the files back from a copy of the store")
    return Checked("manifests", True, f"{', '.join(parts)}: every file is that of its manifest")


@dataclass(frozen=True)
class Trained:
    """A phase that a checkpoint came of, and the record of it."""

    phase: str
    checkpoint: ArtifactRef
    record: Record


def ancestry(store: Store, checkpoint: ArtifactRef, until: set[str] | frozenset[str] = frozenset()) -> list[Trained]:
    """The phases that a checkpoint came of, its own first, up to one that began at random, at an adopted model or at a
    checkpoint of a name in `until`."""
    records = {artifact_name("checkpoint", record["identity"]): record for record in store.records("checkpoint")}
    found: list[Trained] = []
    name: str | None = checkpoint.name
    while name is not None and name not in until and (record := records.get(name)) is not None:
        found.append(Trained(record["config"]["phase"]["name"], ref_of(record, store.uri), record))
        parent = record["inputs"].get("parent")
        name = parent["uri"] if parent else None
    return found


def some(names: Sequence[str]) -> str:
    """The first of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
