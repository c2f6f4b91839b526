"""Exported weights in Hugging Face transformers as a backend: an implementation that is not ours, of any architecture.

Nothing is fetched and no code of a folder is run: its weights are safetensors, and one that asks for code is refused.
A tokenizer that has K2's special tokens is given K2's markup, token by token; another one its own chat template, and
texts with whatever it puts before them. Special tokens' names in a text are text.

It is written for being right: rows are padded on the left and leave a batch together. In fp32 a row's numbers depend on
the rows beside it in their last bits alone (1e-5), which a near tie of two tokens can still show; `batch_size=1` keeps
rows apart.

Shape suffixes: B rows of a batch, T their longest length, V vocabulary, N positions that are scored.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from k2model.documents.markup import IM_END, SPECIAL_TOKENS, Segment
from k2model.errors import EvaluationError, NotFinite
from k2model.evals.backend import Finish, Generation, Likelihood, Prompt, Sampling
from k2model.evals.backends.reading import cut, generation, take_apart, windows
from k2model.generation.choice import drawn
from k2model.recipe.evaluation import Mode
from k2model.tokens.tokenizer import joined_texts

TOKENS_PER_BATCH = 16_384
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class TransformersModel:
    """`batch_size`: requests that are generated side by side. `max_length`: None = what its config states."""

    def __init__(
        self,
        folder: Path | str,
        name: str = "",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        batch_size: int = 8,
        max_length: int | None = None,
    ) -> None:
        """Raises EvaluationError for a folder that holds no model which can be loaded as it lies there."""
        import transformers

        folder = Path(folder)
        config = _checked_config(folder)
        safely: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **safely)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, **safely
            )
        except (OSError, ValueError, KeyError) as error:
            raise EvaluationError(f"{folder}: transformers cannot load it ({error})") from error
        self.model, self.device = model.eval().to(device), torch.device(device)
        self.name, self.batch_size, self.dtype = name or folder.name, batch_size, dtype
        self.max_length = max_length or config.get("max_position_embeddings") or _no_length(folder)
        vocabulary = self.tokenizer.get_vocab()
        self.speaks_k2 = all(special in vocabulary for special in SPECIAL_TOKENS)
        self.ends = self._ends()
        self._versions = {"torch": torch.__version__, "transformers": transformers.__version__}

    @property
    def identity(self) -> dict[str, str]:
        return {"kind": "transformers", "precision": DTYPES.get(self.dtype, str(self.dtype)), **self._versions}

    def tokens(self, prompt: Prompt) -> int:
        return len(self._encoded(prompt))

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        rows = [_Row(self, index, prompt, sampling) for index, (prompt, sampling) in enumerate(requests)]
        for row in rows:
            self._check(len(row.prompt) + row.sampling.max_new_tokens, f"request {row.index}")
        rows.sort(key=lambda row: len(row.prompt))
        for first in range(0, len(rows), self.batch_size):
            batch = rows[first : first + self.batch_size]
            self._write(batch)
            for row in batch:
                yield row.index, row.read()

    def likelihoods(self, requests: Sequence[tuple[Prompt, str]]) -> list[Likelihood]:
        """Prompt and text are encoded as one: where a token spans their border, it counts as the text's."""
        encoded = []
        for index, (prompt, behind) in enumerate(requests):
            before, ids = self._encoded(prompt), self._encoded(prompt, behind)
            self._check(len(ids) - 1, f"request {index}")
            differ = (i for i, pair in enumerate(zip(before, ids, strict=False)) if pair[0] != pair[1])
            encoded.append((ids, range(next(differ, min(len(before), len(ids))), len(ids))))
        return self._scored(encoded)

    def rolling(self, texts: Sequence[str | Sequence[Segment]], window: int | None = None) -> list[Likelihood]:
        """Before a string stands what begins a sequence, or where there is no such token, what ends one."""
        parts: list[tuple[list[int], Sequence[int]]] = []
        owners = []
        for owner, text in enumerate(texts):
            ids, targets = self._document(text)
            for start, first, last in windows(len(ids), min(window or self.max_length, self.max_length)):
                if places := [place - start for place in range(first, last) if targets[place]]:
                    parts.append((ids[start:last], places))
                    owners.append(owner)
        totals = [Likelihood(0.0, 0, True) for _ in texts]
        for owner, one in zip(owners, self._scored(parts), strict=True):
            so_far = totals[owner]
            totals[owner] = Likelihood(so_far.nats + one.nats, so_far.tokens + one.tokens, so_far.greedy and one.greedy)
        return totals

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens by name."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def closing(self, prompt: Prompt) -> str:
        """The tag that ends the trace which a prompt opens; "" where it opens none."""
        return prompt.closing if self.speaks_k2 else ""

    def _ends(self) -> frozenset[int]:
        stated = self.model.generation_config.eos_token_id
        found = stated if isinstance(stated, list) else [stated]
        found = [*found, self.tokenizer.eos_token_id, self.tokenizer.get_vocab().get(IM_END)]
        ends = frozenset(one for one in found if one is not None)
        if not ends:
            raise EvaluationError(f"{self.name} names no token that ends a text; state eos_token_id in its config.json")
        return ends

    def _check(self, length: int, what: str) -> None:
        if length > self.max_length:
            raise ValueError(
                f"{what} takes {length} positions of a model that has {self.max_length}: "
                "compare `tokens` with `max_length` before asking"
            )

    def _text(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _encoded(self, prompt: Prompt, behind: str = "") -> list[int]:
        """A prompt, and a text `behind` it."""
        if self.speaks_k2:
            follows: list[Segment] = [{"kind": "text", "text": behind, "loss_mask": False}] if behind else []
            return self._segments([*prompt.segments(), *follows])
        if prompt.chat:
            opened = self._template(prompt)
            return opened + self._text(behind) if behind else opened
        if prompt.mode is Mode.COMPLETION:
            before: list[int] = self.tokenizer("")["input_ids"]  # what it puts before any text, as most do a token
            return before + self._text(prompt.text + behind)
        raise EvaluationError(
            f"{self.name} cannot be asked in mode '{prompt.mode.value}': its tokenizer lacks K2's tokens for thinking. "
            "Ask it for completions, or in a chat"
        )

    def _segments(self, segments: Sequence[Segment]) -> list[int]:
        return [one for one, _ in self._marked(segments)]

    def _marked(self, segments: Sequence[Segment]) -> Iterator[tuple[int, bool]]:
        """(Token, whether it is a target) of a document in K2's markup."""
        for kind, text, target in joined_texts(segments):
            ids = [self.tokenizer.convert_tokens_to_ids(text)] if kind == "special" else self._text(text)
            yield from ((one, target) for one in ids)

    def _document(self, text: str | Sequence[Segment]) -> tuple[list[int], list[bool]]:
        """The tokens of a text, and which are targets."""
        if isinstance(text, str):
            stated = (self.tokenizer.bos_token_id, self.model.config.bos_token_id, min(self.ends))
            ids = [next(one for one in stated if one is not None), *self._text(text)]
            return ids, [True] * len(ids)
        if not self.speaks_k2:
            raise EvaluationError(f"{self.name} cannot read a document in K2's markup: its tokenizer lacks K2's tokens")
        marked = list(self._marked(text))
        return [one for one, _ in marked], [target for _, target in marked]

    def _template(self, prompt: Prompt) -> list[int]:
        if not self.tokenizer.chat_template:
            raise EvaluationError(f"{self.name} has no chat template; ask it for completions")
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in prompt.turns]
        ids: list[int] = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, reasoning_effort=prompt.mode.value, return_dict=False
        )
        return ids

    @torch.inference_mode()
    def _write(self, rows: Sequence["_Row"]) -> None:
        """Lets every row write until it has ended."""
        longest = max(len(row.prompt) for row in rows)
        pads = torch.tensor([longest - len(row.prompt) for row in rows])
        tokens_BT = torch.tensor([[0] * (longest - len(row.prompt)) + row.prompt for row in rows])
        mask_BT = (torch.arange(longest) >= pads[:, None]).long()
        places_BT = (torch.arange(longest) - pads[:, None]).clamp(min=0)
        cache = None
        while True:
            said = self.model(
                input_ids=tokens_BT.to(self.device), attention_mask=mask_BT.to(self.device),
                position_ids=places_BT.to(self.device), past_key_values=cache, use_cache=True, logits_to_keep=1,
            )  # fmt: skip
            cache = said.past_key_values
            logits_BV = said.logits[:, -1].float().cpu()
            chosen = [row.choose(logits_V) for row, logits_V in zip(rows, logits_BV, strict=True)]
            if all(row.ended for row in rows):
                return
            tokens_BT = torch.tensor(chosen)[:, None]
            mask_BT = torch.cat([mask_BT, torch.ones(len(rows), 1, dtype=torch.int64)], dim=1)
            places_BT = places_BT[:, -1:] + 1

    @torch.inference_mode()
    def _scored(self, encoded: Sequence[tuple[list[int], Sequence[int]]]) -> list[Likelihood]:
        """Of each (ids, places) the tokens at those places."""
        results = [Likelihood(0.0, 0, True)] * len(encoded)
        order = sorted((i for i, (_, places) in enumerate(encoded) if places), key=lambda i: -len(encoded[i][0]))
        while order:
            size = max(1, min(self.batch_size, TOKENS_PER_BATCH // len(encoded[order[0]][0])))
            batch, order = order[:size], order[size:]
            longest = len(encoded[batch[0]][0])
            tokens_BT = torch.tensor([encoded[i][0] + [0] * (longest - len(encoded[i][0])) for i in batch])
            skipped = min(encoded[i][1][0] for i in batch) - 1  # positions before the first that is scored need no head
            logits_BTV = self.model(
                input_ids=tokens_BT[:, :-1].to(self.device), use_cache=False, logits_to_keep=longest - 1 - skipped
            ).logits
            for row, i in enumerate(batch):
                ids, places = encoded[i]
                places_N = torch.tensor(places, device=logits_BTV.device)
                logits_NV = logits_BTV[row, places_N - 1 - skipped].float()
                wanted_N = torch.tensor(ids, device=logits_NV.device)[places_N]
                # Not by log_softmax, which on a CPU is off by 1e-5 a token over a vocabulary of 49,000 in fp32.
                chosen_N = logits_NV.gather(-1, wanted_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
                nats, greedy = float(chosen_N.sum(dtype=torch.float64)), bool((logits_NV.argmax(-1) == wanted_N).all())
                results[i] = Likelihood(nats, len(places), greedy)
        return results


class _Row:
    """One request while it is written, token by token."""

    def __init__(self, backend: TransformersModel, index: int, prompt: Prompt, sampling: Sampling) -> None:
        self.backend, self.index, self.sampling = backend, index, sampling
        self.prompt = backend._encoded(prompt)
        self.closing = backend.closing(prompt)
        self.tag = backend.tokenizer.convert_tokens_to_ids(self.closing) if self.closing else None
        self.stream = Random(sampling.seed)
        self.written: list[int] = []
        self.finish: Finish | None = Finish.LENGTH if sampling.max_new_tokens < 1 else None
        self.window = max((len(stop.encode()) for stop in sampling.stop), default=0) + 8  # tokens a stop may lie in

    @property
    def ended(self) -> bool:
        return self.finish is not None

    @property
    def answering(self) -> int | None:
        """Where in what is written the answer begins; None while a trace is open."""
        if self.tag is None:
            return 0
        return self.written.index(self.tag) + 1 if self.tag in self.written else None

    def choose(self, logits_V: Tensor) -> int:
        """The next token; of a row that has ended, anything."""
        if self.ended:
            return 0
        budget = self.sampling.thinking_budget
        if budget is not None and self.tag is not None and self.answering is None and len(self.written) >= budget:
            token = self.tag
        else:
            token = self._likely(logits_V)
        self.written.append(token)
        if token in self.backend.ends or self._stopped():
            self.finish = Finish.END
        elif len(self.written) >= self.sampling.max_new_tokens:
            self.finish = Finish.LENGTH
        return token

    def _likely(self, logits_V: Tensor) -> int:
        """The likeliest token, or one drawn as the project's own engine draws: the same of the same logits."""
        if bool(logits_V.isnan().any()):
            raise NotFinite
        drawing = self.sampling
        if drawing.temperature == 0.0:
            return int(logits_V.argmax())
        return int(drawn(logits_V[None], [drawing.temperature], [drawing.top_p], [self.stream]))

    def read(self) -> Generation:
        """The tag that closes a trace is a token: the same letters as plain text do not count."""
        assert self.finish is not None
        decode = self.backend.decode
        said = self.written[:-1] if self.written and self.written[-1] in self.backend.ends else self.written
        if self.tag is None:
            parts, thinking = take_apart(decode(said), ""), None
        elif (begins := self.answering) is None:
            parts, thinking = (decode(said), None), len(said)
        else:
            parts, thinking = (decode(said[: begins - 1]), decode(said[begins:])), begins - 1
        return generation(decode(said), parts, self.sampling.stop, self.finish, len(self.written), thinking)

    def _stopped(self) -> bool:
        begins = self.answering
        if begins is None or not self.sampling.stop:
            return False
        tail = self.written[max(begins, len(self.written) - self.window) :]
        return cut(self.backend.decode(tail), self.sampling.stop)[1]


def _checked_config(folder: Path) -> dict[str, Any]:
    """What `config.json` says. Raises EvaluationError for a folder without one, or whose model cannot be trusted."""
    from k2model.export.architecture import CONFIG, AdoptionError, parse_config

    if not (folder / CONFIG).is_file():
        raise EvaluationError(f"{folder} has no {CONFIG}; expected a model as transformers' save_pretrained writes it")
    try:
        config = parse_config((folder / CONFIG).read_bytes(), str(folder / CONFIG))
    except AdoptionError as error:
        raise EvaluationError(str(error)) from error
    if config.get("auto_map"):
        raise EvaluationError(f"{folder / CONFIG}: auto_map asks for code of its own, which is not run")
    if not any(folder.glob("*.safetensors")):
        raise EvaluationError(f"{folder} has no *.safetensors; other forms of weights can run code and are not read")
    return config


def _no_length(folder: Path) -> int:
    raise EvaluationError(f"{folder}: its config states no max_position_embeddings; give max_length")
