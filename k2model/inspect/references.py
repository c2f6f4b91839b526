"""What a person calls an artifact of a store, as its record.

| reference | what it is |
|---|---|
| `sft/checkpoint`, `tokens` | as `k2 plan` prints it: what the recipe, as it stands, has made of it |
| `sft`, `theirs` | the checkpoint of a phase, or of an adopted model |
| `turn_1_sft/checkpoint` | as a release in the store has it |
| `sft@6`, `model@champion`, `k2-laptop@6` | a version, or an alias, of the recipe's registered model or another |
| `release`, `checkpoint/0123456789abcdef`, `0123456` | a step (the newest of it), its key, the beginning of a digest |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from k2model.artifacts import MissingArtifact, Store
from k2model.errors import K2Error, nearest
from k2model.inspect.artifact import find_record, open_existing
from k2model.inspect.inventory import Inventory, take_inventory
from k2model.inspect.lineage import lineage_of
from k2model.recipe import Recipe, chosen_recipe
from k2model.reporting.lineage import Lineage
from k2model.reporting.lineage.graph import Key, Record, key_of
from k2model.settings import masked
from k2model.units import whole_number

_KEY = re.compile(r"[a-z][a-z0-9_]*/[0-9a-f]+|[0-9a-f]{6,64}")
MODEL = "model"  # as a registered model's name: that of the recipe
_SHOWN = 4


@dataclass(frozen=True)
class Named:
    """What a reference names. `note`: what a person has to know of how it was found; "" = nothing."""

    asked: str
    record: Record
    note: str = ""

    @property
    def key(self) -> Key:
        return key_of(self.record)


@dataclass(frozen=True)
class Names:
    """Names in a store, beside a recipe. The recipe is read and planned when a name is one of its own, MLflow asked
    when one is a version."""

    store: Store
    recipe_name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tracking_uri: str = ""

    @classmethod
    def of(
        cls, store_uri: str, recipe: str, overrides: Mapping[str, Any] | None = None, tracking_uri: str = ""
    ) -> "Names":
        """Raises MissingArtifact where there is no store."""
        return cls(open_existing(store_uri), recipe, dict(overrides or {}), tracking_uri)

    @cached_property
    def inventory(self) -> Inventory:
        return take_inventory(self.store)

    @cached_property
    def lineage(self) -> Lineage:
        return lineage_of(self.inventory)

    @cached_property
    def recipe(self) -> Recipe:
        return chosen_recipe(self.recipe_name, self.overrides)

    def find(self, reference: str) -> Named:
        """Raises MissingArtifact for what names nothing, or several things; RegistryError where MLflow has to be asked
        and cannot be."""
        if "@" in reference:
            return self._version(reference)
        if _KEY.fullmatch(reference):
            return Named(reference, find_record(self.inventory.records(), reference))
        of_recipe = self._of_recipe(reference)
        name, note = of_recipe or reference, ""
        if of_recipe:
            record, note = self._made(of_recipe)
            if record is not None:
                return Named(reference, record)
        if "/" not in name:
            return Named(reference, find_record(self.inventory.records(), reference), note)
        called = [key for key, own in self.lineage.names.items() if own == name]
        if len(called) == 1:
            return Named(reference, self.lineage.records[called[0]], note)
        if called:
            raise MissingArtifact(
                f"'{reference}' is the name of {len(called)} artifacts of {self.store.uri}: {self._listed(called)}. "
                f"{f'{note}. ' if note else ''}Name one by step/key or as a version (sft@6), or the recipe that made "
                "it by --recipe and --set"
            )
        if note:
            raise MissingArtifact(f"{note}; `k2 plan` says what would make it, `k2 status` what there is")
        return Named(reference, find_record(self.inventory.records(), reference))

    def _of_recipe(self, reference: str) -> str | None:
        """The name in the recipe's lifecycle; None where it has no such name."""
        from k2model.lifecycle.steps import full_name, rows

        names = [full_name(row, owner) for row, owner in rows(self.recipe)]
        return next((name for name in (reference, f"{reference}/checkpoint") if name in names), None)

    @cached_property
    def _planned(self) -> dict[str, tuple[str, Any]]:
        """What the recipe makes of each name here: whether it is there, and its reference."""
        from k2model.lifecycle.plan import decide
        from k2model.lifecycle.steps import rows

        found = decide(self.store, self.recipe, list(rows(self.recipe)))
        return {decision.name: (decision.action, ref) for decision, ref in found}

    def _made(self, name: str) -> tuple[Record | None, str]:
        """The record of what the recipe has made, or None and why."""
        try:
            action, ref = self._planned[name]
        except K2Error as error:
            return None, f"recipe {self.recipe_name} cannot be planned here ({error})"
        if action in ("cached", "damaged"):
            for known in self.inventory.known.values():
                if known.name == ref.name and known.told:
                    return known.told, ""
        return None, f"{name} of recipe {self.recipe.name}, as it stands, is not in {self.store.uri}"

    def _version(self, reference: str) -> Named:
        from k2model.registry.database import database_file
        from k2model.registry.gates import RegistryError
        from k2model.registry.tracking import tracking
        from k2model.registry.versions import aliases, registered

        who, _, which = reference.partition("@")
        owners = [phase.name for phase in self.recipe.phases]
        model = f"k2-{self.recipe.name}" if who == MODEL or who in owners else who
        file = database_file(self.tracking_uri)
        if file and not file.exists():  # to look makes none
            raise RegistryError(
                f"'{reference}': there is no MLflow at {masked(self.tracking_uri)}; check MLFLOW_TRACKING_URI"
            )
        with tracking(self.tracking_uri) as client:
            versions = {int(one.version): digest for digest, one in registered(client, model).items()}
            held = aliases(client, model)
        if not versions:
            raise RegistryError(
                f"'{reference}': MLflow has no registered model '{model}'. Expected PHASE@VERSION of the recipe "
                f"({', '.join(owners)}), {MODEL}@champion, or the name of a registered model before the @"
            )
        number = held.get(which) if (stated := whole_number(which)) is None else stated
        if number not in versions:
            kept = "; a checkpoint within a phase is asked for by `k2 eval compare`" if who in owners else ""
            known = [*map(str, sorted(versions)), *held]
            raise RegistryError(
                f"'{reference}': {model} has no version or alias '{which}'; {nearest(which, known)}{kept}"
            )
        digest = versions[number]
        record = self.lineage.records.get(("checkpoint", digest))
        if record is None:
            raise MissingArtifact(
                f"'{reference}': version {number} of {model} is the checkpoint with the digest {digest[:12]}, which "
                f"{self.store.uri} knows nothing of; name the store it lies in (--store)"
            )
        phase = self._phase(digest)
        if who in owners and phase != who:
            own = [n for n in sorted(versions) if self._phase(versions[n]) == who]
            raise RegistryError(
                f"'{reference}': version {number} of {model} is of {f'phase {phase}' if phase else 'no phase'}; those "
                f"of {who} are {', '.join(map(str, own)) or 'none'}"
            )
        return Named(reference, record)

    def _phase(self, digest: str) -> str:
        record = self.lineage.records.get(("checkpoint", digest), {})
        phase = record.get("config", {}).get("phase")
        return str(phase.get("name", "")) if isinstance(phase, Mapping) else ""

    def _listed(self, keys: list[Key]) -> str:
        def told(key: Key) -> str:
            return f"{self.lineage.place(key)} (made {str(self.lineage.records[key]['provenance']['ended'])[:16]})"

        newest = [*map(told, reversed(keys))]
        return ", ".join(newest[:_SHOWN]) + (f" and {len(newest) - _SHOWN} more" if len(newest) > _SHOWN else "")
