"""What a person calls a model, as a `Subject` that can be asked.

| reference | what it is |
|---|---|
| `mid_4` | the export of a phase of the recipe, or of a model that it adopts |
| `mid_1@200` | the weights of a checkpoint that its training keeps (`checkpoints.keep_every`), with no export of it |
| `export/0123456789abcdef`, `0123456789` | an export in the store, by its name or the beginning of its digest |
| `path/to/folder` | weights in Hugging Face's form, or a release of this project |
| `https://host/v1#model` | a model behind an OpenAI-compatible server |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from k2model.artifacts import ArtifactRef, MissingArtifact, Store
from k2model.artifacts.entry import FileEntry
from k2model.artifacts.files import files_at
from k2model.artifacts.manifest import MOST, describe_folder, read_manifest, verify_files
from k2model.artifacts.outside import read_typed
from k2model.artifacts.record import ref_of
from k2model.errors import EvaluationError, K2Error, nearest
from k2model.evals.cells import SERVED, Subject
from k2model.evals.measures import Bounds
from k2model.recipe.schema import ModelConfig, PhaseKind, Recipe

if TYPE_CHECKING:
    import torch

    from k2model.evals.backend import Backend
    from k2model.evals.backends import OwnModel
    from k2model.model.parallel import Shard
    from k2model.model.transformer import K2Model

#: How models are run, as identities have it. The project's own multiply in bf16 on every device.
OWN = {"backend": "own", "precision": "bf16"}
TRANSFORMERS = {"backend": "transformers", "precision": "fp32"}
EXPORTS = ("export", "adopted_export")
CONFIG, RELEASE, WEIGHTS = "config.json", "RELEASE_MANIFEST.json", "model"  # of folders; the last two of releases
ARTIFACT = "artifact.json"  # of a copy out of a store


@dataclass(frozen=True)
class Known:
    """A recipe and its artifacts by name in the lifecycle: those that are `made`, and where all are or will be."""

    recipe: Recipe
    made: Mapping[str, ArtifactRef]
    planned: Mapping[str, ArtifactRef]

    def of(self, phase: str, kind: str) -> ArtifactRef:
        """Raises MissingArtifact for one that is not made yet."""
        found = self.made.get(name := f"{phase}/{kind}" if phase else kind)
        if found is None:
            raise MissingArtifact(
                f"{name} of recipe {self.recipe.name} is not in the store yet; `k2 plan` says what would make it"
            )
        return found


def subject_of(reference: str, store: Store, known: Known, backend: str = "own", api_key_env: str = "") -> Subject:
    """The model that a reference names, and nothing loaded yet; an adopted or foreign one is asked as one before
    fine-tuning is (`kind_of`).

    api_key_env: name of the environment variable with a server's key, "" = none is sent.

    Raises EvaluationError for a reference that names nothing, MissingArtifact for what is not there yet,
    CorruptArtifact for a checkpoint whose manifest is damaged.
    """
    if reference.startswith(("http://", "https://")):
        return served(reference, api_key_env)
    phase, at, step = reference.partition("@")
    if phase in _rows(known.recipe):
        if at:
            return checkpoint(phase, step, store, known)
        return exported(
            known.of(phase, "export"), known.of("", "tokenizer"), store, phase, known.recipe.row(phase).sequence_length,
            backend=backend,
        )  # fmt: skip
    if (found := _in_store(reference, store)) is not None:
        folder = store.fetch(found, lambda path: path == CONFIG)
        return exported(found, None, store, reference, _stated_length(folder), backend=backend)
    if Path(reference).is_dir():
        return stored(Path(reference), backend)
    raise EvaluationError(
        f"'{reference}' names no model: it is no phase of {known.recipe.name} ({nearest(phase, _rows(known.recipe))}), "
        "no export of the store and no folder. Expected PHASE, PHASE@STEP, export/KEY, a folder in Hugging Face's "
        "form, or https://HOST/v1#MODEL"
    )


def kind_of(reference: str, recipe: Recipe) -> PhaseKind:
    """As what a model is asked: a phase as its own kind, any other as a base model."""
    row = next((one for one in recipe.phases if one.name == reference.partition("@")[0]), None)
    return row.kind if row else PhaseKind.MIDTRAIN


def exported(
    export: ArtifactRef,
    tokenizer: ArtifactRef | None,
    store: Store,
    name: str,
    window: int,
    rope_theta: float | None = None,
    backend: str = "own",
) -> Subject:
    """The model of an export, asked in a tokenizer of the store, None = in its own. window: tokens it was trained with.
    rope_theta: instead of its own, None = that."""
    inputs = {"export": export} | ({"tokenizer": tokenizer} if tokenizer else {})
    if backend == "transformers":
        return _by_transformers(name, inputs, {}, window, lambda: store.fetch(export))

    def opened(positions: int) -> "Backend":
        return own_model(store.fetch(export), store.fetch(tokenizer or export), name, positions, rope_theta)

    told = OWN | ({"rope_theta": rope_theta} if rope_theta else {})
    return Subject(name, inputs, told, Bounds(window), opened)


class _Listed(TypedDict):
    files: list[FileEntry]


def stored(folder: Path, backend: str = "own") -> Subject:
    """The weights of a folder in Hugging Face's form, or the last phase's of a release. What lies there bears identity,
    where it lies does not. Raises CorruptArtifact where the folder lists its files and they are not as listed."""
    if (folder / RELEASE).is_file():
        files = files_at(str(folder))
        listed = read_typed(_Listed, files, RELEASE, "the manifest of a release", "Get the release again", MOST)[
            "files"
        ]
        verify_files(files, (one for one in listed if one.path.startswith(f"{WEIGHTS}/")))
        folder = folder / WEIGHTS
    elif (folder / ARTIFACT).is_file():
        verify_files(files_at(str(folder)), read_manifest(folder).files)
    if not (folder / CONFIG).is_file():
        raise EvaluationError(f"{folder} holds no {CONFIG}; expected weights in Hugging Face's form, or a release")
    window, content = _stated_length(folder), {"content": describe_folder(folder).digest}
    if backend == "transformers":
        return _by_transformers(folder.name, {}, content, window, lambda: folder)

    def opened(positions: int) -> "Backend":
        return own_model(folder, folder, folder.name, positions)

    return Subject(folder.name, {}, OWN | content, Bounds(window), opened)


def checkpoint(phase: str, step: str, store: Store, known: Known) -> Subject:
    """The weights of a kept checkpoint, read where its training left them; every byte is verified when it is loaded.

    Raises EvaluationError naming the steps that there are.
    """
    from k2model.training.checkpoint import list_checkpoints

    row = known.recipe.phase(phase)
    files = files_at(known.planned[f"{phase}/checkpoint"].uri)
    there = {str(kept): folder for kept, folder in list_checkpoints(files)}
    if step not in there:
        kept = f"steps {', '.join(there)}" if there else "none; checkpoints.keep_every of the phase keeps them"
        raise EvaluationError(
            f"'{phase}@{step}': {phase} has no checkpoint of step {step}, of those kept it has {kept}"
        )
    at, name = files.at(there[step]), f"{phase}@{step}"
    tokenizer = known.of("", "tokenizer")
    told: dict[str, Any] = OWN | {"checkpoint": read_manifest(at.uri).digest, "rope_theta": row.rope_theta}

    def opened(positions: int) -> "Backend":
        config, folder = known.recipe.model, store.fetch(tokenizer)
        return _by_all(_kept_loaded, at.uri, config, row.rope_theta, folder, name, positions)

    return Subject(name, {"tokenizer": tokenizer}, told, Bounds(row.sequence_length), opened)


def served(reference: str, api_key_env: str = "") -> Subject:
    """A model behind an OpenAI-compatible server. Which weights it serves under a name only the server knows: its
    address and the name are the identity, and a server that answers in another name is refused.

    Raises EvaluationError for a reference without `#model`, and for a server without that model.
    """
    from k2model.evals.backends import EndpointModel
    from k2model.synthesis.config import EndpointConfig

    address, _, model = reference.partition("#")
    if not model:
        raise EvaluationError(f"'{reference}' names no model; expected {address}#MODEL, as the server names it")
    config = EndpointConfig(base_url=address, model=model, api_key_env=api_key_env)
    asked = EndpointModel(config)
    told = {**asked.identity, "backend": SERVED, "address": address}
    bounds = Bounds(asked.max_length, asked.max_length)
    return Subject(f"{model} at {address}", {}, told, bounds, lambda _: asked)


def own_model(folder: Path, tokenizer: Path, name: str, positions: int, rope_theta: float | None = None) -> "OwnModel":
    """The model of a folder of an export on this worker's device, or this worker's part of it in a team."""
    return _by_all(_loaded, folder, tokenizer, name, positions, rope_theta)


def _by_all(load: "Callable[..., OwnModel]", *arguments: Any) -> "OwnModel":
    """What `load` gives on this worker, and in a team on each of its workers their part."""
    from k2model.evals.team import Team

    team = Team.current()
    return team.loaded(load, *arguments) if team else load(*arguments)


def _loaded(
    folder: Path, tokenizer: Path, name: str, positions: int, rope_theta: float | None, tensor: "Shard | None" = None
) -> "OwnModel":
    from k2model.export import load_exported

    device, dtype = _device()
    return _asked(load_exported(folder, rope_theta, positions, dtype, device, tensor), tokenizer, name)


def _by_transformers(
    name: str, inputs: Mapping[str, ArtifactRef], told: Mapping[str, Any], window: int, folder: Callable[[], Path]
) -> Subject:
    """A folder's model run by transformers in fp32, within the context that its config states."""
    from importlib.metadata import version

    def opened(_: int) -> "Backend":
        from k2model.evals.backends import TransformersModel
        from k2model.training.world import World

        return TransformersModel(folder(), name, device=World.from_environment().device)

    versions = {library: version(library) for library in ("torch", "transformers")}
    return Subject(name, inputs, {**TRANSFORMERS, **versions, **told}, Bounds(window, window), opened)


