"""Checkpoints as files: sharded safetensors, verified by hash, readable by any number of workers.

    step-0000100/  rank-00000-of-00002.safetensors ...  state.json  manifest.json

Every worker writes its share, balanced by bytes; the manifest comes last, so a folder without one
never counts. What is damaged is refused by name and an earlier one taken. No pickle, and no random
number state: training draws none after initialisation.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from k2model.artifacts import ArtifactError, CorruptArtifact, FileEntry, Manifest, read_manifest, write_manifest
from k2model.artifacts.files import Files
from k2model.artifacts.manifest import MANIFEST, check_hash, check_listing
from k2model.training.state import MODEL, NamedState, TrainingState
from k2model.training.world import World

STATE = "state.json"
FINAL = "final"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Progress:
    """`state.json`: how far training has come. `step`: completed steps; `tokens`: seen in this phase;
    `identity`: key of the artifact being made; `sequences`: fingerprint of the rows;
    `optimizer_steps`: steps the optimizer state has seen, earlier phases included."""

    phase: str
    step: int
    tokens: int
    world_size: int
    optimizer_steps: int
    identity: str
    sequences: str


def step_folder(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:07d}"


def assign(shapes: Mapping[str, torch.Size], workers: int) -> list[set[str]]:
    """Which names each worker writes: the largest first, each to the worker with the fewest bytes so far."""
    shares: list[set[str]] = [set() for _ in range(workers)]
    load = [0] * workers
    for name, shape in sorted(shapes.items(), key=lambda item: (-item[1].numel(), item[0])):
        worker = min(range(workers), key=lambda w: (load[w], w))
        shares[worker].add(name)
        load[worker] += shape.numel()
    return shares


def write_checkpoint(
    files: Files, folder: str, state: NamedState, shapes: Mapping[str, torch.Size], progress: Progress, world: World
) -> None:
    """Write `folder` (relative to `files`), replacing what is there. Collective.

    Raises StoreWriteError on every worker when any of them cannot write.
    """
    from safetensors.torch import save

    world.agree(lambda: files.remove(folder))
    tensors = state.collect(assign(shapes, world.size)[world.rank])

    def write_share() -> FileEntry:
        name = f"rank-{world.rank:05d}-of-{world.size:05d}.safetensors"
        return _write(files, folder, name, save(dict(sorted(tensors.items()))))

    entries = world.together(write_share)

    def finish() -> None:
        content = (json.dumps(asdict(progress), indent=1) + "\n").encode()
        entries.append(_write(files, folder, STATE, content))
        write_manifest(files.at(folder).uri, Manifest(tuple(entries)))

    world.agree(finish)


def _write(files: Files, folder: str, name: str, data: bytes) -> FileEntry:
    files.write(f"{folder}/{name}", data)
    return FileEntry(name, len(data), hashlib.sha256(data).hexdigest())


def describe_checkpoint(files: Files, folder: str) -> list[FileEntry]:
    """Entries of a written checkpoint's files, its manifest included, for the manifest of its artifact."""
    manifest = files.read(f"{folder}/{MANIFEST}")
    own = FileEntry(f"{folder}/{MANIFEST}", len(manifest), hashlib.sha256(manifest).hexdigest())
    listed = Manifest.from_json(manifest, f"{files.uri}/{folder}").files
    return [FileEntry(f"{folder}/{entry.path}", entry.size, entry.sha256) for entry in listed] + [own]


def read_checkpoint(files: Files) -> tuple[Progress, dict[str, Tensor]]:
    """State and all tensors of the checkpoint that `files` is at, every byte verified.

    Raises ArtifactError naming the file that is missing or damaged.
    """
    from safetensors.torch import load

    manifest = read_manifest(files.uri)
    check_listing(files, manifest)
    progress: Progress | None = None
    tensors: dict[str, Tensor] = {}
    for entry in manifest.files:
        data = files.read(entry.path)
        check_hash(files.uri, entry, hashlib.sha256(data).hexdigest())
        if entry.path == STATE:
            progress = Progress(**json.loads(data))
        else:
            tensors.update(load(data))
    if progress is None:
        raise CorruptArtifact(f"{files.uri}/{STATE} is not in the manifest: this is no checkpoint. Delete the folder")
    return progress, tensors


def newest_checkpoint(files: Files, identity: str, world: World) -> tuple[Progress, TrainingState] | None:
    """The newest good checkpoint of an artifact's folder, or None. Collective.

    Rank 0 decides, loudly skipping what is damaged or of another identity; a finished `final` counts
    as the newest.
    """

    def choose() -> str | None:
        for folder in _candidates(files):
            try:
                progress, _ = read_checkpoint(files.at(folder))
            except ArtifactError as error:
                print(f"k2: checkpoint refused, trying an earlier one: {error}", file=sys.stderr, flush=True)
                continue
            if progress.identity == identity:
                return folder
            print(f"k2: {files.uri}/{folder} is of another run ({progress.identity}), ignored", file=sys.stderr)
        return None

    folder = world.agree(choose)
    if folder is None:
        return None
    progress, tensors = read_checkpoint(files.at(folder))
    return progress, TrainingState(tensors, progress.optimizer_steps, f"{files.uri}/{folder}")


def _candidates(files: Files) -> list[str]:
    """Folders with a manifest, newest first."""
    folders = {path.rpartition("/")[0] for path in files.sizes() if path.rpartition("/")[2] == MANIFEST}
    saved = sorted((f for f in folders if f.startswith(f"{CHECKPOINTS}/step-")), reverse=True)
    return ([FINAL] if FINAL in folders else []) + saved


def prune(files: Files, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints; one that is being written is not among them."""
    saved = [folder for folder in _candidates(files) if folder != FINAL]
    for folder in saved[max(keep, 1) :]:
        files.remove(folder)


def load_model_state(folder: Path | str) -> dict[str, Tensor]:
    """The model's tensors (fp32, named as in `K2Model.state_dict()`) of a checkpoint.

    `folder`: of a checkpoint, or of a checkpoint artifact, whose `final/` is read. Hashes are left to
    `store.fetch`. Raises CorruptArtifact when there is no tensor file.
    """
    from safetensors import safe_open

    folder = Path(folder)
    if (folder / FINAL).is_dir():
        folder = folder / FINAL
    tensors = {}
    paths = sorted(folder.glob("rank-*-of-*.safetensors"))
    if not paths:
        raise CorruptArtifact(f"{folder} holds no rank-*.safetensors; expected the folder of a checkpoint artifact")
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  not a dict
                if name.startswith(MODEL):
                    tensors[name.removeprefix(MODEL)] = file.get_tensor(name)
    return dict(sorted(tensors.items()))
