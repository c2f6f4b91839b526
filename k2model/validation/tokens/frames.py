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
from k2model.tokens.ragged import exclusive_sum
from k2model.tokens.rows import NO_SOURCE, Rows, rows_of_batch

TOKENS_PER_FRAME = 8_000_000
ROWS_PER_FRAME = 65_536


def batches_of(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file, cut so that each has a bounded number of rows and tokens.

    Raises K2Error when it is not one, or not of tokens.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            values = len(batch["tokens"].flatten()) if len(batch) else 0
            rows = max(1, min(ROWS_PER_FRAME, TOKENS_PER_FRAME * len(batch) // max(values, 1)))
            yield from (batch.slice(start, rows) for start in range(0, len(batch), rows))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise K2Error(f"{path} cannot be read as tokens ({error}); delete the artifact and run again") from error


def rows_of(path: Path) -> Iterator[Rows]:
    """The blocks of a part of packed rows. Raises K2Error when it is no such file."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        for index in range(reader.num_record_batches):
            yield rows_of_batch(reader.get_batch(index))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise K2Error(f"{path} cannot be read as packed rows ({error}); delete the artifact and run again") from error


def token_frame(batch: pa.RecordBatch, bos: int, pad: int) -> pd.DataFrame:
    """A row per document: `length`, `mask_length`, `largest` id, `first_token`, `bos` inside, `pads`, targets."""
    lengths, mask_lengths = (_lengths(batch[name]) for name in ("tokens", "loss_mask"))
    tokens = batch["tokens"].flatten().to_numpy(zero_copy_only=False)
    loss_mask = batch["loss_mask"].flatten().to_numpy(zero_copy_only=False)
    starts, mask_starts = (np.cumsum(sizes) - sizes for sizes in (lengths, mask_lengths))
    first = np.full(len(lengths), -1, dtype=np.int64)
    first[lengths > 0] = tokens[starts[lengths > 0]]
    first_target = np.zeros(len(lengths), dtype=np.int64)
    first_target[mask_lengths > 0] = loss_mask[mask_starts[mask_lengths > 0]]
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
            "targets": _per_row(loss_mask, np.repeat(np.arange(len(lengths)), mask_lengths), len(lengths)),
            "first_targets": first_target,
            "duplicates": batch["duplicates"].to_pandas(),
        }
    )


def token_source_frame(
    counts: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, int]], repeated: Mapping[str, int]
) -> pd.DataFrame:
    """One row per `split/stem`: what its parts hold, what `counts.json` says, and bytes of text per token.

    `counts` and `found` by `split/stem`, with documents, tokens and targets. One that is missing counts zero.
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


def row_frame(rows: Rows, pad: int, sources: int) -> pd.DataFrame:
    """A row per packed row, with how many of its positions or pieces break what the packer promises.

    `unfilled`: positions by which its pieces miss the row's length. `padding_inside`: pieces of padding before others.
    `first_targets`: targets that a piece begins with. `unknown_sources`: pieces of a source above the `sources` named.
    """
    count, length = rows.tokens.shape
    owner = np.repeat(np.arange(count), rows.pieces)
    begin = exclusive_sum(rows.length.astype(np.int64)) - _before(rows)[owner]
    filler = rows.source == NO_SOURCE
    padding = np.zeros((count, length + 1), dtype=np.int64)
    for edge, sign in ((begin, 1), (begin + rows.length, -1)):
        np.add.at(padding, (owner[filler], np.minimum(edge[filler], length)), sign)
    padding = np.cumsum(padding, axis=1)[:, :length] > 0
    last = np.zeros(len(owner), dtype=bool)
    last[np.cumsum(rows.pieces)[rows.pieces > 0] - 1] = True
    opening = ~filler & (begin < length)
    return pd.DataFrame(
        {
            "largest": rows.tokens.max(axis=1).astype(np.int64),
            "targets": rows.loss_mask.sum(axis=1),
            "targets_on_padding": (rows.loss_mask & padding).sum(axis=1),
            "padding_not_pad": (padding & (rows.tokens != pad)).sum(axis=1),
            "padding_inside": _per_row(filler & ~last, owner, count),
            "unfilled": abs(np.bincount(owner, weights=rows.length, minlength=count).astype(np.int64) - length),
            "first_targets": _per_row(rows.loss_mask[owner[opening], begin[opening]], owner[opening], count),
            "unknown_sources": _per_row((rows.source >= sources) & ~filler, owner, count),
        }
    )


def amounts_by_source(rows: Rows) -> NDArray[np.int64]:
    """Tokens and targets by index of source, [2, 256]; a row whose pieces do not fill it counts as far as they go."""
    length = rows.tokens.shape[1]
    owner = np.repeat(np.arange(len(rows.tokens)), rows.pieces)
    begin = exclusive_sum(rows.length.astype(np.int64)) - _before(rows)[owner]
    upto = np.concatenate([np.zeros((len(rows.loss_mask), 1), np.int64), np.cumsum(rows.loss_mask, axis=1)], axis=1)
    first, end = np.minimum(begin, length), np.minimum(begin + rows.length, length)
    targets = upto[owner, end] - upto[owner, first]
    counts = (np.bincount(rows.source, weights=values, minlength=256) for values in (rows.length, targets))
    return np.stack([one.astype(np.int64) for one in counts])


def _before(rows: Rows) -> NDArray[np.int64]:
    """Positions of all pieces in front of each row's first, [rows]."""
    ends = np.concatenate([[0], np.cumsum(rows.length, dtype=np.int64)])
    return ends[exclusive_sum(rows.pieces)]


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
