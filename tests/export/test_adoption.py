"""Models of other people's: adopted with transformers' logits, and refused by name where K2 cannot hold them."""

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.artifacts import ArtifactRef, Store, make
from k2model.export import (
    AdoptionError,
    adopted_checkpoint_step,
    adopted_export_step,
    adopted_model_of,
    load_exported,
    model_config_of,
    read_record,
)
from k2model.training import load_model_state
from tests.export.foreign import ENTRIES, LENGTH, ROWS, SHAPE, row, write_foreign

VARIANTS: dict[str, dict[str, Any]] = {
    "one-fp32": {},
    "tied-bf16-sharded": {"dtype": torch.bfloat16, "tied": True, "shard_size": "60KB"},
    "fp16-sharded": {"dtype": torch.float16, "shard_size": "60KB"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("foreign")
    return {name: write_foreign(home / name, **how) for name, how in VARIANTS.items()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A folder of one's own to spoil."""
    return Path(shutil.copytree(folders["one-fp32"], tmp_path / "copied"))


def adopt(store: Store, folder: Path | str, **changed: Any) -> ArtifactRef:
    return make(store, adopted_checkpoint_step(SHAPE, row(folder, **changed), None))


def logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    from transformers import LlamaForCausalLM

    with torch.no_grad():
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(tokens).logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_transformers_at_early_and_late_positions(
    folders: dict[str, Path], store: Store, variant: str
) -> None:
    checkpoint = adopt(store, folders[variant])
    export = store.fetch(make(store, adopted_export_step(store, SHAPE, row(folders[variant]), checkpoint)))
    tokens = torch.randint(0, ENTRIES, (1, LENGTH), generator=torch.Generator().manual_seed(1))
    theirs = logits(folders[variant], tokens)
    with torch.no_grad():
        ours = load_exported(export)(tokens)[..., :ROWS]
    assert theirs.std() > 0.5
    for positions in (slice(0, 4), slice(LENGTH - 4, LENGTH), slice(0, LENGTH)):
        assert (ours[:, positions] - theirs[:, positions]).abs().max() <= 1e-4
    assert (logits(export, tokens)[..., :ROWS] - theirs).abs().max() <= 1e-4  # and the way back
    record = read_record(store, checkpoint)
    assert record["tied"] is (variant == "tied-bf16-sharded") and record["location"] == str(folders[variant])
    assert len(list((store.fetch(checkpoint) / "final").glob("rank-*"))) == len(
        [path for path in record["files"] if path.endswith(".safetensors")]
    )


def test_added_rows_are_the_mean_and_its_tokenizer_comes_with_it(folders: dict[str, Path], store: Store) -> None:
    checkpoint = adopt(store, folders["tied-bf16-sharded"])
    state = load_model_state(store.fetch(checkpoint))
    for name in ("embedding.weight", "head.weight"):
        rows = state[name]
        assert rows.shape == (SHAPE.vocab_size, SHAPE.hidden_size)
        assert torch.allclose(rows[ROWS:], rows[:ROWS].mean(0).expand(SHAPE.vocab_size - ROWS, -1), atol=1e-6)
    assert torch.equal(state["embedding.weight"], state["head.weight"])
    record = read_record(store, checkpoint)
    assert (record["rows_added"], record["entries_appended"]) == (SHAPE.vocab_size - ROWS, 18)
    theirs = (folders["tied-bf16-sharded"] / "tokenizer.json").read_bytes()
    assert store.read(checkpoint, "with_it/tokenizer.json") == theirs


def test_a_recipe_takes_shape_from_a_folder(folders: dict[str, Path]) -> None:
    folder = str(folders["one-fp32"])
    assert model_config_of(folder) == SHAPE
    assert adopted_model_of(folder, "theirs", "Apache-2.0") == row(folder)
    with pytest.raises(AdoptionError, match=r"nowhere has no config\.json"):
        model_config_of("nowhere")


def test_a_config_of_transformers_4_is_read(copied: Path, store: Store) -> None:
    before = adopt(store, copied)
    config = json.loads((copied / "config.json").read_text())
    config = {k: v for k, v in config.items() if k not in ("rope_parameters", "head_dim", "dtype")}
    config |= {
        "rope_theta": row(copied).rope_theta,
        "rms_norm_eps": 9.999999974752427e-07,  # 1e-6 in fp32, as GGUF keeps it
        "rope_scaling": None,
        "torch_dtype": "float32",
        "pretraining_tp": 1,
    }
    (copied / "config.json").write_text(json.dumps(config))
    shards = [store.fetch(ref) / "final/rank-00000-of-00001.safetensors" for ref in (before, adopt(store, copied))]
    assert shards[0].read_bytes() == shards[1].read_bytes()


def set_in(name: str, **changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changed))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        content = json.loads(data[8 : 8 + length])
        change(content)
        new = json.dumps(content).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return rewrite


def replaced_by(name: str) -> Callable[[Path], None]:
    def replace_weights(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / name)

    return replace_weights


def indexed(files: dict[str, str]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))

    return write


def spoil(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda found: found[name].view(-1)[7:9].fill_(value)


NORM, QUERY = "model.norm.weight", "model.layers.1.self_attn.q_proj.weight"
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e4, "factor": 8.0}
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "architecture": (set_in("config.json", model_type="qwen2"), "model_type='qwen2', expected 'llama'"),
    "class": (set_in("config.json", architectures=["LlamaForSequenceClassification"]), "LlamaForSequenceClassif"),
    "rope scaling": (set_in("config.json", rope_parameters=LLAMA3), r"rope_parameters=.*llama3.*positions that are sc"),
    "old rope scaling": (set_in("config.json", rope_scaling={"type": "linear", "factor": 2.0}), "rope_scaling="),
    "biases": (set_in("config.json", attention_bias=True), "attention_bias=true: biases in its attention"),
    "mlp biases": (set_in("config.json", mlp_bias=True), "mlp_bias=true"),
    "window": (set_in("config.json", sliding_window=128), "sliding_window=128: attention within a window"),
    "layers": (set_in("config.json", layer_types=["full_attention", "sliding_attention"]), "layer_types="),
    "activation": (set_in("config.json", hidden_act="gelu"), 'hidden_act="gelu": another activation'),
    "quantised": (set_in("config.json", quantization_config={"quant_method": "gptq"}), "quantization_config="),
    "own code": (set_in("config.json", auto_map={"AutoModel": "x.Model"}), "auto_map=.*code of its own"),
    "two thetas": (set_in("config.json", rope_theta=1e6), "two values of rope_theta"),
    "no number": (set_in("config.json", num_hidden_layers="3"), 'num_hidden_layers="3" must be a whole number'),
    "no config": (lambda f: (f / "config.json").write_text("[]"), r"config\.json is no JSON object"),
    "shape": (set_in("config.json", intermediate_size=96), "model.ffn_size=80 where its config.json has intermediate"),
    "epsilon": (set_in("config.json", rms_norm_eps=1e-5), "model.rms_norm_eps=1e-06 where .*rms_norm_eps=1e-05"),
    "theta": (set_in("config.json", rope_parameters={"rope_theta": 1e4}), r"adopted\.theirs\.rope_theta=50000 where"),
    "length": (set_in("config.json", max_position_embeddings=256), "sequence_length=512 where .*embeddings=256"),
    "more rows": (set_in("config.json", vocab_size=400), "model.vocab_size=318 where .*has vocab_size=400"),
    "missing": (tensors(lambda t: t.pop(QUERY)), rf"lacks tensors of the model: {QUERY} \(1 in all\)"),
    "extra": (tensors(lambda t: t.update(x=torch.ones(2))), r"no place for: x \(1 in all\)"),
    "wrong shape": (tensors(lambda t: t.update({NORM: torch.ones(3)})), rf"{NORM} is \[3\] in model.safetensors"),
    "type": (tensors(lambda t: t.update({NORM: torch.ones(48, dtype=torch.int8)})), "norm.weight is I8"),
    "cut off": (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 64), "no whole safetensors file"),
    "huge header": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}"), "a header of 11529215"
    ),
    "hole": (header(lambda c: c[NORM].update(data_offsets=[4, 8])), "no whole safetensors file"),
    "pickled": (replaced_by("pytorch_model.bin"), "loading a pickle runs code.*save them as safetensors"),
    "gguf": (replaced_by("model.gguf"), "GGUF is for inference"),
    "adapter": (lambda f: (replaced_by("adapter_config.json")(f)), "Merge it into its base model"),
    "absent file": (indexed({NORM: "model-00002-of-00002.safetensors"}), "model-00002.*which is not there"),
    "path in index": (indexed({NORM: "../model.safetensors"}), r"'\.\./model\.safetensors', which is not there"),
    "elsewhere": (
        indexed({"x": "model-00001-of-00002.safetensors"}), r"has not the tensors where its .*index\.json says: x"
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"holds no tokenizer\.json"),
    "other tokenizer": (set_in("tokenizer.json", added_tokens=[{"id": 304}]), "ids up to 304, .* 304 rows"),
    "licence": (
        lambda f: (f / "README.md").write_text("---\ntags: [a]\nlicense: llama3.1\n---\n"),
        r"licence='Apache-2\.0', but README\.md says 'llama3\.1'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_held_is_refused_by_name_before_anything_is_made(copied: Path, name: str) -> None:
    spoiled, told = REFUSED[name]
    spoiled(copied)
    with pytest.raises(AdoptionError, match=told) as refused:
        adopted_checkpoint_step(SHAPE, row(copied), None)
    assert "adopted.theirs" in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_with_their_tensor(copied: Path, store: Store, value: float) -> None:
    tensors(spoil(QUERY, value))(copied)
    with pytest.raises(AdoptionError, match=rf"{QUERY} has 2 values that are NaN or infinite"):
        adopt(store, copied)
    assert store.records("adopted_checkpoint") == []


def test_only_the_head_of_a_card_states_a_licence(copied: Path) -> None:
    for card, licence in (
        ("---\ntags: [a]\n---\nlicense: mit\n", "Apache-2.0"),
        ("---\nlicense: other\n---\n", "Own-1.0"),
    ):
        (copied / "README.md").write_text(card)
        assert adopted_checkpoint_step(SHAPE, row(copied, licence=licence), None).identity


def test_a_tied_model_has_one_embedding(copied: Path, store: Store) -> None:
    set_in("config.json", tie_word_embeddings=True)(copied)
    with pytest.raises(AdoptionError, match=r"tie_word_embeddings, but lm_head\.weight is not model\.embed_tokens"):
        adopt(store, copied)
    tensors(lambda found: found.update({"lm_head.weight": found["model.embed_tokens.weight"].clone()}))(copied)
    assert read_record(store, adopt(store, copied))["tied"]


def test_buffers_that_old_versions_saved_are_passed_over(copied: Path, store: Store) -> None:
    tensors(lambda found: found.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))(copied)
    assert len(load_model_state(store.fetch(adopt(store, copied)))) == 3 + 9 * SHAPE.n_layers


