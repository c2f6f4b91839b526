"""What datatrove makes of a file of documents: seconds of each stage, and the verdict of each of its rules.

Runs in an environment of its own, which has `datatrove[processing]` and `spacy` and nothing of this project:

    PYTHON benchmarks/peers/datatrove_leg.py DOCUMENTS.jsonl OUT.json [speed]

A rule's verdict is that of its filter with every other rule of it switched off. With `speed` filters run as in a
pipeline, whole, one document after the other.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

OFF = 1e9
#: Our rule: their filter, and its settings with all else off.
QUALITY: dict[str, dict[str, Any]] = {
    "few_words": {"min_doc_words": 50},
    "many_words": {"max_doc_words": 100_000},
    "mean_word_length": {"min_avg_word_length": 3, "max_avg_word_length": 10},
    "bullet_lines": {"max_bullet_lines_ratio": 0.9},
    "ellipsis_lines": {"max_ellipsis_lines_ratio": 0.3},
    "alphabetic_words": {"max_non_alpha_words_ratio": 0.8},
    "no_stop_words": {"min_stop_words": 2},
}
SYMBOLS = {"hash_symbols": "gopher_too_many_hashes", "ellipses": "gopher_too_many_ellipsis"}
REPETITION: dict[str, dict[str, Any]] = {
    "repeated_lines": {"dup_line_frac": 0.3},
    "repeated_paragraphs": {"dup_para_frac": 0.3},
    "repeated_line_characters": {"dup_line_char_frac": 0.2},
    "repeated_paragraph_characters": {"dup_para_char_frac": 0.2},
    **{f"top_{n}gram": {"top_n_grams": ((n, share),)} for n, share in ((2, 0.2), (3, 0.18), (4, 0.16))},
    **{f"repeated_{n}grams": {"dup_n_grams": ((n, (20 - n) / 100),)} for n in range(5, 11)},
}
FINEWEB: dict[str, dict[str, Any]] = {
    "punctuated_lines": {"line_punct_thr": 0.12},
    "fineweb_line_characters": {"char_duplicates_ratio": 0.1},
    "short_lines": {"short_line_thr": 0.67},
}
C4 = {"lorem_ipsum": {"filter_lorem_ipsum": True}, "curly_bracket": {"filter_curly_bracket": True}}


def filters() -> Iterator[tuple[str, Callable[[str], bool]]]:
    """(our rule, whether theirs rejects a text)."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    bounds = ("doc_words", "avg_word_length")
    none = {f"{end}_{name}": None for name in bounds for end in ("min", "max")}
    none |= dict.fromkeys(("max_symbol_word_ratio", "max_bullet_lines_ratio", "max_ellipsis_lines_ratio"))
    none |= dict.fromkeys(("max_non_alpha_words_ratio", "min_stop_words"))
    no_repetition = dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"))
    no_repetition |= {"top_n_grams": (), "dup_n_grams": ()}
    no_fineweb = {"line_punct_thr": -1, "short_line_thr": OFF, "char_duplicates_ratio": OFF, "new_line_ratio": OFF}

    def rejects(one: Any, reason: str = "") -> Callable[[str], bool]:
        def verdict(text: str) -> bool:
            found = one.filter(Document(text=text, id=""))
            return found is not True and (not reason or found[1] == reason)

        return verdict

    for rule, own in QUALITY.items():
        yield rule, rejects(GopherQualityFilter(**(none | own)))
    for rule, reason in SYMBOLS.items():
        yield rule, rejects(GopherQualityFilter(**(none | {"max_symbol_word_ratio": 0.1})), reason)
    for rule, own in REPETITION.items():
        yield rule, rejects(GopherRepetitionFilter(**(no_repetition | own)))
    for rule, own in FINEWEB.items():
        yield rule, rejects(FineWebQualityFilter(**(no_fineweb | own)))
    for rule, own in C4.items():
        yield rule, rejects(_c4(C4QualityFilter, **own))


def _c4(kind: Any, **wanted: bool) -> Any:
    names = ("no_terminal_punct", "lorem_ipsum", "javascript", "curly_bracket", "policy")
    off = {f"filter_{name}": False for name in names} | {"remove_citations": False}
    return kind(**(off | {"min_num_sentences": -1, "min_words_per_line": -1, "max_word_length": -1} | wanted))


def verdicts(texts: list[str]) -> dict[str, Any]:
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    asked = dict(filters())
    found: dict[str, list[bool]] = {rule: [] for rule in asked}
    for text in texts:  # all rules of one text: they keep the words of the last few
        for rule, rejects in asked.items():
            found[rule].append(rejects(text))
    lines = _c4(C4QualityFilter, filter_javascript=True, filter_policy=True)
    documents = [Document(text=text, id="") for text in texts]
    for document in documents:
        lines.filter(document)
    return {"rules": found, "lines": [document.text.split("\n") for document in documents]}


def speed(texts: list[str]) -> dict[str, Any]:
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = {
        "gopher quality": GopherQualityFilter(),
        "gopher repetition": GopherRepetitionFilter(),
        "fineweb": FineWebQualityFilter(char_duplicates_ratio=0.1),
        "c4 lines": _c4(C4QualityFilter, **{f"filter_{name}": True for name in
                                            ("javascript", "policy", "lorem_ipsum", "curly_bracket")}),
    }  # fmt: skip
    minhash = MinhashDedupSignature("/tmp/unused")
    for one in filters.values():  # tokenizers are loaded by the first text
        one.filter(Document(text=texts[0], id=""))
    seconds = dict.fromkeys((*filters, "minhash"), 0.0)
    signatures = []
    for text in texts:
        document = Document(text=text, id="")
        for name, one in filters.items():
            began = time.process_time()
            one.filter(document)
            seconds[name] += time.process_time() - began
        began = time.process_time()
        shingles = minhash.get_shingles(text)
        signatures.append(minhash.get_signature(shingles) if len(shingles) else [])
        seconds["minhash"] += time.process_time() - began
    return {"seconds": seconds, "copies": _copies(signatures)}


def _copies(signatures: list[list[list[int]]]) -> list[int]:
    """Documents that are in a cluster with an earlier one, as their stages 2 and 3 have it."""
    root = list(range(len(signatures)))

    def find(node: int) -> int:
        while root[node] != node:
            node = root[node]
        return node

    seen: dict[tuple[int, ...], int] = {}
    for number, buckets in enumerate(signatures):
        for bucket, values in enumerate(buckets):
            first = seen.setdefault((bucket, *values), number)
            low, high = sorted((find(first), find(number)))
            root[high] = low
    return [number for number in range(len(root)) if find(number) != number]


if __name__ == "__main__":
    source, target, *rest = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    result = speed(texts) if rest else verdicts(texts)
    result["versions"] = {name: version(name) for name in ("datatrove", "spacy", "nltk", "numpy")}
    with open(target, "w", encoding="utf-8") as file:
        json.dump(result, file)
