"""reasoning-gym without its SAT solver.

Importing any part of reasoning-gym imports all of its datasets. One of them, zebra_puzzles, imports pycosat, which
is published as source only and would make a C compiler part of the set-up. Where pycosat is absent, that dataset is
left out of the import; `SOLVER_DATASETS` says what then cannot be drawn.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

SOLVER = "pycosat==0.6.6"  # the one that reasoning-gym 0.1.25 asks for
SOLVER_DATASETS = frozenset({"zebra_puzzles"})


def gym_module(name: str = "") -> ModuleType:
    """A module of reasoning-gym by its name within it, such as `logic.knights_knaves`; "" is the package itself."""
    if not has_solver():
        # What reasoning_gym.logic imports by name of the one module that needs the solver.
        absent = ModuleType("reasoning_gym.logic.zebra_puzzles")
        absent.ZebraConfig = absent.ZebraCurriculum = absent.ZebraDataset = None  # type: ignore[attr-defined]
        sys.modules.setdefault(absent.__name__, absent)
    return import_module(f"reasoning_gym.{name}" if name else "reasoning_gym")


def has_solver() -> bool:
    return find_spec("pycosat") is not None