def test_a_vocabulary_without_room_for_special_tokens_is_refused(copied: Path, store: Store) -> None:
    small = replace(SHAPE, vocab_size=ROWS)
    with pytest.raises(AdoptionError, match=r"has 318 entries with K2's special tokens.*model\.vocab_size=304 rows"):
        make(store, adopted_checkpoint_step(small, row(copied), None))


def test_content_bears_the_identity_and_the_place_does_not(copied: Path, store: Store, tmp_path: Path) -> None:
    first = adopt(store, copied)
    elsewhere = Path(shutil.copytree(copied, tmp_path / "elsewhere"))
    assert adopt(store, elsewhere) == first
    tensors(spoil(NORM, 1.0))(elsewhere)
    assert adopt(store, elsewhere).digest != first.digest
    assert adopt(store, copied, source="https://example.org/theirs").identity != first.identity


def test_what_changes_between_plan_and_run_gets_into_nothing(copied: Path, store: Store) -> None:
    step = adopted_checkpoint_step(SHAPE, row(copied), None)
    assert step.identity.name
    tensors(spoil(NORM, 1.0))(copied)
    with pytest.raises(AdoptionError, match=r"model\.safetensors was written to while it was read"):
        make(store, step)
    assert store.records("adopted_checkpoint") == []


def test_links_as_the_hubs_cache_has_them_are_followed(copied: Path, store: Store, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file in copied.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert adopt(store, snapshot) == adopt(store, copied)


def test_an_object_store_gives_the_same_artifact(copied: Path, store: Store, s3_uri: str) -> None:
    from k2model.artifacts.files import files_at

    for file in copied.iterdir():
        files_at(f"{s3_uri}/models/theirs").write(file.name, file.read_bytes())
    remote = adopt(store, f"{s3_uri}/models/theirs")
    assert remote.digest == adopt(store, copied).digest
    assert read_record(store, remote)["location"] == f"{s3_uri}/models/theirs"
    with pytest.raises(AdoptionError, match=r"adopted\.theirs\.location='s3://.*there is no file"):
        adopt(store, f"{s3_uri}/models/nothing")
