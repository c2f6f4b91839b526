"""Which checkpoints of a phase there are, and which of them stay.

The newest ones are kept to resume from and every so many steps one for good, to study how a model came
about: those stay beside `final/` when the phase has finished. A checkpoint is removed manifest first, so
that one removed by half never counts.
"""

from k2model.artifacts.files import Files
from k2model.artifacts.manifest import MANIFEST
from k2model.recipe.schema import Cadence

FINAL = "final"
CHECKPOINTS = "checkpoints"
_STEP = f"{CHECKPOINTS}/step-"


def step_folder(step: int) -> str:
    return f"{_STEP}{step:07d}"


def step_of(folder: str) -> int:
    """The inverse of `step_folder`."""
    return int(folder.removeprefix(_STEP))


def list_checkpoints(files: Files) -> list[tuple[int, str]]:
    """(step, folder) of the checkpoints beside an artifact's `final/`, oldest first; unfinished ones left out.

    `files`: at the artifact. Each folder verifies itself by its manifest (`read_checkpoint`).
    """
    return sorted((step_of(folder), folder) for folder, complete in _folders(files).items() if complete)


def is_kept_for_good(step: int, cadence: Cadence) -> bool:
    return cadence.keep_every > 0 and step % cadence.keep_every == 0


def prune(files: Files, cadence: Cadence, rollback_before: int | None = None) -> None:
    """Remove the checkpoints that are neither among the newest, nor kept for good, nor the newest one of step
    `rollback_before` or less; with them what unfinished saves have left behind."""
    complete = list_checkpoints(files)
    steps = [step for step, _ in complete]
    kept = set(steps[-max(cadence.keep_last, 1) :]) | {step for step in steps if is_kept_for_good(step, cadence)}
    if rollback_before is not None:
        kept |= set([step for step in steps if step <= rollback_before][-1:])
    newest = steps[-1] if steps else 0
    for folder in _folders(files):
        if step_of(folder) not in kept and step_of(folder) < newest:
            remove_checkpoint(files, folder)


def keep_for_good_only(files: Files, cadence: Cadence) -> None:
    """What stays beside `final/` once it stands by itself."""
    for folder, complete in _folders(files).items():
        if not (complete and is_kept_for_good(step_of(folder), cadence)):
            remove_checkpoint(files, folder)


def discard_after(files: Files, step: int) -> None:
    """Remove all checkpoints of later steps, finished or not, and a `final/`."""
    for folder in [FINAL, *(folder for folder in _folders(files) if step_of(folder) > step)]:
        remove_checkpoint(files, folder)


def remove_checkpoint(files: Files, folder: str) -> None:
    files.remove(f"{folder}/{MANIFEST}")
    files.remove(folder)


def _folders(files: Files) -> dict[str, bool]:
    """Every checkpoint's folder, and whether it has a manifest."""
    found: dict[str, bool] = {}
    for path in sorted(files.sizes(CHECKPOINTS)):
        folder, _, name = path.rpartition("/")
        if folder.removeprefix(_STEP).isdigit():
            found[folder] = found.get(folder, False) or name == MANIFEST
    return found
