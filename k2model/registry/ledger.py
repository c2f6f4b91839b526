"""The ledger of gate decisions: append-only, beside the artifacts, so that it outlives a tracking server.

MLflow's tags and aliases can be moved without a trace; here each decision is a file of its own that is
created once and never written again (object stores cannot append, and two writers cannot harm each
other).
"""

import json
from datetime import UTC, datetime
from typing import Any

from k2model.artifacts import fingerprint
from k2model.artifacts.files import files_at
from k2model.registry.registration import Registration

FOLDER = "_gates"


def record_decision(store_uri: str, registration: Registration, checkpoint_digest: str) -> bool:
    """Append the verdicts of one registration; False when this very decision stands there already.

    Raises `k2model.artifacts.StoreWriteError` when the store takes no writes.
    """
    verdicts = [
        {"gate": v.name, "value": v.value, "minimum": v.minimum, "maximum": v.maximum, "passed": v.passed}
        for v in registration.gates
    ]
    decision = {
        "model": registration.model_name,
        "version": registration.version,
        "phase": registration.phase,
        "checkpoint": checkpoint_digest,
        "run_id": registration.run_id,
        "verdicts": verdicts,
        "passed_so_far": registration.passed if registration.gates_so_far else None,  # null: no gate was declared
        "promotion": registration.promotion,
        "aliases": list(registration.aliases),
    }
    # Aliases already held are no reason to decide again.
    name = f"v{registration.version:04d}-{fingerprint({**decision, 'aliases': []})[:16]}.json"
    stamped = {"decided_at": datetime.now(UTC).isoformat(timespec="milliseconds"), **decision}
    content = json.dumps(stamped, indent=1, ensure_ascii=False) + "\n"
    return files_at(store_uri).create(f"{FOLDER}/{registration.model_name}/{name}", content.encode())


def read_ledger(store_uri: str) -> list[dict[str, Any]]:
    """All decisions ever made on models of this store, oldest first."""
    files = files_at(store_uri)
    decisions = [json.loads(files.read(path)) for path in sorted(files.sizes(FOLDER)) if path.endswith(".json")]
    return sorted(decisions, key=lambda decision: str(decision["decided_at"]))
