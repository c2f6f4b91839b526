"""The export against Hugging Face's own Llama, and the way back."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.documents.markup import SPECIAL_TOKENS
from k2model.export import load_exported
from k2model.export.hugging_face import ExportError, to_llama
from k2model.export.step import export_step, write_export
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import PhaseKind
from tests.model.conftest import SMALL, byte_tokenizer, random_model

PHASE = replace(laptop().phase("mid_4"), sequence_length=1024, rope_theta=3e5)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def export_of(folder: Path, tokenizer: Path, phase=PHASE, config=SMALL) -> torch.nn.Module:
    model = random_model(config, theta=phase.rope_theta, positions=phase.sequence_length)
    write_export(folder, model.state_dict(), config, phase, tokenizer)
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
    state, length = random_model().state_dict(), recipe.trained_length("sft")
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


def test_another_models_checkpoint_is_refused() -> None:
    with pytest.raises(ExportError, match=r"missing \['blocks.3.attention.key.weight'"):
        to_llama(random_model().state_dict(), replace(SMALL, n_layers=4))


def test_a_folder_without_weights_is_named(tmp_path: Path, tokenizer_folder: Path) -> None:
    export_of(tmp_path, tokenizer_folder)
    os.remove(tmp_path / "model.safetensors")
    with pytest.raises(ExportError, match=r"model\.safetensors is missing"):
        load_exported(tmp_path)


def test_the_step_reads_a_checkpoint_and_is_not_redone(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import k2model.training

    store = Store.open(tmp_path)
    model = random_model(theta=PHASE.rope_theta)
    read: list[Path] = []

    def load_model_state(folder: Path) -> dict[str, torch.Tensor]:
        read.append(folder)
        return model.state_dict()

    monkeypatch.setattr(k2model.training, "load_model_state", load_model_state, raising=False)
    checkpoint = _artifact(store, "checkpoint", {"final/state.json": b"{}"})
    tokenizer = _artifact(store, "tokenizer", {"tokenizer.json": (tokenizer_folder / "tokenizer.json").read_bytes()})
    first = make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer))
    assert make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer)) == first
    assert len(read) == 1 and read[0].name == "final" and first.kind == "export"
    tokens = torch.randint(0, SMALL.vocab_size, (1, 30))
    with torch.no_grad():
        assert torch.equal(load_exported(store.fetch(first))(tokens), model(tokens))
    longer = make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer, trained_length=4096))
    assert longer.identity != first.identity and load_exported(store.fetch(longer)).max_positions == 4096
    rows = _artifact(store, "sequences", {"composition.json": b'{"efforts": {"low": 9}}'})
    assert make(store, export_step(store, SMALL, PHASE, checkpoint, tokenizer, sequences=rows)) == first
    sft = replace(PHASE, kind=PhaseKind.SFT)
    chatty = make(store, export_step(store, SMALL, sft, checkpoint, tokenizer, sequences=rows))
    assert '{"low": "think_faster"}' in (store.fetch(chatty) / "chat_template.jinja").read_text()


def _artifact(store: Store, step: str, files: dict[str, bytes]) -> ArtifactRef:
    def produce(folder: Path) -> dict[str, float]:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return {}

    return store.build(Identity(step, "1", {}), produce)
