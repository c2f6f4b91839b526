"""Promotion: what a lifecycle's fine-tuned model must show before it is the champion of its line, and what was decided.

evidence     gates on its scores, and on what of their items it was trained on
comparison   challenger beside champion, on the same items
gates        every gate of a challenger; those on its artifacts are `k2model.continual.verdict.artifact_gates`
decide       the decision, an entry of the line's ledger, and MLflow brought to it
names        models as people name them: `sft`, `sft@3`, the number of a turn
"""
