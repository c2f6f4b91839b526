"""Scores by generation: items are asked in a mode, the greedy answer is verified by the family's check.

A mode says how an item is put (completion, with or without a trace, chat with an effort) and where
in what the model wrote the answer starts. An answer whose trace was never closed is wrong. The
closing tag is looked for among token ids: the same letters as plain text do not count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2model.documents.markup import (
    EFFORTS,
    IM_END,
    THINK_END,
    Segment,
    chat_prompt,
    joined,
    plain_prompt,
    reasoning_prompt,
)
from k2model.evals.generation import EvaluatedModel, generate, matrix_products
from k2model.evals.scores import Outcome, Sample, accuracy
from k2model.tokens import K2Tokenizer

if TYPE_CHECKING:
    from k2model.documents.schema import Item


@dataclass(frozen=True)
class Mode:
    """`closing` is the tag that ends the trace ("" = what the model writes is the answer)."""

    prompt: Callable[[str], list[Segment]]
    closing: str = ""
    traced: bool = False  # whether there is room to think, which takes more tokens


def _chat(effort: str) -> Mode:
    return Mode(
        lambda prompt: chat_prompt([{"role": "user", "content": prompt}], effort),
        closing=EFFORTS[effort][1],
        traced=effort != "low",
    )


MODES: Mapping[str, Mode] = {
    "plain": Mode(plain_prompt),
    "think": Mode(lambda prompt: reasoning_prompt(prompt, think=True), THINK_END, traced=True),
    "direct": Mode(lambda prompt: reasoning_prompt(prompt, think=False)),
    **{effort: _chat(effort) for effort in EFFORTS},
}

#: Most tokens generated: (with a trace, without). A third more than the longest honest answer.
LIMITS: Mapping[str, tuple[int, int]] = {
    "arithmetic": (40, 12),
    "spelling": (40, 20),
    "knights": (40, 10),
    "countdown": (128, 24),
    "tools": (80, 80),
    "facts_seen": (16, 16),
    "facts_heldout": (16, 16),
    "facts_chat_seen": (24, 16),
    "facts_chat_heldout": (24, 16),
}

Check = Callable[["Item", str], bool]


def limit(family: str, mode: str) -> int:
    """Most tokens an answer of `family` asked in `mode` may take."""
    traced, untraced = LIMITS[family]
    return traced if MODES[mode].traced else untraced


def ask(evaluated: EvaluatedModel, family: str, mode: str, checks: Mapping[str, Check]) -> Outcome:
    """Ask the items of `family` once; `checks` maps each score to what makes an answer right."""
    items, put = evaluated.items(family), MODES[mode]
    prompts = [put.prompt(item["prompt"]) for item in items]
    tokenizer = evaluated.tokenizer
    stops = frozenset((tokenizer.eos, tokenizer.special(IM_END)))
    with matrix_products():
        generated = generate(
            evaluated.model,
            [tokenizer.encode_segments(prompt)[0] for prompt in prompts],
            limit(family, mode),
            stops,
            evaluated.config.batch_size,
        )
    answers = [answer_of(ids, put.closing, stops, tokenizer) for ids in generated]
    mean_tokens = sum(map(len, generated)) / len(generated)
    outcome = Outcome()
    for score, check in checks.items():
        samples = [
            Sample(
                score, joined(prompt), tokenizer.decode(ids), item["answer"],
                answer is not None and check(item, answer),
            )
            for item, prompt, ids, answer in zip(items, prompts, generated, answers, strict=True)
        ]  # fmt: skip
        outcome.rows.append(accuracy(evaluated.phase, samples, mean_tokens, chance(family, items)))
        outcome.samples.extend(samples)
    return outcome


def answer_of(ids: list[int], closing: str, stops: frozenset[int], tokenizer: K2Tokenizer) -> str | None:
    """The text after the closing tag and before the stop token; None when the trace was not closed."""
    if ids and ids[-1] in stops:
        ids = ids[:-1]
    if closing:
        tag = tokenizer.special(closing)
        if tag not in ids:
            return None
        ids = ids[ids.index(tag) + 1 :]
    return tokenizer.decode(ids)


def chance(family: str, items: "list[Item]") -> float | None:
    """What a guesser gets: for Knights and Knaves always the commonest answer; None where it is about 0."""
    if family != "knights":
        return None
    answers = [item["answer"] for item in items]
    return max(answers.count(answer) for answer in sorted(set(answers))) / len(answers)
