"""Curation: from raw documents to a corpus that is clean, counted and free of the evaluation items.

In order: `normalise`, exact duplicates, `quality` rules, near `duplicates`, `decontamination`; `step`
runs them and `funnel` writes down what each took. Near duplicates, quality rules and n-gram overlap
concern natural text; generated documents are clean by construction and matched by their keys.
"""