def _asked(model: "K2Model", tokenizer: Path, name: str) -> "OwnModel":
    from k2model.evals.backends import OwnModel
    from k2model.tokens import K2Tokenizer

    try:
        loaded = K2Tokenizer.load(tokenizer)
    except K2Error as error:
        raise EvaluationError(
            f"{name} cannot be asked in K2's markup: {error}. Ask it by transformers (--backend transformers)"
        ) from error
    return OwnModel(model, loaded, name)


def _kept_loaded(
    at: str, config: ModelConfig, rope_theta: float, tokenizer: Path, name: str, positions: int,
    tensor: "Shard | None" = None,
) -> "OwnModel":  # fmt: skip
    """The model of a checkpoint that lies at `at`, as an export's: a worker of a team reads its own parts, and verifies
    its share of the files."""
    import torch

    from k2model.model.parallel import WHOLE
    from k2model.model.transformer import K2Model, rope_tables
    from k2model.training.checkpoint import MODEL, read_checkpoint
    from k2model.training.world import World

    (device, dtype), tensor = _device(), tensor or WHOLE
    tensors = read_checkpoint(files_at(at), World(tensor.rank, tensor.size, group=tensor.group)).tensors.below(MODEL)
    with torch.device("meta"):
        model = K2Model(config, rope_theta, positions, tensor=tensor, draw=False)
    weights = {}
    for one, shape in tensors.shapes.items():
        multiplied = len(shape) > 1 and one != "embedding.weight"  # which no product rounds
        weights[one] = tensors.local(one, one, tensor).to(device, dtype if multiplied else torch.float32)
    model.load_state_dict(weights, assign=True)
    model.cos, model.sin = (table.to(device) for table in rope_tables(rope_theta, config.head_dim, positions))
    return _asked(model.eval(), tokenizer, name)


