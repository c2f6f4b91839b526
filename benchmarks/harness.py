"""Per item, what our backends and the harness's own `hf` model make of the same weights: the same, or by how much not.

    K2_EVAL_DATA=data python -m benchmarks.harness --model SmolLM2-135M-Instruct [--items 12] [--tokens 8]

No speed is measured. A model in Hugging Face's form is adopted (K2's special tokens appended, as `recipe.adopted` does)
and exported; then `lm_eval`'s own `HFLM` at batch 1 is the reference, and the project's own model and the one in
transformers are asked the same at batch 1, 8 and 32, all in fp32: greedy answers to GSM8K, BIG-Bench Hard and HumanEval
items, and likelihoods of answers to the first two. Without `--model` the weights are random and small, and prove less;
without K2_EVAL_DATA (docs/harness.md, which says what was measured) there are the few items of the tests. Needs the
`dev` extra.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from k2model.artifacts import Store, make
from k2model.documents.markup import SPECIAL_TOKENS
from k2model.evals.backend import Backend
from k2model.evals.backends import OwnModel, TransformersModel
from k2model.evals.harness import HarnessModel, HarnessTask, prepare
from k2model.evals.harness.tasks import SHOTS_SEED, quiet
from k2model.export import adopted_checkpoint_step, adopted_model_of, load_exported, model_config_of
from k2model.export.step import write_export
from k2model.recipe.laptop import laptop
from k2model.tokens import K2Tokenizer
from k2model.tokens.adoption import adopt_folder, read_specification
from k2model.training import open_model_state

BATCHES = (1, 8, 32)
ROOM = 4_096  # positions
TOLERANCE = 2e-6  # of a likelihood: what sums in fp32 in another order make of one over some hundred tokens

CHOOSING: dict[str, Any] = {
    "output_type": "multiple_choice",
    "generation_kwargs": None,
    "filter_list": None,
    "doc_to_target": "{{0}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
TASKS = (
    HarnessTask("gsm8k", ("gsm8k/gsm8k.yaml",), metric="exact_match"),
    HarnessTask("bbh", ("bbh/cot_fewshot/navigate.yaml",), metric="exact_match"),
    HarnessTask("humaneval", ("humaneval/humaneval.yaml",), metric="exact_match", grade="program"),
    HarnessTask(
        "gsm8k, choices", ("gsm8k/gsm8k.yaml",), metric="acc",
        changes={**CHOOSING, "task": "gsm8k_choices", "doc_to_choice": "{{[answer, answer[-4:], 'none']}}"},
    ),
    HarnessTask(
        "bbh, choices", ("bbh/cot_fewshot/navigate.yaml",), metric="acc",
        changes={**CHOOSING, "task": "bbh_choices", "doc_to_choice": "{{[target, 'Yes', 'No']}}"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """Of one backend with the reference: items with the same text, the largest difference of a likelihood in `nats` and
    as a `share` of it, items with the same marks, and which differ."""

    texts: int
    of_texts: int
    nats: float
    share: float
    likelihoods: int
    marks: int
    of_marks: int
    differing: tuple[str, ...]

    def __str__(self) -> str:
        told = f"texts {self.texts} of {self.of_texts}, likelihoods within {self.nats:.1e} nats, "
        told += f"{self.share:.1e} of each ({self.likelihoods}), "
        return f"{told}marks {self.marks} of {self.of_marks}{'; differ: ' if self.differing else ''}" + ", ".join(
            self.differing
        )


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    os.environ.setdefault("K2_EVAL_DATA", str(Path(__file__).parents[1] / "tests" / "evals" / "data"))
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(options.model) if options.model else _random(Path(scratch) / "random")
        folder = adopted(given, Path(scratch))
        print(f"{given.name}, fp32, {options.items} items a task, {options.tokens} tokens an answer; " + _versions())
        began = time.monotonic()
        expected = logged(_theirs(folder), options.items, options.tokens)
        print(
            f"reference: lm_eval's HFLM at batch 1, {len(expected)} items [{time.monotonic() - began:.0f} s]",
            flush=True,
        )
        agree = True
        for name, size, backend in _backends(folder):
            began = time.monotonic()
            found = agreement(logged(HarnessModel(backend), options.items, options.tokens), expected)
            print(f"{name} at batch {size}: {found} [{time.monotonic() - began:.0f} s]", flush=True)
            agree &= found.texts == found.of_texts and found.marks == found.of_marks and found.share <= TOLERANCE
    print(f"{'every' if agree else 'NOT every'} item agrees, likelihoods to {TOLERANCE:.0e} of each")


def adopted(given: Path, scratch: Path) -> Path:
    """An export of the adopted model with a tokenizer that has K2's special tokens."""
    shape, row = model_config_of(str(given)), adopted_model_of(str(given), "adopted", "Apache-2.0")
    store = Store.open(str(scratch / "store"))
    state = open_model_state(store, make(store, adopted_checkpoint_step(shape, row, None)))
    tokenizer, folder = scratch / "tokenizer", scratch / "export"
    adopt_folder(read_specification(str(given)), shape.vocab_size, tokenizer, str(given))
    folder.mkdir()
    phase = replace(laptop().phase("mid_1"), sequence_length=ROOM, rope_theta=row.rope_theta)
    write_export(folder, state, shape, phase, tokenizer)
    return folder


