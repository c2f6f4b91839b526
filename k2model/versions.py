"""The version of every step: raised by hand when a step makes something else of the same inputs.

A version bears identity, so raising one makes that step's artifacts anew and what follows from them.
Source code itself is recorded in provenance, not hashed: a comment must not retrain a model.
"""

STEP_VERSIONS = {
    "corpus_raw": "6",
    "raw_checks": "4",
    "corpus_clean": "4",
    "exact_duplicate_pairs": "1",
    "near_duplicate_pairs": "1",
    "known_copies": "1",
    "duplicates": "2",
    "corpus": "4",
    "corpus_valid": "5",
    "tokenizer": "2",
    "tokens": "7",
    "tokens_checks": "2",
    "adopted_checkpoint": "1",
    "adopted_export": "1",
    "sequences": "7",
    "sequences_checks": "2",
    "checkpoint": "2",
    "export": "2",
    "score": "1",
    "scores": "2",
    "evaluation_items": "1",
    "overlap": "1",
    "items_seen": "1",
    "joined_corpus": "1",
    "joined_tokens": "1",
    "safety_answers": "1",
    "safety": "2",
    "report": "6",
    "release": "4",
    "verdict": "1",
    "text_profile": "1",
    "arrival": "2",
    "reference_losses": "2",
    "arrival_losses": "2",
    "canary": "1",
}
