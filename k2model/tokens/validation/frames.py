"""What is measured of token documents and packed rows, as the flat tables the suites look at.

Files are mapped and read a bounded number of tokens at a time. Nothing here decides pass or fail.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from k2model.errors import K2Error

TOKENS_PER_FRAME = 8_000_000
ROWS_PER_FRAME = 65_536
NO_SOURCE = 255  # of padding, as in k2model.tokens.sequences


def batches_of(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file, cut so that each has a bounded number of rows and tokens."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            values = len(batch["tokens"].flatten()) if len(batch) else 0
            rows = max(1, min(ROWS_PER_FRAME, TOKENS_PER_FRAME * len(batch) // max(values, 1)))
            yield from (batch.slice(start, rows) for start in range(0, len(batch), rows))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise K2Error(f"{path} cannot be read as tokens ({error}); delete the artifact and run again") from error


def token_frame(batch: pa.RecordBatch, bos: int, pad: int) -> pd.DataFrame:
    """A row per document: `length`, `mask_length`, `largest` id, `first_token`, `bos` inside, `pads`, targets."""
    lengths, mask_lengths = (_lengths(batch[name]) for name in ("tokens", "loss"))
    tokens = batch["tokens"].flatten().to_numpy(zero_copy_only=False)
    loss = batch["loss"].flatten().to_numpy(zero_copy_only=False)
    starts, mask_starts = (np.cumsum(sizes) - sizes for sizes in (lengths, mask_lengths))
    first = np.full(len(lengths), -1, dtype=np.int64)
    first[lengths > 0] = tokens[starts[lengths > 0]]
    first_target = np.zeros(len(lengths), dtype=np.int64)
    first_target[mask_lengths > 0] = loss[mask_starts[mask_lengths > 0]]
    row = np.repeat(np.arange(len(lengths)), lengths)
    largest = np.full(len(lengths), -1, dtype=np.int64)
    np.maximum.at(largest, row, tokens.astype(np.int64))
    return pd.DataFrame(
        {
            "id": batch["id"].to_pandas(),
            "length": lengths,
            "mask_length": mask_lengths,
            "largest": largest,
            "bos": np.where(lengths > 0, bos, -1),
            "first_token": first,
            "bos_inside": _per_row(tokens == bos, row, len(lengths)) - (first == bos),
            "pads": _per_row(tokens == pad, row, len(lengths)),
            "targets": _per_row(loss, np.repeat(np.arange(len(lengths)), mask_lengths), len(lengths)),
            "first_targets": first_target,
            "duplicates": batch["duplicates"].to_pandas(),
        }
    )


def token_source_frame(
    counts: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, int]], repeated: Mapping[str, int]
) -> pd.DataFrame:
    """One row per `side/stem`: what its parts hold, what `counts.json` says, and bytes of text per token.

    `counts` and `found` by `side/stem`, with documents, tokens and targets. One that is missing counts zero.
    """
    rows = []
    for name in sorted(counts.keys() | found.keys()):
        said, held = counts.get(name, {}), found.get(name, {})
        row: dict[str, Any] = {"source": name, "repeated_ids": repeated.get(name, 0)}
        for column in ("documents", "tokens", "targets"):
            row |= {column: held.get(column, 0), f"counted_{column}": int(said.get(column, 0))}
        row["bytes_per_token"] = said["bytes"] / said["tokens"] if said.get("tokens") else None
        rows.append(row)
    return pd.DataFrame(rows)


def row_frame(batch: pa.RecordBatch, pad: int) -> pd.DataFrame:
    """A row per packed row, with how many of its positions break what the packer promises.

    `jumps`: the document does not stay or go on by one, or does not begin with 0. `padding_inside`: a
    document behind padding. `first_targets`: targets whose document begins with them.
    """
    tokens, loss, document, source = (_matrix(batch[name]) for name in ("tokens", "loss", "document", "source"))
    padding = document < 0
    begins = np.ones_like(padding)
    begins[:, 1:] = document[:, 1:] != document[:, :-1]
    steps = np.diff(document.astype(np.int64), axis=1)
    wrong = ((steps != 0) & (steps != 1) & ~padding[:, 1:] & ~padding[:, :-1]).sum(axis=1)
    wrong += (document[:, 0] != 0) & ~padding[:, 0]
    return pd.DataFrame(
        {
            "largest": tokens.max(axis=1).astype(np.int64),
            "targets": loss.sum(axis=1),
            "targets_on_padding": (loss & padding).sum(axis=1),
            "padding_not_pad": (padding & (tokens != pad)).sum(axis=1),
            "padding_inside": (padding[:, :-1] & ~padding[:, 1:]).sum(axis=1),
            "jumps": wrong,
            "first_targets": (loss & begins & ~padding).sum(axis=1),
            "source_mismatches": ((source == NO_SOURCE) != padding).sum(axis=1),
        }
    )


def amounts_by_source(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Tokens and targets by index of source, [2, 256]."""
    source, loss = _matrix(batch["source"]).reshape(-1), _matrix(batch["loss"]).reshape(-1)
    return np.stack([np.bincount(source, minlength=256), np.bincount(source[loss], minlength=256)])


def composition_frame(composition: Mapping[str, Any], names: list[str], amounts: NDArray[np.int64]) -> pd.DataFrame:
    """One row per source of a phase: `share` and `share_wanted`, `epochs`, tokens and targets said and counted."""
    rows = []
    for name in sorted(composition["sources"].keys() | set(names)):
        said = composition["sources"].get(name, {})
        tokens, targets = amounts[:, names.index(name)] if name in names else (0, 0)
        rows.append(
            {"source": name, "share": said.get("share"), "share_wanted": said.get("share_wanted"),
             "share_error": abs(said["share"] - said["share_wanted"]) if said.get("share_wanted") is not None else None,
             "epochs": said.get("epochs"), "tokens": said.get("tokens", 0), "counted_tokens": int(tokens),
             "targets": said.get("targets", 0), "counted_targets": int(targets)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def phase_frame(name: str, composition: Mapping[str, Any], rows: int, rows_wanted: int) -> pd.DataFrame:
    """One row. `short_lacking` is how much the short documents' share is below what is wanted, 0 without a rule."""
    short = composition.get("short_context") or {}
    lacking = max(0.0, float(short.get("least") or 0.0) - float(short.get("real") or 0.0))
    ratios = {column: composition[column] for column in ("padding", "split", "truncated")}
    return pd.DataFrame([{"phase": name, "rows": rows, "rows_wanted": rows_wanted, **ratios, "short_lacking": lacking}])


def _lengths(column: pa.Array) -> NDArray[np.int64]:
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _per_row(flags: NDArray[Any], row: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    return np.bincount(row, weights=flags, minlength=rows).astype(np.int64)


def _matrix(column: pa.FixedSizeListArray) -> NDArray[Any]:
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
