"""What a person calls a model, as a `Subject` that can be asked.

| reference | what it is |
|---|---|
| `mid_4` | the export of a phase of the recipe, or of a model that it adopts |
| `mid_1@200` | the weights of a checkpoint that its training keeps (`checkpoints.keep_every`), with no export of it |
| `export/0123456789abcdef` | an artifact of kind export, by name or by the beginning of its digest |
| `path/to/folder` | weights in Hugging Face's form, or a release of this project |
| `https://host/v1#model` | a model behind an OpenAI-compatible server |
"""

from pathlib import Path
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef, Store
from k2model.evals.cells import Subject
from k2model.evals.measures import Bounds

if TYPE_CHECKING:
    from k2model.evals.backend import Backend

#: How the project's own model is run, as identities have it. Its products are of bf16 on every device.
OWN = {"backend": "own", "precision": "bf16"}


def exported(
    export: ArtifactRef,
    tokenizer: ArtifactRef,
    store: Store,
    name: str,
    window: int,
    rope_theta: float | None = None,
) -> Subject:
    """The model of an export, asked in its tokenizer. window: tokens it was trained with. rope_theta: instead of its
    own, None = that."""

    def opened(positions: int) -> "Backend":
        return own_model(store.fetch(export), store.fetch(tokenizer), name, positions, rope_theta)

    told = OWN | ({"rope_theta": rope_theta} if rope_theta else {})
    return Subject(name, {"export": export, "tokenizer": tokenizer}, told, Bounds(window), opened)


def own_model(folder: Path, tokenizer: Path, name: str, positions: int, rope_theta: float | None = None) -> "Backend":
    """The model of a folder of an export on this worker's device: in half the memory on an accelerator, where fp32
    would be rounded again for every product."""
    import torch

    from k2model.evals.backends import OwnModel
    from k2model.export import load_exported
    from k2model.tokens import K2Tokenizer
    from k2model.training.world import World

    device = World.from_environment().device
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model = load_exported(folder, rope_theta, positions, dtype, device)
    return OwnModel(model, K2Tokenizer.load(tokenizer), name)
