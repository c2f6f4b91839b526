"""The export step: a checkpoint's weights as a folder that Hugging Face's LlamaForCausalLM loads.

fp32 and one file: sharding by size is left out, it matters from tens of gigabytes on.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts import ArtifactRef, Identity, Step, Store
from k2model.recipe.schema import ModelConfig, PhaseConfig, PhaseKind
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.model.transformer import K2Model

WEIGHTS, CONFIG, GENERATION_CONFIG = "model.safetensors", "config.json", "generation_config.json"
TOKENIZER_CONFIG, CHAT_TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


def export_step(
    store: Store,
    model: ModelConfig,
    phase: PhaseConfig,
    checkpoint: ArtifactRef,
    tokenizer: ArtifactRef,
    *,
    trained_length: int = 0,
    sequences: ArtifactRef | None = None,
) -> Step:
    """`model.safetensors`, `config.json`, `generation_config.json` and the tokenizer's files; kind `export`.

    Args:
        trained_length: the longest row, in tokens, of the phases that `phase` descends from
            (`Recipe.trained_length`); 0 where it descends from none. It or the phase's own length, whichever is more,
            is the context that is stated: a shorter last phase takes nothing away.
        sequences: the phase's packed rows. After supervised fine-tuning they tell which reasoning efforts were
            trained; the chat template asks for no other.

    Raises:
        ExportError: the checkpoint holds another model than `model` describes.
    """
    length = max(trained_length, phase.sequence_length)
    config = {"model": model, "kind": phase.kind, "trained_length": length, "rope_theta": phase.rope_theta}
    inputs = {"checkpoint": checkpoint, "tokenizer": tokenizer}
    chats = sequences if phase.kind is PhaseKind.SFT else None
    if chats is not None:
        inputs["sequences"] = chats
    identity = Identity("export", STEP_VERSIONS["export"], config, inputs)

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens import read_composition
        from k2model.training import load_model_state

        state = load_model_state(store.fetch(checkpoint) / "final")
        efforts = read_composition(store, chats)["efforts"] if chats is not None else ()
        write_export(folder, state, model, phase, store.fetch(tokenizer), trained_length=length, efforts=efforts)
        return {"parameters": float(sum(tensor.numel() for tensor in state.values()))}

    return Step(identity, produce)


def write_export(
    folder: Path,
    state: dict[str, Any],
    model: ModelConfig,
    phase: PhaseConfig,
    tokenizer: Path,
    *,
    trained_length: int = 0,
    efforts: Collection[str] = (),
) -> None:
    """Write all files of an export of `state` (our parameter names) into `folder`; `tokenizer` is the folder of one.

    `trained_length` as in `export_step`. With `efforts`, those that were trained, the chat template knows no
    other; without, it is the tokenizer's.
    """
    from k2model.documents.markup import IM_END
    from k2model.tokens import K2Tokenizer
    from k2model.tokens.bpe import chat_template

    length = max(trained_length, phase.sequence_length)
    loaded = K2Tokenizer.load(tokenizer)
    ids = {"bos": loaded.bos, "eos": loaded.eos, "pad": loaded.pad}
    write_model(folder, state, model, phase.rope_theta, length, ids)
    # A chat turn ends with <|im_end|>, which generation has to stop at once the model has learned turns.
    stops: int | list[int] = [loaded.eos, loaded.special(IM_END)] if phase.kind is PhaseKind.SFT else loaded.eos
    generation = {"bos_token_id": loaded.bos, "eos_token_id": stops, "pad_token_id": loaded.pad, "do_sample": False}
    _write_json(folder / GENERATION_CONFIG, {**generation, "max_length": length})
    for file in sorted(tokenizer.iterdir()):
        if file.is_file() and file.name not in ("manifest.json", "artifact.json"):
            shutil.copyfile(file, folder / file.name)
    if (folder / TOKENIZER_CONFIG).is_file():
        stated = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
        _write_json(folder / TOKENIZER_CONFIG, {**stated, "model_max_length": length})
    if efforts:
        (folder / CHAT_TEMPLATE).write_text(chat_template(efforts), encoding="utf-8")


def write_model(
    folder: Path, state: dict[str, Any], model: ModelConfig, rope_theta: float, length: int, ids: Mapping[str, Any]
) -> None:
    """`model.safetensors` and `config.json`; the arguments are those of `llama_config`."""
    from safetensors.torch import save_file

    from k2model.export.hugging_face import llama_config, to_llama

    tensors = {name: tensor.contiguous() for name, tensor in to_llama(state, model).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    _write_json(folder / CONFIG, llama_config(model, rope_theta, length, ids))


def load_exported(folder: Path | str, rope_theta: float | None = None, max_positions: int | None = None) -> "K2Model":
    """The model of an export folder, fp32, in evaluation mode.

    Args:
        rope_theta: base to use instead of the exported one, to see what a change of theta alone does.
        max_positions: longest row to be fed (default: what `config.json` states).

    Raises:
        ExportError: files are missing, or do not fit each other.
    """
    import torch
    from safetensors.torch import load_file

    from k2model.export.hugging_face import ExportError, from_llama, model_config
    from k2model.model.transformer import K2Model

    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ExportError(f"{folder / name} is missing; expected the folder of an exported model")
    config, theta, positions = model_config(json.loads((folder / CONFIG).read_text()), str(folder / CONFIG))
    with torch.random.fork_rng(devices=[]):  # building a model draws its initial weights
        model = K2Model(config, rope_theta or theta, max_positions or positions)
    model.load_state_dict(from_llama(load_file(folder / WEIGHTS), config, str(folder / WEIGHTS)))
    return model.eval()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
