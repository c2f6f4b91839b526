"""Checkpoint and export beside each other: what each says of the tokens at the end of the longest context; `parity`.

The export is run by Hugging Face's own code, as whoever takes it will, and the checkpoint's weights by ours: they agree
where names, layouts, rotary angles and what `config.json` states do. Of a long context only pieces are read, at its
beginning, its middle and its end, at the positions that they would have there: angles grow with the position, and
errors of theirs show late.

Shape suffixes: T tokens, V vocabulary, E head dim.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from k2model.artifacts import ArtifactRef, Identity, Step, Store, read_json, read_json_file
from k2model.export.step import CONFIG
from k2model.recipe.schema import ModelConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    import torch

RESULT = "parity.json"
PIECE = 64  # tokens of each piece
SEED = 18


def parity_step(store: Store, model: ModelConfig, checkpoint: ArtifactRef, export: ArtifactRef) -> Step:
    """`parity.json`: over `positions` of a context of `length`, the largest and the mean `difference`, in nats, of the
    log-probabilities that checkpoint and export give to each next token; those of the last piece decide.

    To make it both models are held in fp32. Raises the store's errors, and ExportError for an export of another model.
    """

    def produce(folder: Path) -> dict[str, float]:
        found = _measured(store, model, checkpoint, store.fetch(export))
        (folder / RESULT).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return found

    inputs = {"checkpoint": checkpoint, "export": export}
    return Step(Identity("parity", STEP_VERSIONS["parity"], {"model": model}, inputs), produce)


class Parity(TypedDict):
    """What others read of `parity.json`."""

    difference: float
    length: float


class _Stated(TypedDict):
    max_position_embeddings: int
    dtype: str


def read_parity(store: Store, ref: ArtifactRef) -> Parity:
    """Raises the store's errors."""
    return read_json(Parity, store, ref, RESULT)


def _measured(store: Store, model: ModelConfig, checkpoint: ArtifactRef, folder: Path) -> dict[str, float]:
    import torch

    stated = read_json_file(_Stated, folder, CONFIG)
    length = stated["max_position_embeddings"]
    positions_T = pieces(length)
    tokens_T = torch.randint(model.vocab_size, (len(positions_T),), generator=torch.Generator().manual_seed(SEED))
    theta = _trained_theta(store, checkpoint)
    ours_T = _own(store, model, checkpoint, theta, length, tokens_T, positions_T, stated["dtype"])
    theirs_T = _theirs(folder, tokens_T, positions_T)
    apart_T = (ours_T - theirs_T).abs()[-PIECE:]
    return {
        "difference": float(apart_T.max()), "mean": float(apart_T.mean()), "length": float(length),
        "positions": float(len(positions_T)),
    }  # fmt: skip


def pieces(length: int) -> "torch.Tensor":
    """Positions of a context that are read [T]: all of a short one, else those of its beginning, middle and end."""
    import torch

    if length <= 4 * PIECE:
        return torch.arange(length)
    starts = (0, (length - PIECE) // 2, length - PIECE)
    return torch.cat([torch.arange(start, start + PIECE) for start in starts])


def _trained_theta(store: Store, checkpoint: ArtifactRef) -> float:
    """RoPE theta that the phase was trained with, as its record has it."""
    return float(store.record(checkpoint)["config"]["phase"]["rope_theta"])


def _own(
    store: Store, model: ModelConfig, checkpoint: ArtifactRef, theta: float, length: int, tokens_T: "torch.Tensor",
    positions_T: "torch.Tensor", dtype: str,
) -> "torch.Tensor":  # fmt: skip
    """Log-probability [T-1] of each token but the first, by our model with the checkpoint's weights, rounded to `dtype`
    as the export's are."""
    import torch

    from k2model.model.transformer import K2Model, rope_tables
    from k2model.training import open_model_state

    state = open_model_state(store, checkpoint)
    own = K2Model(model, theta, len(positions_T), draw=False)
    own.load_state_dict({name: _rounded(name, state[name], dtype) for name in own.state_dict()})
    cos_TE, sin_TE = rope_tables(theta, model.head_dim, length)
    own.cos, own.sin = cos_TE[positions_T], sin_TE[positions_T]
    with torch.no_grad():
        return _of_next(own.eval()(tokens_T[None])[0], tokens_T)


def _rounded(name: str, tensor: "torch.Tensor", dtype: str) -> "torch.Tensor":
    """A tensor of ours as it is when it was written in the export's type and read again: gains are stored whole."""
    import torch

    from k2model.export.hugging_face import from_llama_tensor, to_llama_tensor

    if dtype == "float32":
        return tensor
    return from_llama_tensor(name, to_llama_tensor(name, tensor).to(getattr(torch, dtype)).float())


def _theirs(folder: Path, tokens_T: "torch.Tensor", positions_T: "torch.Tensor") -> "torch.Tensor":
    import torch
    from transformers import LlamaForCausalLM

    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        # With a mask of its own a jump of positions is not taken for the beginning of another text.
        whole = torch.ones_like(tokens_T[None])
        logits_TV = theirs(tokens_T[None], whole, position_ids=positions_T[None], use_cache=False).logits[0]
    return _of_next(logits_TV, tokens_T)


def _of_next(logits_TV: "torch.Tensor", tokens_T: "torch.Tensor") -> "torch.Tensor":
    logs_TV = logits_TV.float().log_softmax(-1)
    return logs_TV[:-1].gather(-1, tokens_T[1:, None])[:, 0]
