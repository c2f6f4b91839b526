"""Continuous batching: every step writes one token of each text and reads on in the prompts of those that wait.

A text that has ended leaves its slot to the next request at once. Requests are served by the positions they may take,
longest first: the long ones do not stand alone at the end, and slots can become more as they become shorter.

Over a model that is cut by tensor parallelism all workers of its group are given the same requests and get the same
results: each chooses from the same gathered logits, by the same streams.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from k2model.errors import NotFinite
from k2model.generation.choice import drawn, likeliest, log_probabilities
from k2model.generation.decoder import Chunk, Decoder, chunks_of
from k2model.generation.reading import Score, scored
from k2model.generation.slots import Slots, filled, on_device
from k2model.generation.writing import Request, Writing, Written
from k2model.model.parallel import smallest
from k2model.model.transformer import K2Model

STEP_TOKENS = 1024  # of prompts, read in one step
CPU_CACHE = 4 * 2**30  # bytes
OF_FREE = 0.8  # share of an accelerator's free memory that keys and values may take


class Engine:
    """Writes and scores over one model.

    precision: of matrix products, fp32 or bf16. slots: most texts written side by side. decode: ids to text, where
    requests have stop texts. cache_bytes: most memory for keys and values on this worker; None = 4 GiB on a CPU, 80% of
    what is free on an accelerator.
    """

    def __init__(
        self,
        model: K2Model,
        precision: torch.dtype = torch.float32,
        slots: int = 32,
        decode: Callable[[Sequence[int]], str] | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots={slots} must be at least 1")
        self.decoder = Decoder(model, precision)
        self.n_slots, self.decode, self.cache_bytes = slots, decode, cache_bytes

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        """(Number of the request, what was written), each as it ends.

        Raises ValueError, before anything is written, for a request that makes no sense or exceeds the model's
        positions, and where the memory for keys and values does not hold the longest.
        """
        for index, request in enumerate(requests):
            self._check(index, request)
        return self._run(requests)

    @torch.no_grad()
    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """How likely the second ids of each are behind the first, of which there is at least one.

        A beginning that several requests share is read once, unless it is the shorter part. Raises ValueError as `run`.
        """
        rooms = [len(before) + len(behind) for before, behind in requests]
        for index, ((before, _), room) in enumerate(zip(requests, rooms, strict=True)):
            if not before:
                raise ValueError(f"request {index}: there is nothing before its text, not even a begin-of-text token")
            self._check_room(index, room - 1)
        if not requests:
            return []
        number = self._number(max(rooms), len(requests))
        return scored(self.decoder, requests, self.decoder.slots(number, max(rooms)), STEP_TOKENS)

    def _check(self, index: int, request: Request) -> None:
        if problem := request.problem():
            raise ValueError(f"request {index}: {problem}")
        if request.stop and self.decode is None:
            raise ValueError(f"request {index} has stop texts: build Engine with `decode` to find them")
        self._check_room(index, request.room)

    def _check_room(self, index: int, room: int) -> None:
        if room > self.decoder.max_positions:
            raise ValueError(
                f"request {index} takes {room} positions of a model built for {self.decoder.max_positions}: ask for "
                "fewer tokens, or raise max_positions when building K2Model"
            )

    def _run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        queue = deque(sorted(range(len(requests)), key=lambda index: (-requests[index].room, index)))
        rows: list[Writing] = []
        slots: Slots | None = None
        while queue or rows:
            with torch.no_grad():  # not around a `yield`: it would reach whoever asked
                if queue:
                    longest = max(requests[queue[0]].room, *(row.request.room for row in rows), 0)
                    slots = self._cut(slots, longest, len(queue) + len(rows), rows)
                assert slots is not None
                while queue and slots.free:
                    index = queue.popleft()
                    rows.append(Writing(index, requests[index], slots.free.pop(), self.decode or str))
                ended = self._step(slots, rows)
            for row, written in ended:
                rows.remove(row)
                slots.free.append(row.slot)
                yield row.index, written

    def _cut(self, slots: Slots | None, longest: int, wanted: int, rows: Sequence[Writing]) -> Slots:
        """Memory for `wanted` texts of `longest` positions: as it is, unless it can become more slots."""
        if slots is None:
            return self.decoder.slots(self._number(longest, wanted), longest)
        if slots.number < min(wanted, self.n_slots) and 2 * filled(longest) <= slots.positions:
            moved = slots.recut(self._number(longest, wanted), longest, [row.slot for row in rows])
            for row in rows:
                row.slot = moved[row.slot]
        return slots

    def _number(self, longest: int, wanted: int) -> int:
        """Of slots with `longest` positions."""
        decoder, device = self.decoder, self.decoder.device
        each = 2 * decoder.config.n_layers * decoder.n_kv_heads * decoder.config.head_dim * filled(longest)
        each *= decoder.products.dtype.itemsize
        allowed = self.cache_bytes
        if allowed is None:
            allowed = int(OF_FREE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else CPU_CACHE
        fitting = smallest(allowed // each, decoder.tensor, device)
        if not fitting:
            raise ValueError(
                f"keys and values of {longest} positions take {each / 1e9:.2f} GB, of which cache_bytes allows "
                f"{allowed / 1e9:.2f}: raise it, cut the model over more workers, or ask for fewer tokens"
            )
        return min(wanted, self.n_slots, fitting)

    def _step(self, slots: Slots, rows: Sequence[Writing]) -> list[tuple[Writing, Written]]:
        """Feed the last token of each text and the next chunks of prompts; take what follows."""
        writing = sorted((row for row in rows if not row.waiting), key=lambda row: row.slot)
        singles = [Chunk(row.slot, len(row.request.prompt) + len(row.tokens) - 1, row.tokens[-1:]) for row in writing]
        chunks: list[Chunk] = []
        places, room, at = list(range(len(singles))), STEP_TOKENS, len(singles)
        for row in (row for row in rows if row.waiting):
            if room <= 0:
                break
            for chunk in chunks_of(row.slot, row.read, row.request.prompt[row.read :]):
                if room <= 0:
                    break
                chunks.append(chunk)
                row.read, room, at = row.read + len(chunk.tokens), room - len(chunk.tokens), at + len(chunk.tokens)
            if not row.waiting:
                writing.append(row)
                places.append(at - 1)
        hidden_PD = self.decoder.hidden(slots, singles, chunks)
        if not writing:
            return []
        tokens, nats = self._chosen(self.decoder.logits(hidden_PD[on_device(places, hidden_PD.device)]), writing)
        ended = [(row, row.add(token, nat)) for row, token, nat in zip(writing, tokens, nats, strict=True)]
        return [(row, written) for row, written in ended if written]

    def _chosen(self, logits_RV: Tensor, rows: Sequence[Writing]) -> tuple[list[int], list[float]]:
        tokens_R = likeliest(logits_RV)
        hot = [place for place, row in enumerate(rows) if row.request.temperature > 0.0]
        if hot:
            asked = [rows[place].request for place in hot]
            streams = [rows[place].stream for place in hot]
            heats, top_ps = [one.temperature for one in asked], [one.top_p for one in asked]
            hot_R = on_device(hot, logits_RV.device)
            tokens_R[hot_R] = drawn(logits_RV[hot_R], heats, top_ps, streams)
        for place, row in enumerate(rows):
            if (token := row.forced) is not None:
                tokens_R[place] = token
        nats = log_probabilities(logits_RV, tokens_R).tolist()
        if any(map(math.isnan, nats)):
            raise NotFinite
        return tokens_R.tolist(), nats