def _device() -> "tuple[torch.device, torch.dtype]":
    """Of this worker, and what matrices are held in: half the memory on an accelerator, where fp32 would be rounded
    again for every product."""
    import torch

    from k2model.training.world import World

    device = World.from_environment().device
    return device, torch.float32 if device.type == "cpu" else torch.bfloat16


def _rows(recipe: Recipe) -> list[str]:
    return [*(phase.name for phase in recipe.phases), *(model.name for model in recipe.adopted)]


def _in_store(reference: str, store: Store) -> ArtifactRef | None:
    """The export whose name or digest begins with the reference. Raises EvaluationError where several do."""
    found: dict[str, ArtifactRef] = {}  # by name, the newest
    for record in [record for kind in EXPORTS for record in store.records(kind)]:
        name = f"{record['step']}/{record['identity']}"
        by_name = "/" in reference and name.startswith(reference)
        if by_name or (len(reference) >= 6 and str(record["digest"]).startswith(reference)):
            found[name] = ref_of(record, store.uri)
    if len({ref.digest for ref in found.values()}) > 1:
        names = ", ".join(sorted(ref.name for ref in found.values()))
        raise EvaluationError(f"'{reference}' names several exports, {names}; give more of the name")
    return next(iter(found.values()), None)


def _stated_length(folder: Path) -> int:
    """`max_position_embeddings` of a folder's config.json. Raises EvaluationError when it does not say, and
    CorruptArtifact for what is no such file."""
    config = read_typed(dict[str, Any], files_at(folder), CONFIG, "the config of a model", "Get the model again")
    length = config.get("max_position_embeddings")
    if type(length) is not int or length < 1:
        raise EvaluationError(f"{folder / CONFIG} has max_position_embeddings={length!r}; expected a number of tokens")
    return length