def logged(model: Any, items: int, tokens: int) -> list[dict[str, Any]]:
    """What the harness's own loop logs of each item; requests of all tasks go to the model together."""
    from lm_eval.evaluator import evaluate

    parts = [part for task in TASKS for part in _here(task, items)]
    for part in parts:
        part.task.set_fewshot_seed(SHOTS_SEED)
        if part.task.OUTPUT_TYPE == "generate_until":
            part.task.set_config(key="generation_kwargs", value={"max_gen_toks": tokens}, update=True)
    with quiet():
        tasks = {part.name: part.task for part in parts}
        found = evaluate(model, {"tasks": tasks, "groups": {}}, limit=items, bootstrap_iters=0)
    return [one | {"task": name} for name in tasks for one in found["samples"][name]]


def agreement(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> Agreement:
    """Item by item; which items these are has to agree before."""
    texts, nats, shares, marks, differing = [], [], [], [], []
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["prompt_hash"] == theirs["prompt_hash"] and mine["doc_hash"] == theirs["doc_hash"]
        for said, reply in zip(mine["resps"], theirs["resps"], strict=True):
            if isinstance(said[0], str):
                texts.append(_bare(said[0]) == _bare(reply[0]))
                differing += [] if texts[-1] else [f"{mine['task']}/{mine['doc_id']}"]
            else:
                nats.append(abs(said[0][0] - reply[0][0]))
                shares.append(nats[-1] / max(1.0, abs(reply[0][0])))
        marks.append(all(mine[name] == theirs[name] for name in mine["metrics"]))
    return Agreement(
        sum(texts),
        len(texts),
        max(nats),
        max(shares),
        len(nats),
        sum(marks),
        len(marks),
        tuple(dict.fromkeys(differing)),
    )


def _here(task: HarnessTask, items: int) -> Any:
    prepared = prepare(task, limit=items)
    if prepared.absent:
        raise SystemExit("; ".join(prepared.told.values()))
    return prepared.parts


def _bare(text: str) -> str:
    """Without special tokens, whose names the harness leaves out of a text."""
    for name in SPECIAL_TOKENS:
        text = text.replace(name, "")
    return re.sub(r"<\|[^|]*\|>", "", text)


def _theirs(folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Its default, log_softmax in fp32, is off by 1e-5 a token on a CPU over a vocabulary of 49,000.
    return HFLM(model, tokenizer=tokenizer, batch_size=1, device="cpu", softmax_dtype=torch.float64)


def _backends(folder: Path) -> Iterator[tuple[str, int, Backend]]:
    own, tokenizer = load_exported(folder), K2Tokenizer.load(folder)
    for size in BATCHES:
        yield "own model", size, OwnModel(own, tokenizer, "own", torch.float32, size)
    del own
    for size in BATCHES:
        yield "transformers", size, TransformersModel(folder, batch_size=size)


def _random(folder: Path) -> Path:
    from tests.export.foreign import write_foreign

    folder.mkdir()
    return write_foreign(folder)


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("lm-eval", "torch", "transformers"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a Llama in Hugging Face's form")
    parser.add_argument("--items", type=int, default=12, help="of each task, the first")
    parser.add_argument("--tokens", type=int, default=8, help="an answer may have")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
