"""K2-V2's mixtures as its released files give them, read from `k2_data` (whose README names the sources).

Pre-training is a list of tokens x epochs, mid_1 one of weights, supervised fine-tuning one of fractions of
the target tokens and, written as negative weights, of whole copies. Mixtures of mid_2 to mid_4 are not
public and not made up here.
"""

import csv
from importlib import resources

from k2model.recipe.schema import MixtureEntry, SourceFacts


def pretrain_mixture() -> tuple[MixtureEntry, ...]:
    """The 51 entries of the pre-training list, in passes over (source, bucket)."""
    return tuple(
        MixtureEntry(
            row["corpus_source"], epochs=float(row["epochs"]), bucket=row["bucket"], listed_as=_other_name(row)
        )
        for row in _rows("pretrain_mixture.csv")
    )


def pretrain_facts() -> tuple[SourceFacts, ...]:
    """Tokens (of K2's 250k tokenizer) and family of each entry of the pre-training list."""
    return tuple(
        SourceFacts(row["corpus_source"], row["bucket"], row["family"], int(row["tokens"]))
        for row in _rows("pretrain_mixture.csv")
    )


def mid_1_mixture() -> tuple[MixtureEntry, ...]:
    """The 30 weights of mid_1, in percent."""
    return tuple(MixtureEntry(row["source"], float(row["weight_percent"])) for row in _rows("mid_1_mixture.csv"))


def sft_mixture() -> tuple[MixtureEntry, ...]:
    """The 45 rows of the mixing table: fractions of the target tokens, and copies outside of them."""
    return tuple(_sft_entry(row) for row in _rows("sft_mixture.csv"))


def _sft_entry(row: dict[str, str]) -> MixtureEntry:
    """The mixing script reads a negative weight as so many whole copies, and 0 as none of the source."""
    weight, name = float(row["weight"]), _other_name(row)
    if weight < 0:
        return MixtureEntry(row["corpus_source"], copies=int(-weight), listed_as=name)
    return MixtureEntry(row["corpus_source"], weight, listed_as=name)


def _other_name(row: dict[str, str]) -> str:
    return row["source"] if row["source"] != row["corpus_source"] else ""


def _rows(file: str) -> list[dict[str, str]]:
    text = resources.files("k2model.recipe").joinpath("k2_data", file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
