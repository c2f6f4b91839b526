"""Reading packed rows: which sequences a rank sees at a step, as a pure function of step and world size.

There is no loader state to save: a run that resumes, with more or fewer workers, asks for the next step
and gets the rows every other layout would get. Rows are mapped into memory, never loaded as a whole.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2model.tokens.errors import TokensError
from k2model.tokens.sequences import COMPOSITION_FILE, SEQUENCES_FILE

if TYPE_CHECKING:
    import torch


class PackedSequences:
    """The rows of one phase in training order, from the folder of a sequences artifact."""

    def __init__(self, folder: Path | str) -> None:
        """Raises TokensError when the folder holds no packed sequences."""
        self.folder = Path(folder)
        path = self.folder / SEQUENCES_FILE
        if not path.is_file():
            raise TokensError(f"{path}: no such file; expected the folder of a sequences artifact")
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
        metadata = {key.decode(): value.decode() for key, value in (batch.schema.metadata or {}).items()}
        missing = {"sources", "domains", "vocab_size", "fingerprint"} - metadata.keys()
        if reader.num_record_batches != 1 or missing:
            raise TokensError(f"{path}: not written by the pack step (metadata lacks {sorted(missing)}); pack again")
        self.rows: int = batch.num_rows
        self.sequence_length: int = batch.schema.field("tokens").type.list_size
        self.sources: list[str] = json.loads(metadata["sources"])
        self.domains: list[str] = json.loads(metadata["domains"])  # one for each source
        self.vocab_size: int = int(metadata["vocab_size"])
        self.fingerprint: str = metadata["fingerprint"]
        self._tokens = self._matrix(batch, "tokens")
        self._document = self._matrix(batch, "document")
        self._source = self._matrix(batch, "source")
        bits = batch.column("loss").flatten().buffers()[1]
        self._loss_bits = np.frombuffer(bits, dtype=np.uint8)

    def __len__(self) -> int:
        return self.rows

    @property
    def composition(self) -> dict[str, Any]:
        """`composition.json`: what the rows hold, per source, against what was wanted."""
        return json.loads((self.folder / COMPOSITION_FILE).read_text(encoding="utf-8"))

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise TokensError when a model with `vocab_size` embeddings cannot read these rows."""
        if self.vocab_size > vocab_size:
            raise TokensError(
                f"{self.folder}: packed with a vocabulary of {self.vocab_size} tokens, the model has {vocab_size}; "
                f"set model.vocab_size to at least {self.vocab_size}"
            )

    def batch(self, step: int, global_batch: int, rank: int = 0, world_size: int = 1) -> "dict[str, torch.Tensor]":
        """The share of `rank` in the `global_batch` rows of `step` (from 0): every `world_size`-th of them.

        Over the ranks each row comes exactly once; when `world_size` does not divide `global_batch` the
        first ranks get one row more, and b may be 0. Gives, each [b, T]: `tokens` int64, `loss` bool (is
        this token a target), `document` int64 (from 0 in each row, -1 for padding) and `source` uint8
        (index into `sources`, 255 for padding). Raises TokensError for a step or rank out of range.
        """
        if global_batch < 1 or not 0 <= rank < world_size:
            raise TokensError(f"batch: got global_batch={global_batch}, rank={rank} of world_size={world_size}")
        steps = self.rows // global_batch
        if not 0 <= step < steps:
            raise TokensError(
                f"{self.folder}: step {step} is out of range; {self.rows} rows make steps 0..{steps - 1} "
                f"of global_batch={global_batch}"
            )
        return self._select(np.arange(step * global_batch + rank, (step + 1) * global_batch, world_size))

    def _select(self, rows: NDArray[np.int64]) -> "dict[str, torch.Tensor]":
        import torch

        return {
            "tokens": torch.from_numpy(self._tokens[rows].astype(np.int64)),
            "loss": torch.from_numpy(self._loss(rows)),
            "document": torch.from_numpy(self._document[rows].astype(np.int64)),
            "source": torch.from_numpy(self._source[rows]),
        }

    def _loss(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Arrow keeps booleans as bits, so a row may begin inside a byte."""
        positions = rows[:, None] * self.sequence_length + np.arange(self.sequence_length)
        return (self._loss_bits[positions >> 3] >> (positions & 7).astype(np.uint8) & 1).astype(np.bool_)

    def _matrix(self, batch: pa.RecordBatch, name: str) -> NDArray[Any]:
        return batch.column(name).flatten().to_numpy().reshape(self.rows, self.sequence_length)
