"""Per item what the harness itself says of the same weights, run by its own `hf` model: a fast form, on real items and
small learnt weights. `benchmarks/harness.py` is the same on a model of 135M parameters."""

from pathlib import Path
from typing import Any

import pytest

from k2model.documents.markup import SPECIAL_TOKENS
from k2model.evals.answers import Answers
from k2model.evals.backends import OwnModel, TransformersModel
from k2model.evals.harness import HarnessModel, prepare, tasks_named
from k2model.evals.harness.tasks import SHOTS_SEED, quiet
from k2model.tokens.bpe import begin_with_bos
from tests.evals.harness.test_faults import choices

NAMES = ("k2_base/bbh", "gsm8k")
LIMIT, TOKENS = 2, 24


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """The harness's own model on the export, whose byte tokenizer is made to begin texts as a learned one does."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")
    begin_with_bos(tokenizer.backend_tokenizer)
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return HFLM(model, tokenizer=tokenizer, batch_size=3, add_bos_token=True, device="cpu")


def samples(model: Any, prepared: Any) -> list[dict[str, Any]]:
    """What the harness's own loop logs of each item."""
    from lm_eval.evaluator import evaluate

    tasks = {part.name: part.task for part in prepared.parts}
    for task in tasks.values():
        task.set_fewshot_seed(SHOTS_SEED)
        if task.OUTPUT_TYPE == "generate_until":
            task.set_config(key="generation_kwargs", value={"max_gen_toks": TOKENS}, update=True)
    with quiet():
        found = evaluate(model, {"tasks": tasks, "groups": {}}, limit=LIMIT, bootstrap_iters=0)
    return [one for name in tasks for one in found["samples"][name]]


def bare(text: str) -> str:
    """Without K2's special tokens, whose names the harness leaves out of a text."""
    for name in SPECIAL_TOKENS:
        text = text.replace(name, "")
    return text


@pytest.mark.parametrize("size", [1, 8, 32])
def test_items_are_as_the_harness_has_them(theirs: Any, folder: Path, own: OwnModel, size: int) -> None:
    backends = [TransformersModel(folder, batch_size=size)]
    if size == 1:
        backends.append(own)  # type: ignore[arg-type]
    for task in [*tasks_named(NAMES), choices()]:
        expected = samples(theirs, prepare(task, limit=LIMIT))
        for backend in backends:
            found = samples(HarnessModel(backend), prepare(task, limit=LIMIT))
            assert len(found) == len(expected) > 0
            for mine, other in zip(found, expected, strict=True):
                assert mine["prompt_hash"] == other["prompt_hash"] and mine["target"] == other["target"]
                assert [mine[name] for name in mine["metrics"]] == [other[name] for name in other["metrics"]]
                for said, reply in zip(mine["resps"], other["resps"], strict=True):
                    if isinstance(said[0], str):
                        assert bare(said[0]) == bare(reply[0])
                    else:
                        assert said[0][0] == pytest.approx(reply[0][0], abs=1e-4) and said[0][1] == reply[0][1]


def test_our_marks_are_the_harnesss(own: OwnModel) -> None:
    """The value of every item that came to an end, and of every choice."""
    for task in [*tasks_named(NAMES), choices()]:
        logged = samples(HarnessModel(own), prepare(task, limit=LIMIT))
        logged = [one for one in logged if one["filter"] in (task.filter, "none")]
        prepared = prepare(task, limit=LIMIT)
        for part in prepared.parts:
            if part.task.OUTPUT_TYPE == "generate_until":
                part.task.set_config(key="generation_kwargs", value={"max_gen_toks": TOKENS}, update=True)
        results = prepared.ask(own, Answers())
        assert len(results) == len(logged)
        for result, one in zip(results, logged, strict=True):
            assert result.value == one[task.metric] if result.grade.value in ("right", "wrong") else result.value == 0.0
