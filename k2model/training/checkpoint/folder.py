"""Checkpoints as folders: sharded safetensors, verified by hash, readable by any number of workers.

    step-0000100/  rank-00000-of-00002.safetensors ...  state.json  manifest.json

Every worker writes the pieces it holds; the manifest comes last, and goes first when a checkpoint is removed, so a
folder without one never counts. What is damaged is refused by name and an earlier one taken. The newest ones are kept
to resume from, and every so many steps one for good, to study how a model came about. torch's DCP and DeepSpeed's
universal checkpoint pickle their metadata, which is why the format is our own. No random number state: training draws
none after initialisation.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from k2model.artifacts import (
    ArtifactRef,
    CorruptArtifact,
    FileEntry,
    Manifest,
    MissingArtifact,
    Store,
    read_manifest,
)
from k2model.artifacts.files import Files, LocalFiles
from k2model.artifacts.manifest import MANIFEST, check_listing, read_verified, remedy, verify_files
from k2model.artifacts.owner import MADE
from k2model.plain import NotPlain, read_as
from k2model.recipe.schema import CheckpointConfig
from k2model.training.checkpoint.shard import MODEL, SUFFIX, StoredPiece, read_header
from k2model.training.checkpoint.tensors import NamedTensors, StoredTensors
from k2model.training.world import World

STATE = "state.json"
FINAL = "final"
CHECKPOINTS = "checkpoints"
_STEP = f"{CHECKPOINTS}/step-"


@dataclass(frozen=True)
class Progress:
    """`state.json`: how far training has come. `step`: completed steps; `tokens`: seen in this phase;
    `identity`: key of the artifact being made; `sequences`: fingerprint of the rows;
    `optimizer_steps`: steps the optimizer state has seen, earlier phases included;
    `interventions`: what was done about spikes so far, oldest first; `ordinary_losses`: of the newest steps that
    were no spike, by which later ones are judged."""

    phase: str
    step: int
    tokens: int
    world_size: int
    optimizer_steps: int
    identity: str
    sequences: str
    interventions: list[dict[str, Any]] = field(default_factory=list)
    ordinary_losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if min(self.step, self.tokens, self.optimizer_steps, self.world_size - 1) < 0:
            raise ValueError(
                "step, tokens, optimizer_steps and world_size are counts, and one worker there is at least"
            )

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; `tensors` are read when asked for. `uri` names it in messages."""

    progress: Progress
    tensors: NamedTensors
    uri: str


def shard_name(world: World) -> str:
    """This worker's file in a checkpoint's folder; files count the workers that wrote them."""
    return f"rank-{world.rank:05d}-of-{world.size:05d}{SUFFIX}"


def write_file(files: Files, path: str, data: bytes | memoryview) -> FileEntry:
    """Write `path` and describe it for the manifest of its folder. Raises StoreWriteError."""
    files.write(path, data)
    return FileEntry.of(path.rpartition("/")[2], data)


def publish(files: Files, folder: str, shards: Sequence[FileEntry], progress: Progress) -> None:
    """Make a checkpoint of the shards that all workers have written. Raises StoreWriteError."""
    state = write_file(files, f"{folder}/{STATE}", progress.to_json())
    files.write(f"{folder}/{MANIFEST}", Manifest((*shards, state)).to_json())


def describe_checkpoint(files: Files, folder: str) -> list[FileEntry]:
    """Entries of the files of a written last checkpoint, its manifest included, for the manifest of its artifact."""
    manifest = files.read(f"{folder}/{MANIFEST}")
    listed = Manifest.from_json(manifest, f"{files.uri}/{folder}").files
    place = folder.split("/")[1] if folder.startswith(f"{MADE}/") else ""
    return [
        FileEntry(f"{FINAL}/{entry.path}", entry.size, entry.sha256, place=place)
        for entry in (*listed, FileEntry.of(MANIFEST, manifest))
    ]


