"""Small foreign models as somebody else would publish them: written by transformers itself, random weights."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from k2model.recipe.schema import AdoptedModel, ModelConfig

THETA, LENGTH = 50_000.0, 512
ENTRIES = 300  # of the tokenizer, whose special tokens are its own
ROWS = 304  # of the embedding, as people round them up
SHAPE = ModelConfig(
    vocab_size=ENTRIES + 18, hidden_size=48, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=8, ffn_size=80,
    rms_norm_eps=1e-6, init_std=0.2,
)  # fmt: skip
TEXTS = [f"the river number {n} is quiet, and the garden of {n * 7} stones is not" for n in range(60)]


def write_foreign_tokenizer(folder: Path) -> None:
    """A byte-level BPE with a special token of its own, and none of K2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken("<|theirs|>", special=True, normalized=False)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    assert tokenizer.get_vocab_size() == ENTRIES
    tokenizer.save(str(folder / "tokenizer.json"))


def write_foreign(
    folder: Path, *, dtype: torch.dtype = torch.float32, tied: bool = False, shard_size: str = "5GB", **config: Any
) -> Path:
    """A folder with `LlamaForCausalLM` and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(len(folder.name))
    stated = LlamaConfig(
        vocab_size=ROWS, hidden_size=SHAPE.hidden_size, intermediate_size=SHAPE.ffn_size,
        num_hidden_layers=SHAPE.n_layers, num_attention_heads=SHAPE.n_heads, num_key_value_heads=SHAPE.n_kv_heads,
        max_position_embeddings=LENGTH, rope_parameters={"rope_theta": THETA, "rope_type": "default"},
        tie_word_embeddings=tied, initializer_range=0.2, bos_token_id=0, eos_token_id=0, **config,
    )  # fmt: skip
    model = LlamaForCausalLM(stated)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.normal_(1.0, 0.3)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    write_foreign_tokenizer(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Theirs\n")
    (folder / "LICENSE").write_text("as is\n")
    return folder


def row(folder: Path | str, **changed: Any) -> AdoptedModel:
    """What a recipe says of it."""
    stated = {"name": "theirs", "licence": "Apache-2.0", "rope_theta": THETA, "sequence_length": LENGTH}
    return AdoptedModel(**{**stated, "location": str(folder), **changed})
