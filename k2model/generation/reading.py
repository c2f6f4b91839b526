"""How likely texts are: prompts and what stands behind them, read by the decoder, many at once.

Texts behind one beginning are read one after the other in one slot, each over the last, so that the beginning is read
once. Whether it is shared or not, it is cut into the same chunks: a text's likelihood is the same bits.

Shape suffixes: P tokens of a step, R rows whose logits are wanted, V vocabulary, D hidden.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from k2model.generation.decoder import CHUNK, Chunk, Decoder, chunks_of
from k2model.generation.slots import Slots, on_device

Asked = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class Score:
    """Of a text: the log-probability of each of its tokens in nats, and whether each was the likeliest."""

    log_probabilities: list[float]
    greedy: list[bool]


@dataclass
class Reading:
    """The texts behind one beginning, `members` by their number. `rounds`: of each text its number and the chunks that
    are still to be read, the beginning's before the first's."""

    before: Sequence[int]
    members: list[int] = field(default_factory=list)
    rounds: deque[tuple[int, deque[Chunk]]] = field(default_factory=deque)

    def place(self, slot: int, requests: Asked) -> None:
        """Into a slot."""
        first = chunks_of(slot, 0, self.before)
        for number, member in enumerate(self.members):
            chunks = chunks_of(slot, len(self.before), requests[member][1][:-1])
            self.rounds.append((member, deque([*first, *chunks] if number == 0 else chunks)))


@dataclass(frozen=True)
class Wanted:
    """That the token behind row `row` of a step is token `place` of a request's text, `token`."""

    row: int
    request: int
    place: int
    token: int


def scored(decoder: Decoder, requests: Asked, slots: Slots, step_tokens: int) -> list[Score]:
    """Of the second ids of each request behind the first; at most about `step_tokens` tokens are read in a step."""
    scores = [Score([0.0] * len(behind), [False] * len(behind)) for _, behind in requests]
    queue, reading = deque(_shared(requests)), list[tuple[int, Reading]]()
    while queue or reading:
        while queue and slots.free:
            slot, one = slots.free.pop(), queue.popleft()
            one.place(slot, requests)
            reading.append((slot, one))
        chunks, wanted = _next(reading, requests, step_tokens)
        if chunks:
            _take(scores, decoder, decoder.hidden(slots, [], chunks), wanted)
        for slot, one in [done for done in reading if not done[1].rounds]:
            reading.remove((slot, one))
            slots.free.append(slot)
    return scores


def _shared(requests: Asked) -> list[Reading]:
    """Longest first."""
    found: dict[object, Reading] = {}
    for number, (before, behind) in enumerate(requests):
        if behind:
            key = tuple(before) if len(before) >= len(behind) else number
            found.setdefault(key, Reading(before)).members.append(number)
    return sorted(found.values(), key=lambda one: -len(one.before) - len(requests[one.members[0]][1]))


def _next(
    reading: Sequence[tuple[int, Reading]], requests: Asked, step_tokens: int
) -> tuple[list[Chunk], list[Wanted]]:
    """The chunks of a step, a round of each reading at most, and what is to be seen behind their rows."""
    chunks: list[Chunk] = []
    wanted: list[Wanted] = []
    at = 0
    for _, one in reading:
        while one.rounds and not one.rounds[0][1]:
            one.rounds.popleft()  # a text of one token, which is seen behind the beginning
        if not one.rounds or at >= step_tokens:
            continue
        member, left = one.rounds[0]
        while left and at < step_tokens:
            chunk = left.popleft()
            chunks.append(chunk)
            wanted += _behind(chunk, at, one, member, requests)
            at += len(chunk.tokens)
        if not left:
            one.rounds.popleft()
    return chunks, wanted


def _behind(chunk: Chunk, at: int, one: Reading, member: int, requests: Asked) -> list[Wanted]:
    """What rows `at` and on of a step, which are a chunk's, predict."""
    begin, end = len(one.before), chunk.start + len(chunk.tokens)
    if end < begin:
        return []
    if end == begin:  # of the beginning its last: it predicts the first token of every text
        return [Wanted(at + len(chunk.tokens) - 1, other, 0, requests[other][1][0]) for other in one.members]
    first = chunk.start - begin + 1
    tokens = islice(requests[member][1], first, first + len(chunk.tokens))
    return [Wanted(at + i, member, first + i, token) for i, token in enumerate(tokens)]


def _take(scores: Sequence[Score], decoder: Decoder, hidden_PD: Tensor, wanted: Sequence[Wanted]) -> None:
    for first in range(0, len(wanted), CHUNK):
        part = wanted[first : first + CHUNK]
        logits_RV = decoder.logits(hidden_PD[on_device([one.row for one in part], hidden_PD.device)])
        tokens_R1 = on_device([one.token for one in part], logits_RV.device)[:, None]
        nats = (logits_RV.gather(-1, tokens_R1)[:, 0] - logits_RV.logsumexp(dim=-1)).tolist()
        likeliest = (logits_RV.argmax(dim=-1) == tokens_R1[:, 0]).tolist()
        for one, nat, greedy in zip(part, nats, likeliest, strict=True):
            scores[one.request].log_probabilities[one.place] = nat
            scores[one.request].greedy[one.place] = greedy
