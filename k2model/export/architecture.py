"""What a foreign `config.json` says of its model, as far as K2's architecture holds it.

Whatever it has beyond that (scaled positions, biases, windows, another activation, quantised weights) is refused by
name: left out, it would give a model that runs and answers otherwise. Defaults of fields that are not stated are those
of transformers' `LlamaConfig`.
"""

import contextlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from k2model.artifacts.files import files_at
from k2model.errors import K2Error
from k2model.plain import NotPlain, read_as
from k2model.recipe.schema import AdoptedModel, ModelConfig

CONFIG = "config.json"
RELEASED = "model"  # the folder of a release that holds the weights of its last phase
TRAINING_STATE = "training_state"  # the folder of one that holds its last phase's checkpoint, where it has one
#: Fields of a config, what K2 holds of each (the first is the default), and what another value would mean.
HELD: dict[str, tuple[tuple[object, ...], str]] = {
    "hidden_act": (("silu",), "another activation"),
    "attention_bias": ((False, None), "biases in its attention"),
    "mlp_bias": ((False, None), "biases in its feed-forward layers"),
    "sliding_window": ((None, 0), "attention within a window"),
    "use_sliding_window": ((False, None), "attention within a window"),
    "partial_rotary_factor": ((1.0, None), "positions in a part of each head"),
    "quantization_config": ((None,), "quantised weights; save it dequantised, in bf16"),
    "auto_map": ((None, {}), "code of its own, which is not run"),
    "num_local_experts": ((None, 0, 1), "experts"),
    "final_logit_softcapping": ((None,), "capped logits"),
}
ROPE_TYPE = "default"
#: Our fields of the shape, and theirs.
FIELDS = {
    "hidden_size": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ffn_size": "intermediate_size",
    "rms_norm_eps": "rms_norm_eps",
}


class AdoptionError(K2Error):
    """A model from outside cannot be adopted: it is not whole, not what the recipe says, or nothing K2 can hold."""


@dataclass(frozen=True)
class Architecture:
    """`model.vocab_size` counts the rows of its embedding; `sequence_length` is `max_position_embeddings`; `tied` says
    that the embedding is the head."""

    model: ModelConfig
    rope_theta: float
    sequence_length: int
    tied: bool


def parse_config(content: bytes, where: str) -> dict[str, Any]:
    """The fields of a `config.json`. Raises AdoptionError."""
    try:
        return read_as(dict[str, Any], content)
    except NotPlain as error:
        raise AdoptionError(f"{where} is no JSON object ({error}); get the file again") from error


