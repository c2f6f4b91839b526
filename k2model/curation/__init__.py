"""Curation: from raw documents to a corpus that is clean, counted and free of the evaluation items.

Four stages, each made of plain functions of files, which `steps` has on a store:

    clean_part             a part by itself: one form, line cleaning, personal data, language, quality; signs what stays
    shuffle_*, match_*     ranges of all signatures, no text: who copies whom; then `decide`: who stands for whom
    copies_in              of a corpus that others came before: slices of what is known, also by signatures alone
    select_part            a part by itself: copies and evaluation items go, the part is written
    summarise              the counts of all parts: `curation.json`, and for every item what overlaps with it

What is done to which source is the recipe's (`CurationProfile`); generated sources are clean by construction, and
matched with evaluation items by their keys. `recheck` compares a stored corpus with items that were not known when it
was curated.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "clean_step": "steps",
        "signature_ranges_step": "comparison",
        "signature_matches_step": "comparison",
        "sketch_ranges_step": "comparison",
        "near_pairs_step": "comparison",
        "duplicates_step": "comparison",
        "known_copies_step": "steps",
        "curated_step": "steps",
        "recheck": "selection",
    },
)