def final_of(owner: str) -> str:
    """Where an attempt writes its last checkpoint: in a place of its own until the artifact is finished."""
    return f"{MADE}/{owner}/{FINAL}"


def is_final(folder: str) -> bool:
    """Whether it is the last checkpoint's, of an attempt or of the artifact."""
    return folder.rpartition("/")[2] == FINAL


def read_checkpoint(files: Files, world: World = World()) -> Checkpoint:  # noqa: B008  a world is frozen
    """The checkpoint that `files` is at, every byte of it verified before any is used. Collective.

    Raises CorruptArtifact or MissingArtifact on every worker, naming the file that is missing or damaged.
    """
    manifest, progress = world.broadcast(lambda: _read_progress(files))
    return _verified(files, manifest, progress, world)


def newest_checkpoint(files: Files, identity: str, world: World, before: int | None = None) -> Checkpoint | None:
    """The newest good checkpoint of an artifact's folder, of step `before` or less, or None. Collective.

    What is damaged or of another identity is skipped loudly; a finished `final` counts as the newest.
    Raises ArtifactError when the store cannot be read: that says nothing about the checkpoints in it.
    """
    limit = sys.maxsize if before is None else before
    for folder in world.broadcast(lambda: _newest_first(files)):
        if not is_final(folder) and step_of(folder) > limit:
            continue
        at = files.at(folder)
        try:
            manifest, progress = world.broadcast(lambda at=at: _read_progress(at))  # type: ignore[misc]
            if progress.identity != identity:
                _say(world, f"{at.uri} is of another run ({progress.identity}), ignored")
            elif progress.step <= limit:
                return _verified(at, manifest, progress, world)
        except (CorruptArtifact, MissingArtifact) as error:
            _say(world, f"checkpoint refused, trying an earlier one: {error}")
    return None


def finished(store: Store, ref: ArtifactRef) -> Files:
    """Where the last checkpoint of a finished artifact lies, for `read_checkpoint`. Raises MissingArtifact or
    CorruptArtifact when that is not the one of the reference."""
    files, manifest = store.look_up(ref)
    read_verified(files, manifest, f"{FINAL}/{MANIFEST}")
    return files.at(FINAL)


def open_model_state(store: Store, ref: ArtifactRef) -> NamedTensors:
    """The model's tensors of a finished checkpoint, as `load_model_state` gives them, each read when it is asked for:
    every byte is verified where it lies, and nothing is fetched or held. Raises as `finished` and `read_checkpoint`."""
    return read_checkpoint(finished(store, ref)).tensors.below(MODEL)


def load_model_state(folder: Path | str) -> dict[str, Tensor]:
    """The model's tensors (fp32, named as in `K2Model.state_dict()`) of a checkpoint, all in memory.

    `folder`: of a checkpoint, or of a checkpoint artifact, whose `final/` is read. Hashes are left to
    `store.fetch`. Raises CorruptArtifact when a tensor file is missing or unreadable.
    """
    folder = Path(folder)
    files = LocalFiles(folder / FINAL if (folder / FINAL).is_dir() else folder)
    shards = {path: size for path, size in files.sizes().items() if path.endswith(SUFFIX)}
    if not shards:
        raise CorruptArtifact(
            f"{files.uri} holds no rank-*{SUFFIX}; expected the folder of a checkpoint or a checkpoint artifact"
        )
    pieces = [piece for path, size in sorted(shards.items()) for piece in read_header(files, path, size)]
    tensors = StoredTensors(files, (piece for piece in pieces if piece.name.startswith(MODEL))).below(MODEL)
    return {name: tensors[name] for name in sorted(tensors)}


def _newest_first(files: Files) -> list[str]:
    finals = [FINAL] if files.exists(f"{FINAL}/{MANIFEST}") else []
    made = (path.removesuffix(f"/{MANIFEST}") for path in files.sizes(MADE) if path.endswith(f"/{MANIFEST}"))
    finals += sorted(folder for folder in made if is_final(folder))  # of attempts that did not come to finish it
    return finals + [folder for _, folder in reversed(list_checkpoints(files))]


