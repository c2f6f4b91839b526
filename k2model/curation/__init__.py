"""Curation: from raw documents to a corpus that is clean, counted and free of the evaluation items.

Four stages, each made of plain functions of files:

    clean_part       a part by itself: one form, line cleaning, personal data, language, quality rules; signs what stays
    find_duplicates  all signatures, no text: slices of hashes, then of bands' keys, then who stands for whom (`merge`)
    select_part      a part by itself: copies and evaluation items go, the part is written
    summarise        the accounts of all parts: `curation.json`, and for every item what overlaps with it

`folder` runs them on one machine, `steps` and `comparison` have them on a store. What is done to which source is the
recipe's (`CurationProfile`); generated sources are clean by construction, and matched with evaluation items by their
keys. `recheck` compares a stored corpus with items that were not known when it was curated.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "clean_step": "steps",
        "curated_step": "steps",
    },
)