def read_architecture(values: Mapping[str, Any], where: str) -> Architecture:
    """The model of a `config.json`. Raises AdoptionError naming each field that K2's architecture does not hold."""
    if refused := [*_not_held(values)]:
        raise AdoptionError(
            f"{where}: {'; '.join(refused)}. K2's architecture is Llama's alone: RMSNorm, SwiGLU, rotary positions by "
            "one theta, no biases. Adopt a model of that form"
        )
    heads, hidden = _count(values, "num_attention_heads", where), _count(values, "hidden_size", where)
    model = ModelConfig(
        vocab_size=_count(values, "vocab_size", where),
        hidden_size=hidden,
        n_layers=_count(values, "num_hidden_layers", where),
        n_heads=heads,
        n_kv_heads=_count(values, "num_key_value_heads", where, heads),
        head_dim=_count(values, "head_dim", where, hidden // heads),
        ffn_size=_count(values, "intermediate_size", where),
        rms_norm_eps=_positive(values, "rms_norm_eps", where, 1e-6),
        init_std=_positive(values, "initializer_range", where, 0.02),
    )
    theta = _positive(_rope(values), "rope_theta", where, _positive(values, "rope_theta", where, 10_000.0))
    length = _count(values, "max_position_embeddings", where, 2048)
    return Architecture(model, theta, length, values.get("tie_word_embeddings") is True)


def _not_held(values: Mapping[str, Any]) -> Iterator[str]:
    if (kind := values.get("model_type")) != "llama":
        yield f"model_type={kind!r}, expected 'llama'"
    classes = values.get("architectures") or ["LlamaForCausalLM"]
    if classes != ["LlamaForCausalLM"]:
        yield f"architectures={classes}, expected ['LlamaForCausalLM']"
    for name, (held, meaning) in HELD.items():
        if (value := values.get(name, held[0])) not in held:
            yield f"{name}={_short(value)}: {meaning}"
    for name in ("rope_scaling", "rope_parameters"):
        parameters = values.get(name) or {}
        kind = parameters.get("rope_type", parameters.get("type", ROPE_TYPE)) if isinstance(parameters, dict) else name
        nested = isinstance(parameters, dict) and any(isinstance(value, dict) for value in parameters.values())
        if kind != ROPE_TYPE or nested:
            yield f"{name}={_short(parameters)}: positions that are scaled"
    if any(kind != "full_attention" for kind in values.get("layer_types") or ()):
        yield f"layer_types={_short(values['layer_types'])}: layers that do not attend to everything"
    stated = [value for value in (values.get("rope_theta"), _rope(values).get("rope_theta")) if value is not None]
    if stated[1:] and stated[0] != stated[1]:
        yield f"two values of rope_theta, {_short(stated)}"


def _rope(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """transformers 5 keeps theta in `rope_parameters`, version 4 beside it."""
    found = values.get("rope_parameters")
    return found if isinstance(found, dict) else {}


def _count(values: Mapping[str, Any], name: str, where: str, default: int | None = None) -> int:
    value = values.get(name) if values.get(name) is not None else default
    if type(value) is not int or value < 1:
        raise AdoptionError(f"{where}: {name}={_short(value)} must be a whole number above 0")
    return value


def _positive(values: Mapping[str, Any], name: str, where: str, default: float) -> float:
    value: Any = values.get(name) if values.get(name) is not None else default
    if type(value) not in (int, float) or not (value > 0 and math.isfinite(value)):
        raise AdoptionError(f"{where}: {name}={_short(value)} must be a number above 0")
    return float(value)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def difference(model: ModelConfig, adopted: AdoptedModel, found: Architecture) -> str | None:
    """In which fields the recipe's `model` and what it says of an adopted one are not what was found, each with both
    values; None when they agree. `vocab_size` may be larger: rows are added for it."""
    wrong = [
        f"model.{ours}={getattr(model, ours)!r} where its {CONFIG} has {theirs}={getattr(found.model, ours)!r}"
        for ours, theirs in FIELDS.items()
        if _as_computed(getattr(model, ours)) != _as_computed(getattr(found.model, ours))
    ]
    if found.model.vocab_size > model.vocab_size:
        wrong.append(
            f"model.vocab_size={model.vocab_size} where its {CONFIG} has vocab_size={found.model.vocab_size}, which it "
            "must not be below"
        )
    for ours, theirs in (("rope_theta", "rope_theta"), ("sequence_length", "max_position_embeddings")):
        stated, read = getattr(adopted, ours), getattr(found, ours)
        if stated != read:
            wrong.append(f"adopted.{adopted.name}.{ours}={stated:g} where its {CONFIG} has {theirs}={read:g}")
    return "; ".join(wrong) or None


def _as_computed(value: float) -> float:
    """In fp32, as which some formats keep what others write as 1e-5."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def model_config_of(folder: str) -> ModelConfig:
    """The `model` of a recipe that adopts the model in `folder` (a path or `s3://`, also of a release), with rows for
    K2's special tokens where its tokenizer lacks them. Raises AdoptionError or TokensError."""
    from k2model.tokens.adoption import adopted, read_specification

    inside, found = _architecture_of(folder)
    tokenizer, _ = adopted(read_specification(inside), inside)
    return replace(found.model, vocab_size=max(found.model.vocab_size, tokenizer.get_vocab_size()))


def adopted_model_of(folder: str, name: str, licence: str) -> AdoptedModel:
    """The row of a recipe that adopts the model in `folder`, as `model_config_of` takes it. Raises AdoptionError."""
    _, found = _architecture_of(folder)
    return AdoptedModel(name, licence, found.rope_theta, found.sequence_length, location=folder)


def _architecture_of(folder: str) -> tuple[str, Architecture]:
    """The folder in which the model lies, which is `model/` in a release, and what its `config.json` says."""
    for inside in (folder, f"{folder}/{RELEASED}"):
        with contextlib.suppress(FileNotFoundError):
            where = f"{inside}/{CONFIG}"
            return inside, read_architecture(parse_config(files_at(inside).read(CONFIG), where), where)
    raise AdoptionError(
        f"{folder} has no {CONFIG}; name the folder of a model in Hugging Face's form, or of a release of this project"
    )
