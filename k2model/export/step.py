"""The export step: a checkpoint's weights as a folder that Hugging Face's LlamaForCausalLM loads, and the way back.

Weights go from the checkpoint, where it lies, into the files of the export block by block; `shards` says how.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts import ArtifactRef, Identity, Step, Store, read_json_file
from k2model.recipe.counts import count_parameters
from k2model.recipe.schema import ExportConfig, ModelConfig, PhaseConfig, PhaseKind
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    import torch

    from k2model.model.parallel import Shard
    from k2model.model.transformer import K2Model
    from k2model.training.checkpoint import NamedTensors

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
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
    form: ExportConfig = ExportConfig(),
) -> Step:
    """The weights (`k2model.export.shards`), `config.json`, `generation_config.json` and the tokenizer's files; kind
    `export`.

    Args:
        trained_length: the longest row, in tokens, of the phases that `phase` descends from
            (`Recipe.trained_length`); 0 where it descends from none. It or the phase's own length, whichever is more,
            is the context that is stated: a shorter last phase takes nothing away.
        sequences: the phase's packed rows. After supervised fine-tuning they tell which reasoning efforts were
            trained; the chat template asks for no other.
        form: type of the weights, and how large their files are.

    Raises:
        ExportError: the checkpoint holds another model than `model` describes.
    """
    length = max(trained_length, phase.sequence_length)
    config = {"model": model, "kind": phase.kind, "trained_length": length, "rope_theta": phase.rope_theta}
    config |= form_identity(form, model)
    inputs = {"checkpoint": checkpoint, "tokenizer": tokenizer}
    chats = sequences if phase.kind is PhaseKind.SFT else None
    if chats is not None:
        inputs["sequences"] = chats
    identity = Identity("export", STEP_VERSIONS["export"], config, inputs)

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens import read_composition
        from k2model.training import open_model_state

        state = open_model_state(store, checkpoint)
        efforts = read_composition(store, chats)["efforts"] if chats is not None else ()
        write_export(
            folder, state, model, phase, store.fetch(tokenizer), trained_length=length, efforts=efforts, form=form
        )
        return {"parameters": float(count_parameters(model))}

    return Step(identity, produce)


def form_identity(form: ExportConfig, model: ModelConfig) -> dict[str, Any]:
    """What of `form` changes the files of an export of `model`: nothing for fp32 weights that fit one file."""
    size = count_parameters(model) * (2 if form.bf16 else 4)
    sharded = {"shard_bytes": form.shard_bytes} if size > form.shard_bytes else {}
    return ({"bf16": True} if form.bf16 else {}) | sharded


def write_export(
    folder: Path,
    state: "NamedTensors",
    model: ModelConfig,
    phase: PhaseConfig,
    tokenizer: Path,
    *,
    trained_length: int = 0,
    efforts: Collection[str] = (),
    form: ExportConfig = ExportConfig(),
) -> None:
    """Write all files of an export of `state` (our parameter names) into `folder`; `tokenizer` is the folder of one.

    `trained_length` as in `export_step`. With `efforts`, those that were trained, the chat template knows no
    other; without, it is the tokenizer's.
    """
    from k2model.documents.markup import IM_END
    from k2model.tokens import K2Tokenizer
    from k2model.tokens.chat_template import chat_template

    length = max(trained_length, phase.sequence_length)
    loaded = K2Tokenizer.load(tokenizer)
    ids = {"bos": loaded.bos, "eos": loaded.eos, "pad": loaded.pad}
    write_model(folder, state, model, phase.rope_theta, length, ids, form)
    # A chat turn ends with <|im_end|>, which generation has to stop at once the model has learned turns.
    stops: int | list[int] = [loaded.eos, loaded.special(IM_END)] if phase.kind is PhaseKind.SFT else loaded.eos
    generation = {"bos_token_id": loaded.bos, "eos_token_id": stops, "pad_token_id": loaded.pad, "do_sample": False}
    _write_json(folder / GENERATION_CONFIG, {**generation, "max_length": length})
    for file in sorted(tokenizer.iterdir()):
        if file.is_file() and file.name not in ("manifest.json", "artifact.json"):
            shutil.copyfile(file, folder / file.name)
    if (folder / TOKENIZER_CONFIG).is_file():
        stated = read_json_file(dict[str, Any], folder, TOKENIZER_CONFIG)
        _write_json(folder / TOKENIZER_CONFIG, {**stated, "model_max_length": length})
    if efforts:
        (folder / CHAT_TEMPLATE).write_text(chat_template(efforts), encoding="utf-8")


def write_model(
    folder: Path, state: "NamedTensors", model: ModelConfig, rope_theta: float, length: int, ids: Mapping[str, Any],
    form: ExportConfig,
) -> None:  # fmt: skip
    """The weights and `config.json`; the arguments are those of `llama_config` and `write_weights`."""
    from k2model.export.hugging_face import llama_config
    from k2model.export.shards import write_weights

    write_weights(folder, state, model, form)
    dtype = "bfloat16" if form.bf16 else "float32"
    _write_json(folder / CONFIG, llama_config(model, rope_theta, length, ids, dtype))


def load_exported(
    folder: Path | str,
    rope_theta: float | None = None,
    max_positions: int | None = None,
    dtype: "torch.dtype | None" = None,
    device: "torch.device | str" = "cpu",
    tensor: "Shard | None" = None,
) -> "K2Model":
    """The model of an export folder, or of a foreign one that K2's architecture holds, in evaluation mode. Its weights
    are read into place, a block of a tensor at a time, so that nothing beside it is held, on an accelerator nor on the
    host.

    Args:
        rope_theta: base to use instead of the exported one, to see what a change of theta alone does.
        max_positions: longest row to be fed (default: what `config.json` states).
        dtype: of what products multiply (default: fp32, whatever the files hold); embedding and gains are fp32. So
            bf16 gives the bits that fp32 gives under bf16 autocast, in half the memory.
        device: where it is to lie.
        tensor: over whom its matrices are cut (default: nobody). Each worker reads its own parts alone.

    Raises:
        ExportError: files are missing or damaged, or do not fit each other; its config has what K2's architecture does
            not hold.
        ValueError: heads, ffn_size or vocab_size cannot be shared out evenly over `tensor`.
    """
    import torch

    from k2model.export.architecture import AdoptionError, parse_config, read_architecture
    from k2model.export.hugging_face import ExportError
    from k2model.export.shards import read_weights
    from k2model.model.parallel import WHOLE
    from k2model.model.transformer import K2Model, rope_tables

    folder, tensor = Path(folder), tensor or WHOLE
    if not (folder / CONFIG).is_file():
        raise ExportError(f"{folder / CONFIG} is missing; expected the folder of an exported model")
    where = str(folder / CONFIG)
    try:
        found = read_architecture(parse_config((folder / CONFIG).read_bytes(), where), where)
    except AdoptionError as error:
        raise ExportError(f"{error}, or let transformers run it") from error
    config, theta, positions = found.model, rope_theta or found.rope_theta, max_positions or found.sequence_length
    with torch.device("meta"):  # without memory, and without drawing the weights that are about to be read
        model = K2Model(config, theta, positions, tensor=tensor, draw=False)
    weights = read_weights(folder, found, dtype or torch.float32, device, tensor)
    model.load_state_dict(weights, assign=True)
    # Made on the CPU, whose cosines other devices need not share.
    model.cos, model.sin = (table.to(device) for table in rope_tables(theta, config.head_dim, positions))
    return model.eval()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
