"""Continual training: what arrives, what of it is trained on, and which model is the champion.

inbox         batches, each with a manifest that is written last
ledger        every decision, an entry each, in the store; who the champion is follows from it
arrival       the gate of a batch: copies, items, drift, poison, novelty
guard         whether a turn trains
continuation  the challenger's recipe, from the champion's
comparison    champion against challenger, and the canary
promotion     what MLflow and people are told
turn          all of it, one step after the other
"""
