"""The search for prompts against the obvious slow way of doing it."""

import random
import re

import pyarrow as pa

from k2model.validation.documents.measures import find_prompts


def slowly(texts: list[str], prompts: list[str]) -> dict[int, int]:
    found = {}
    for row, text in enumerate(texts):
        for index, prompt in reversed(list(enumerate(prompts))):
            left = r"(?<!\w)" if re.match(r"\w", prompt[0]) else ""
            right = r"(?!\w)" if re.match(r"\w", prompt[-1]) else ""
            if re.search(left + re.escape(prompt) + right, text):
                found[row] = index
    return found


def test_finds_what_a_plain_search_finds() -> None:
    rng = random.Random(0)
    words = ["Niger", "Nigeria", "is", "the", "12", "7", "café"]
    texts = [" ".join(rng.choices(words, k=rng.randrange(0, 9))) for _ in range(400)]
    prompts = [" ".join(rng.choices(words, k=k)) for k in (1, 2, 3, 4, 5) for _ in range(4)]
    wanted = slowly(texts, prompts)
    assert 10 < len(wanted) < 400
    chunks = pa.chunked_array([texts[:100], texts[100:101], [], texts[101:]], type=pa.string())
    assert find_prompts(chunks, prompts) == wanted


def test_a_match_never_spans_two_documents() -> None:
    assert find_prompts(pa.chunked_array([["ends with the cap", "ital of France"]]), ["the capital of"]) == {}


def test_missing_and_sliced_texts() -> None:
    texts = pa.chunked_array([pa.array(["Compute 1+1=", None, "", "x Compute 1+1= y"]).slice(1)])
    assert find_prompts(texts, ["Compute 1+1="]) == {2: 0}
