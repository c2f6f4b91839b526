"""Promotion: what a lifecycle's fine-tuned model must show before it is the champion of its line, and what was decided.

evidence     gates that ask the artifacts themselves: contamination, provenance, manifests
parity       checkpoint and export beside each other at the end of the longest context
comparison   challenger beside champion, on the same items
gates        every gate of a challenger
decide       the decision, an entry of the line's ledger, and MLflow brought to it
names        models as people name them: `sft`, `sft@3`, the number of a turn
"""