def _read_progress(files: Files) -> tuple[Manifest, Progress]:
    manifest = read_manifest(files)
    check_listing(files, manifest)
    try:
        return manifest, read_as(Progress, read_verified(files, manifest, STATE))
    except NotPlain as error:
        raise CorruptArtifact(f"{files.uri}/{STATE} is no training state ({error}). {remedy(files.uri)}") from error


def _verified(files: Files, manifest: Manifest, progress: Progress, world: World) -> Checkpoint:
    """Each worker hashes its share of the files and reads their headers; all agree before anything is used."""
    shards = sorted((e for e in manifest.files if e.path.endswith(SUFFIX)), key=lambda entry: entry.path)

    def verify_share() -> list[StoredPiece]:
        pieces = []
        for entry in shards[world.rank :: world.size]:
            verify_files(files, [entry])
            pieces += read_header(files, entry.path, entry.size)
        return pieces

    shares = world.all_gather(verify_share)
    tensors = StoredTensors(files, (piece for share in shares for piece in share))
    return Checkpoint(progress, tensors, files.uri)


def _say(world: World, what: str) -> None:
    if world.first:
        print(f"k2: {what}", file=sys.stderr, flush=True)


def step_folder(step: int) -> str:
    """Where the checkpoint after `step` completed steps lies in its artifact."""
    return f"{_STEP}{step:07d}"


def step_of(folder: str) -> int:
    """The inverse of `step_folder`."""
    return int(folder.removeprefix(_STEP))


def list_checkpoints(files: Files) -> list[tuple[int, str]]:
    """(step, folder) of the checkpoints beside an artifact's `final/`, oldest first; unfinished ones left out.

    `files`: at the artifact. Each folder verifies itself by its manifest (`read_checkpoint`).
    """
    return sorted((step_of(folder), folder) for folder, complete in _folders(files).items() if complete)


def is_kept_for_good(step: int, config: CheckpointConfig) -> bool:
    """Whether the checkpoint of `step` stays when the phase has finished."""
    return config.keep_every > 0 and step % config.keep_every == 0


def prune(files: Files, config: CheckpointConfig, rollback_before: int | None = None) -> None:
    """Remove the checkpoints that are neither among the newest, nor kept for good, nor the newest one of step
    `rollback_before` or less; with them what unfinished saves have left behind."""
    complete = list_checkpoints(files)
    steps = [step for step, _ in complete]
    kept = set(steps[-max(config.keep_last, 1) :]) | {step for step in steps if is_kept_for_good(step, config)}
    if rollback_before is not None:
        kept |= set([step for step in steps if step <= rollback_before][-1:])
    newest = steps[-1] if steps else 0
    for folder in _folders(files):
        if step_of(folder) not in kept and step_of(folder) < newest:
            remove_checkpoint(files, folder)


def keep_for_good_only(files: Files, config: CheckpointConfig) -> None:
    """What stays beside `final/` once it stands by itself."""
    for folder, complete in _folders(files).items():
        if not (complete and is_kept_for_good(step_of(folder), config)):
            remove_checkpoint(files, folder)


def discard_after(files: Files, step: int, guard: Callable[[], None]) -> None:
    """Remove all checkpoints of later steps, finished or not; `guard` is called before each."""
    for folder in _folders(files):
        if step_of(folder) > step:
            guard()
            remove_checkpoint(files, folder)


def discard_final(files: Files, guard: Callable[[], None]) -> None:
    """Remove a `final/` that an attempt brought to its place and did not live to finish. It is looked for before
    `guard` is called, which raises where a successor has made one since."""
    if files.sizes(FINAL):
        guard()
        remove_checkpoint(files, FINAL)


def remove_checkpoint(files: Files, folder: str) -> None:
    """Manifest first: a checkpoint removed by half never counts."""
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
