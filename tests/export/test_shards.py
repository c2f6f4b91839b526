"""The files of an export's weights, against safetensors and transformers, and what memory they take."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from k2model.artifacts import Store, make
from k2model.export import adopted_checkpoint_step, adopted_export_step, adopted_model_of, load_exported
from k2model.export import hugging_face as llama
from k2model.export.shards import share_out
from k2model.export.step import write_export
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import ExportConfig
from k2model.recipe.validate import RecipeError, validate_recipe
from k2model.training import load_model_state
from k2model.training.checkpoint import InMemory, shard, tensors
from tests.export.foreign import SHAPE, row, write_foreign
from tests.model.conftest import SMALL, byte_tokenizer, random_model

PHASE = replace(laptop().phase("mid_4"), sequence_length=128, rope_theta=3e5)
SHARD = 60_000  # bytes
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tensors of these models are several blocks."""
    for module in ("shards", "conversion"):
        monkeypatch.setattr(f"k2model.export.{module}.BLOCK", 1000)
    monkeypatch.setattr(shard, "BLOCK", 1000)
    monkeypatch.setattr(tensors, "BLOCK", 1000)


def exported(folder: Path, tokenizer: Path, **form: Any) -> torch.nn.Module:
    folder.mkdir()
    model = random_model(SMALL, theta=PHASE.rope_theta, positions=PHASE.sequence_length)
    write_export(folder, InMemory(model.state_dict()), SMALL, PHASE, tokenizer, form=ExportConfig(**form))
    return model


def logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    from transformers import LlamaForCausalLM

    with torch.no_grad():
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(tokens).logits


