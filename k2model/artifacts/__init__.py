"""Artifacts: identities, references, manifests and the store that keeps what steps make.

A step's function builds an `Identity` out of what it reads and asks `Store.build` for its artifact;
whoever reads it asks `Store.fetch` for a verified local folder. Nothing here knows what an artifact
contains.
"""

from k2model.artifacts.confirm import confirmed
from k2model.artifacts.content import json_as, read_json, read_json_file
from k2model.artifacts.entry import FileEntry
from k2model.artifacts.explain import Difference, differences, nearest_record
from k2model.artifacts.identity import ArtifactRef, Identity, artifact_name, fingerprint
from k2model.artifacts.lease import Lease
from k2model.artifacts.manifest import Manifest, describe_file, describe_folder, hash_file, read_manifest, verify
from k2model.artifacts.parts import Part, PartRecord, find_part, local_parts, totals
from k2model.artifacts.shares import make_share, shared_out
from k2model.artifacts.steps import (
    JobStep,
    PartedStep,
    Step,
    gather,
    make,
    make_part,
    map_in_processes,
    missing_parts,
)
from k2model.artifacts.store import Store
from k2model.errors import (
    ArtifactError,
    CorruptArtifact,
    InputsChanged,
    LeaseHeld,
    LeaseLost,
    MissingArtifact,
    StoreWriteError,
)

__all__ = [
    "ArtifactError",
    "ArtifactRef",
    "CorruptArtifact",
    "Difference",
    "FileEntry",
    "Identity",
    "InputsChanged",
    "JobStep",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Manifest",
    "MissingArtifact",
    "Part",
    "PartRecord",
    "PartedStep",
    "Step",
    "Store",
    "StoreWriteError",
    "artifact_name",
    "confirmed",
    "describe_file",
    "describe_folder",
    "differences",
    "find_part",
    "fingerprint",
    "gather",
    "hash_file",
    "json_as",
    "local_parts",
    "make",
    "make_part",
    "make_share",
    "map_in_processes",
    "missing_parts",
    "nearest_record",
    "read_json",
    "read_json_file",
    "read_manifest",
    "shared_out",
    "totals",
    "verify",
]
