"""What an artifact is (`Identity`) and where it can be had (`ArtifactRef`).

An identity is known before the work is done: it is what decides whether the work has been done
already. A reference is known after it. Neither touches a store.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from k2model.artifacts.fingerprint import fingerprint

STEP_NAME = re.compile(r"[a-z][a-z0-9_]*")


def artifact_name(step: str, key: str) -> str:
    """Of the artifact that a step makes for an identity with this key."""
    return f"{step}/{key[:16]}"


@dataclass(frozen=True)
class ArtifactRef:
    """A reference to a finished artifact, small enough to travel between tasks.

    kind: the step that makes such artifacts. uri: its folder. digest: sha256 over its files outside
    `attachments/`. identity: key of the `Identity` it was made for. stats: numbers worth showing.
    Kind and digest alone bear identity: the same bytes elsewhere are the same artifact.
    """

    kind: str
    uri: str = field(metadata={"identity": False})
    digest: str
    identity: str = field(metadata={"identity": False})
    stats: dict[str, float] = field(default_factory=dict, hash=False, metadata={"identity": False})

    @property
    def name(self) -> str:
        """Short name for people and messages: `<kind>/<first 16 digits of the identity>`."""
        return artifact_name(self.kind, self.identity)


@dataclass(frozen=True)
class Identity:
    """All that decides the content of an artifact.

    step: name of the step, which is also the kind of what it makes. version: raised by hand whenever
    the step's code makes something else of the same config. config: the literals and dataclasses the
    step reads, and no more. inputs: references of the artifacts it reads, of which only the digests
    count, so an input that is rebuilt to equal bytes changes nothing.
    """

    step: str
    version: str
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not STEP_NAME.fullmatch(self.step):
            raise ValueError(f"step name {self.step!r}: expected lower-case letters, digits and _ (it names a folder)")

    @cached_property
    def key(self) -> str:
        """64 hex digits. Raises TypeError when the config holds an unknown type, see `fingerprint`."""
        return fingerprint(
            {
                "step": self.step,
                "version": self.version,
                "config": self.config,
                "inputs": {name: ref.digest for name, ref in self.inputs.items()},
            }
        )

    @property
    def name(self) -> str:
        """Short name for people and messages, and where it lies in a store: `<step>/<first 16 digits of the key>`."""
        return artifact_name(self.step, self.key)
