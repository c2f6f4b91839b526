"""Continual training: what arrives, what of it is trained on, and which model is the champion.

state         the types: corpora, models, batches, turns, and all of them at one moment
plain         these as JSON, and strictly back
batches       the manifest of a batch, and what is wrong with it
inbox         batches, each with a manifest that is written last
entries       the kinds of decisions, and what they add up to
ledger        every decision, an entry each, in the store; who the champion is follows from it
start         the model that a line begins with: the one that its lifecycle promoted
gate          what arrives: copies, items, drift, poison, novelty
guard         whether a turn trains
continuation  the challenger's recipe, from the champion's
verdict       champion against challenger, the gates on artifacts, and the canary
turn_gates    what those gates make of a turn, and of a person's yes to it
promotion     what MLflow and people are told
turn          all of it, one step after the other
"""
