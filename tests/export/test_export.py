"""The export against Hugging Face's own Llama, and the way back."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.artifacts.files import LocalFiles
from k2model.documents.markup import SPECIAL_TOKENS
from k2model.export import load_exported
from k2model.export.hugging_face import ExportError
from k2model.export.shards import write_weights
from k2model.export.step import export_step, write_export
from k2model.recipe.counts import count_parameters
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import ExportConfig, PhaseKind
from k2model.training.checkpoint import (
    ALL,
    FINAL,
    MODEL,
    OPTIMIZER,
    InMemory,
    Piece,
    Progress,
    ShardImage,
    publish,
    share,
    write_file,
)
from tests.model.conftest import SMALL, byte_tokenizer, random_model

PHASE = replace(laptop().phase("mid_4"), sequence_length=1024, rope_theta=3e5)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def export_of(folder: Path, tokenizer: Path, phase=PHASE, config=SMALL) -> torch.nn.Module:
    model = random_model(config, theta=phase.rope_theta, positions=phase.sequence_length)
    write_export(folder, InMemory(model.state_dict()), config, phase, tokenizer)
    return model


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_logits_equal_hugging_face_also_late(tmp_path: Path, tokenizer_folder: Path, n_kv_heads: int) -> None:
    from transformers import LlamaForCausalLM

    model = export_of(tmp_path, tokenizer_folder, config=replace(SMALL, n_kv_heads=n_kv_heads, init_std=0.05))
    reference = LlamaForCausalLM.from_pretrained(tmp_path)
    tokens = torch.randint(0, SMALL.vocab_size, (1, 1024))
    with torch.no_grad():
        ours, theirs = model(tokens), reference(tokens).logits
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() <= 1e-4


def test_import_gives_the_same_model_back(tmp_path: Path, tokenizer_folder: Path) -> None:
    model = export_of(tmp_path, tokenizer_folder)
    tokens = torch.randint(0, SMALL.vocab_size, (1, 100))
    with torch.no_grad():
        assert torch.equal(load_exported(tmp_path)(tokens), model(tokens))
        other = load_exported(tmp_path, rope_theta=1e4, max_positions=2048)
        assert (other.rope_theta, other.max_positions) == (1e4, 2048)
        assert not torch.equal(other(tokens), model(tokens))


def test_loading_leaves_the_random_state_alone(tmp_path: Path, tokenizer_folder: Path) -> None:
    export_of(tmp_path, tokenizer_folder)
    before = torch.random.get_rng_state()
    load_exported(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_configs_are_read_by_old_and_new_transformers(tmp_path: Path, tokenizer_folder: Path) -> None:
    from transformers import GenerationConfig, LlamaConfig

    sft = laptop().phase("sft")
    export_of(tmp_path, tokenizer_folder, phase=sft)
    read = LlamaConfig.from_pretrained(tmp_path)
    assert read.rope_parameters["rope_theta"] == sft.rope_theta
    assert json.loads((tmp_path / "config.json").read_text())["rope_theta"] == sft.rope_theta
    assert (read.bos_token_id, read.eos_token_id, read.head_dim, read.tie_word_embeddings) == (0, 1, 16, False)
    assert read.max_position_embeddings == sft.sequence_length  # of a phase that descends from none
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [1, SPECIAL_TOKENS.index("<|im_end|>")]


def test_a_shorter_last_phase_takes_no_context_away(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

    from tests.release.conftest import write_tokenizer

    recipe = laptop()
    assert {phase.name: recipe.trained_length(phase.name) for phase in recipe.phases} == {
        "pretrain": 128, "mid_1": 128, "mid_2": 256, "mid_3": 512, "mid_4": 1024, "sft": 1024,
    }  # fmt: skip
    sft = recipe.phase("sft")
    assert sft.sequence_length == 128
    write_tokenizer(tmp_path / "tokenizer")
    state, length = InMemory(random_model().state_dict()), recipe.trained_length("sft")
    (tmp_path / "export").mkdir()
    write_export(
        tmp_path / "export", state, SMALL, sft, tmp_path / "tokenizer", trained_length=length, efforts=["low", "medium"]
    )
    assert LlamaConfig.from_pretrained(tmp_path / "export").max_position_embeddings == 1024
    assert GenerationConfig.from_pretrained(tmp_path / "export").max_length == 1024
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert tokenizer.model_max_length == 1024
    assert load_exported(tmp_path / "export").max_positions == 1024
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False
    )
    assert asked.endswith("assistant\n<think_fast>")


def test_a_base_model_stops_at_the_end_of_text_alone(tmp_path: Path, tokenizer_folder: Path) -> None:
    export_of(tmp_path, tokenizer_folder)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 1


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    state = InMemory(random_model().state_dict())
    with pytest.raises(ExportError, match=r"missing \['blocks.3.attention.key.weight'"):
        write_weights(tmp_path, state, replace(SMALL, n_layers=4), ExportConfig())
    with pytest.raises(ExportError, match=r"'blocks\.0\.mlp\.down\.weight is \[48, 80\] instead of \[48, 96\]'"):
        write_weights(tmp_path, state, replace(SMALL, ffn_size=96), ExportConfig())


def test_a_folder_without_weights_is_named(tmp_path: Path, tokenizer_folder: Path) -> None:
    export_of(tmp_path, tokenizer_folder)
    os.remove(tmp_path / "model.safetensors")
    with pytest.raises(ExportError, match=r"model\.safetensors is missing"):
        load_exported(tmp_path)


def test_the_step_reads_a_checkpoint_and_is_not_redone(tmp_path: Path, tokenizer_folder: Path) -> None:
    store = Store.open(tmp_path / "store")
    model = random_model(theta=PHASE.rope_theta)
    checkpoint = _checkpoint(store, model)
    tokenizer = _artifact(store, "tokenizer", {"tokenizer.json": (tokenizer_folder / "tokenizer.json").read_bytes()})
    first = make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer))
    assert make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer)) == first
    assert len(store.records("export")) == 1 and first.kind == "export"
    tokens = torch.randint(0, SMALL.vocab_size, (1, 30))
    with torch.no_grad():
        assert torch.equal(load_exported(store.fetch(first))(tokens), model(tokens))
    longer = make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer, trained_length=4096))
    assert longer.identity != first.identity and load_exported(store.fetch(longer)).max_positions == 4096
    composition = {
        "padding": 0.0,
        "split": 0.0,
        "truncated": 0.0,
        "efforts": {"low": 9},
        "short_context": None,
        "sources": {},
    }
    rows = _artifact(store, "sequences", {"composition.json": json.dumps(composition).encode()})
    assert make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer, sequences=rows)) == first
    sft = replace(PHASE, kind=PhaseKind.SFT)
    chatty = make(store, export_step(store, SMALL, sft, checkpoint, tokenizer, sequences=rows))
    assert '{"low": "think_faster"}' in (store.fetch(chatty) / "chat_template.jinja").read_text()


def test_only_a_form_that_changes_the_files_bears_identity(tmp_path: Path, tokenizer_folder: Path) -> None:
    store = Store.open(tmp_path / "store")
    checkpoint = _checkpoint(store, random_model(theta=PHASE.rope_theta))
    tokenizer = _artifact(store, "tokenizer", {"tokenizer.json": (tokenizer_folder / "tokenizer.json").read_bytes()})

    def made(**form: Any) -> ArtifactRef:
        return make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer, form=ExportConfig(**form)))

    first, size = made(), 4 * count_parameters(SMALL)
    assert (store.fetch(first) / "model.safetensors").is_file()
    assert made(shard_bytes=size) == first
    smaller, rounded = made(shard_bytes=size - 1), made(bf16=True)
    assert len({first.identity, smaller.identity, rounded.identity}) == 3
    assert made(bf16=True, shard_bytes=size // 2) == rounded
    assert len(list(store.fetch(smaller).glob("model-0000?-of-00002.safetensors"))) == 2


def _checkpoint(store: Store, model: torch.nn.Module) -> ArtifactRef:
    """One that three workers have written."""

    def produce(folder: Path) -> dict[str, float]:
        files = LocalFiles(folder)
        tensors = {**model.state_dict(prefix=MODEL), f"{OPTIMIZER}norm.weight.exp_avg": torch.zeros(48)}
        whole = [Piece(name, tuple(t.shape), ALL, 0, t.reshape(-1)) for name, t in tensors.items()]
        entries = []
        for rank in range(3):
            pieces = list(share(whole, rank, 3))
            image = ShardImage(pieces)
            image.fill(pieces)
            entries.append(write_file(files, f"{FINAL}/rank-0000{rank}-of-00003.safetensors", image.data))
        publish(files, FINAL, entries, Progress("mid_4", 1, 1, 3, 1, "", ""))
        return {}

    return store.build(Identity("checkpoint", "1", {}), produce)


def _artifact(store: Store, step: str, files: dict[str, bytes]) -> ArtifactRef:
    def produce(folder: Path) -> dict[str, float]:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return {}

    return store.build(Identity(step, "1", {}), produce)