def test_one_file_has_the_bytes_that_safetensors_writes(tmp_path: Path, tokenizer: Path) -> None:
    state = exported(tmp_path / "export", tokenizer).state_dict()
    save_file(llama.to_llama(state, SMALL), tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "export/model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert not [*(tmp_path / "export").glob("*.index.json")]


@pytest.mark.parametrize("bf16", [False, True])
def test_transformers_reads_shards_with_the_same_logits(tmp_path: Path, tokenizer: Path, bf16: bool) -> None:
    model = exported(tmp_path / "export", tokenizer, bf16=bf16, shard_bytes=SHARD)
    files = sorted((tmp_path / "export").glob("model-*.safetensors"))
    assert len(files) > 2 and files[-1].name == f"model-{len(files):05d}-of-{len(files):05d}.safetensors"
    assert all(sum(t.nbytes for t in load_file(file).values()) <= SHARD for file in files)
    config = json.loads((tmp_path / "export/config.json").read_text())
    assert config["torch_dtype"] == config["dtype"] == ("bfloat16" if bf16 else "float32")
    tokens = torch.randint(0, SMALL.vocab_size, (1, 128))
    theirs, loaded = logits(tmp_path / "export", tokens), load_exported(tmp_path / "export")
    with torch.no_grad():
        assert (loaded(tokens) - theirs).abs().max() <= 1e-4 and theirs.std() > 0.1
        exact = torch.equal(loaded(tokens), model(tokens))
    assert exact is not bf16  # fp32 loses nothing


def test_shards_are_those_that_transformers_saves_and_reads_back(tmp_path: Path, tokenizer: Path) -> None:
    from transformers import LlamaForCausalLM

    exported(tmp_path / "export", tokenizer, shard_bytes=SHARD)
    LlamaForCausalLM.from_pretrained(tmp_path / "export").save_pretrained(tmp_path / "theirs", max_shard_size=SHARD)
    ours, theirs = (
        json.loads((tmp_path / f"{n}/model.safetensors.index.json").read_text()) for n in ("export", "theirs")
    )
    assert ours["metadata"] == theirs["metadata"]
    assert ours["weight_map"].keys() == theirs["weight_map"].keys()
    both = [load_exported(tmp_path / name).state_dict() for name in ("export", "theirs")]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def test_bf16_is_the_nearest_and_even_where_two_are(tmp_path: Path, tokenizer: Path) -> None:
    state = exported(tmp_path / "export", tokenizer, bf16=True).state_dict()
    found = load_file(tmp_path / "export/model.safetensors")
    for name, theirs in llama.llama_names(SMALL).items():
        whole = state[name] + 1 if name.endswith("norm.weight") else state[name]
        bits = whole.numpy().view(np.uint32).astype(np.uint64)
        nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        assert found[theirs].dtype == torch.bfloat16
        assert (found[theirs].view(torch.int16).numpy().view(np.uint16) == nearest).all(), name


def test_a_model_is_loaded_in_the_type_that_is_asked_for(tmp_path: Path, tokenizer: Path) -> None:
    exported(tmp_path / "export", tokenizer, shard_bytes=SHARD)
    half, whole = load_exported(tmp_path / "export", dtype=torch.bfloat16), load_exported(tmp_path / "export")
    assert {p.dtype for p in whole.parameters()} == {torch.float32} and half.cos.dtype == torch.float32
    assert all(p.device.type == "cpu" and p.requires_grad for p in (*half.parameters(), *whole.parameters()))
    for (name, ours), theirs in zip(half.named_parameters(), whole.parameters(), strict=True):
        added = name == "embedding.weight" or theirs.dim() == 1  # and not multiplied by a matrix
        assert ours.dtype == (torch.float32 if added else torch.bfloat16)
        assert torch.equal(ours, theirs.to(ours.dtype)), name
    tokens = torch.randint(0, SMALL.vocab_size, (1, 64))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(half(tokens), whole(tokens))


def test_a_model_is_loaded_to_the_device_that_is_asked_for(tmp_path: Path, tokenizer: Path) -> None:
    exported(tmp_path / "export", tokenizer, shard_bytes=SHARD)
    away = load_exported(tmp_path / "export", device="meta")
    assert {tensor.device.type for tensor in (*away.parameters(), away.cos, away.sin)} == {"meta"}


def test_our_own_shards_can_be_adopted_and_exported_again(tmp_path: Path) -> None:
    """And in blocks a tied head, added rows and types of two bytes give what they give in one."""
    store = Store.open(tmp_path / "store")
    (tmp_path / "theirs").mkdir()
    theirs = write_foreign(tmp_path / "theirs", dtype=torch.bfloat16, tied=True, shard_size="60KB")
    checkpoint = make(store, adopted_checkpoint_step(SHAPE, row(theirs), None))
    form = ExportConfig(bf16=True, shard_bytes=SHARD)
    export = store.fetch(make(store, adopted_export_step(store, SHAPE, row(theirs), checkpoint, form)))
    assert len([*export.glob("model-*.safetensors")]) > 1
    again = make(store, adopted_checkpoint_step(SHAPE, adopted_model_of(str(export), "ours", "apache-2.0"), None))
    first, second = (load_model_state(store.fetch(one)) for one in (checkpoint, again))
    rows = load_file(theirs / "model-00001-of-00003.safetensors")["model.embed_tokens.weight"].float()
    assert torch.equal(first["embedding.weight"][: len(rows)], rows)
    mean = rows.double().mean(0).float()
    assert torch.allclose(first["embedding.weight"][len(rows) :], mean.expand(SHAPE.vocab_size - len(rows), -1))
    assert torch.equal(first["head.weight"], first["embedding.weight"])
    for name in first:
        assert torch.equal(first[name].bfloat16().float(), second[name]) or name.endswith("norm.weight")


def test_files_hold_no_more_than_the_limit_but_for_one_tensor_alone() -> None:
    assert share_out({"a": 4, "b": 4, "c": 3, "d": 20, "e": 1}, 8) == [["a", "b"], ["c"], ["d"], ["e"]]
    with pytest.raises(RecipeError, match=r"export\.shard_bytes=0 must be at least 1"):
        validate_recipe(replace(laptop(), export=ExportConfig(shard_bytes=0)))


@pytest.mark.parametrize("harm", ["file", "tensor", "cut", "index"])
def test_damaged_shards_are_refused_by_name(tmp_path: Path, tokenizer: Path, harm: str) -> None:
    exported(tmp_path / "export", tokenizer, shard_bytes=SHARD)
    second = sorted((tmp_path / "export").glob("model-00002-*"))[0]
    index = tmp_path / "export/model.safetensors.index.json"
    if harm == "file":
        second.unlink()
    elif harm == "tensor":
        held = load_file(second)
        gone = held.popitem()[0]
        save_file(held, second)
    elif harm == "cut":
        second.write_bytes(second.read_bytes()[:-4])
    else:
        index.unlink()
    told = {
        "file": rf"'{second.name}', which is not there",
        "tensor": rf"lacks tensors of the model: {gone if harm == 'tensor' else ''}",
        "cut": rf"{second.name} is no whole safetensors file",
        "index": r"model\.safetensors is missing",
    }[harm]
    with pytest.raises(llama.ExportError, match=told):
        load_exported(tmp_path / "export")


MEMORY = """
import sys
from pathlib import Path

from benchmarks.export_memory import Forms, resident
from k2model.export import conversion, shards, source
from k2model.recipe.counts import count_parameters
from k2model.recipe.schema import ExportConfig, ModelConfig
from k2model.training.checkpoint import shard, tensors

for module in (shard, tensors, shards, conversion):
    module.BLOCK = 2**18
for module in (source, conversion):
    module.PIECE = 2**20
small, large = (
    ModelConfig(
        vocab_size=rows, hidden_size=512, n_layers=1, n_heads=4, n_kv_heads=1, head_dim=128, ffn_size=512, init_std=0.02
    )
    for rows in (300, 30_000)
)
form = ExportConfig(bf16=True, shard_bytes=20_000_000)
for model in (small, large):  # the first imports what is imported
    forms = Forms(Path(sys.argv[1], str(model.vocab_size)), model, form)
    before = resident("VmRSS")
    forms.export()
    forms.adopt()
    written = resident("VmHWM") - before
    forms.load()
    loaded = resident("VmHWM") - before - 4 * count_parameters(model)
print(4 * large.vocab_size * large.hidden_size, written, loaded)
"""


def test_no_tensor_is_held_while_a_model_is_exported_adopted_or_loaded(tmp_path: Path) -> None:
    """Of 130 MB, in a process of its own."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    tensor, written, loaded = (int(number) for number in told.split()[-3:])
    assert written < tensor / 2, f"{written / 1e6:.0f} MB"
    assert loaded < tensor / 2, f"{loaded / 1e6:.0f} MB"


@pytest.mark.parametrize("tied", [False, True])
def test_a_foreign_folder_is_read_as_transformers_reads_it(tmp_path: Path, tied: bool) -> None:
    folder = write_foreign(tmp_path / "theirs", tied=tied, shard_size="50KB")
    tokens = torch.randint(0, 300, (2, 40))
    with torch.no_grad():
        assert (load_exported(folder)(tokens) - logits(folder, tokens)).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"hidden_act": "gelu"}, "another activation"),
        ({"model_type": "mistral", "sliding_window": 64}, "attention within a window"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5e4}}, "positions that are scaled"),
    ],
)
def test_a_folder_of_another_architecture_is_refused(tmp_path: Path, changed: dict, told: str) -> None:
    config = write_foreign(tmp_path / "theirs") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    with pytest.raises(llama.ExportError, match=told):
        load_exported(config.parent)
