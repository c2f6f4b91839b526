"""The same weights asked in three ways give the same: our own model, transformers, a server."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

from k2model.documents.markup import BOS, reasoning
from k2model.errors import EvaluationError, NotFinite
from k2model.evals.backend import Backend, Finish, Generation, Likelihood, Prompt, Sampling
from k2model.evals.backends import EndpointModel, OwnModel, TransformersModel
from k2model.evals.backends.reading import cut, generation, take_apart, windows
from k2model.export import load_exported
from k2model.recipe.evaluation import Mode
from tests.evals.backends.conftest import ROOM, config_of
from tests.evals.backends.server import Served, serving

SUM = "Compute 7-2="
PROMPTS = [
    *(Prompt.of(SUM, mode) for mode in Mode),
    Prompt.of("Compute 2+2=", Mode.THINK),
    Prompt.of("The capital of Peru is"),
    Prompt(Mode.HIGH, ({"role": "system", "content": "Be brief."}, {"role": "user", "content": SUM})),
]
PAIRS = [
    (Prompt.of("The capital of Peru is"), " Lima"),
    (Prompt.of("The capital of Peru is"), " Oslo"),
    (Prompt.of(""), "The capital"),
    (Prompt.of("Compute 7-2=", Mode.THINK), "7-2=5"),
    (Prompt.of("é"), "東 and more"),
    (Prompt.of("x"), ""),
]


def written(backend: Backend, prompts: list[Prompt], **sampling: object) -> list[Generation]:
    requests = [(prompt, Sampling(**{"max_new_tokens": 24, **sampling})) for prompt in prompts]  # type: ignore[arg-type]
    found = dict(backend.generate(requests))
    return [found[place] for place in range(len(prompts))]


def test_greedy_texts_are_the_same(
    own: OwnModel, transformers_model: TransformersModel, endpoint: EndpointModel
) -> None:
    ours = written(own, PROMPTS)
    assert ours[1].trace == "7-2=5" and ours[1].answer == "5" and ours[1].complete  # it has learnt this sum
    assert ours == written(transformers_model, PROMPTS)
    theirs = written(endpoint, PROMPTS)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.answer, one.finish, one.tokens) == (other.answer, other.finish, other.tokens)
        assert (one.trace or None) == (other.trace or None)  # a server does not tell an empty trace from none


def test_likelihoods_are_the_same(
    own: OwnModel, transformers_model: TransformersModel, endpoint: EndpointModel
) -> None:
    ours = own.likelihoods(PAIRS)
    assert ours[0].greedy and not ours[1].greedy and ours[5] == Likelihood(0.0, 0, True)
    for backend in (transformers_model, endpoint):
        for one, other in zip(ours, backend.likelihoods(PAIRS), strict=True):
            assert one.nats == pytest.approx(other.nats, abs=1e-4)
            assert (one.tokens, one.greedy) == (other.tokens, other.greedy)


def test_whole_texts_are_as_likely_in_windows(
    own: OwnModel, transformers_model: TransformersModel, endpoint: EndpointModel, folder: Path
) -> None:
    texts = ["Compute 1+2=3", "a much longer text, which does not fit into a window of sixteen tokens", ""]
    for backend in (transformers_model, endpoint):
        for one, other in zip(own.rolling(texts), backend.rolling(texts), strict=True):
            assert one.nats == pytest.approx(other.nats, abs=1e-4) and one.tokens == other.tokens
    short = TransformersModel(folder, max_length=16)
    document = reasoning("Compute 1+2=", "1+2=3", "3")
    for length in (None, 5):
        (one,), (other,) = own.rolling([document], length), transformers_model.rolling([document], length)
        assert one.nats == pytest.approx(other.nats, abs=1e-4) and one.tokens == other.tokens == 8
    for unread, said in ((document, "no document in K2's markup"), ("a" * 20, "longer than a window of 10")):
        with pytest.raises(EvaluationError, match=said):
            endpoint.rolling([unread], 10)
    ours = OwnModel(load_exported(folder, max_positions=16), own.tokenizer, "short", torch.float32)
    for one, other in zip(ours.rolling(texts), short.rolling(texts), strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-4) and one.tokens == other.tokens


def test_prompts_are_as_long(own: OwnModel, transformers_model: TransformersModel, endpoint: EndpointModel) -> None:
    for prompt in PROMPTS:
        assert own.tokens(prompt) == transformers_model.tokens(prompt) == endpoint.tokens(prompt)
    assert own.max_length == transformers_model.max_length == endpoint.max_length == ROOM


def test_a_text_begins_with_one_bos_whatever_it_says(transformers_model: TransformersModel, own: OwnModel) -> None:
    for text in ("a", BOS + "a", "", f"{BOS} {BOS}"):
        ids = transformers_model._encoded(Prompt.of(text))
        assert ids[0] == own.tokenizer.bos and ids.count(own.tokenizer.bos) == 1
        assert ids == own.tokenizer.encode_segments(Prompt.of(text).segments())[0]


@pytest.mark.parametrize("size", [1, 3, 32])
def test_results_do_not_depend_on_the_batch(folder: Path, own: OwnModel, size: int) -> None:
    backend = TransformersModel(folder, batch_size=size)
    assert written(backend, PROMPTS) == written(own, PROMPTS)
    drawn = written(backend, PROMPTS, temperature=1.0, top_p=0.9, seed=5)
    assert drawn == written(own, PROMPTS, temperature=1.0, top_p=0.9, seed=5)  # one way to draw, from the same logits
    assert drawn == [written(backend, [prompt], temperature=1.0, top_p=0.9, seed=5)[0] for prompt in PROMPTS]
    for one, other in zip(backend.likelihoods(PAIRS), own.likelihoods(PAIRS), strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-4)


def test_seeds_are_streams_of_their_own(transformers_model: TransformersModel) -> None:
    seeds = [(Prompt.of("Name"), Sampling(12, temperature=1.5, seed=seed)) for seed in (1, 2, 1)]
    one, two, again = (text for _, text in sorted(transformers_model.generate(seeds)))
    assert one == again and one != two


def test_a_stop_ends_an_answer_and_never_a_trace(
    own: OwnModel, transformers_model: TransformersModel, endpoint: EndpointModel
) -> None:
    prompts = [Prompt.of(SUM, Mode.THINK), Prompt.of(SUM, Mode.HIGH)]
    for backend in (own, transformers_model, endpoint):
        for said in written(backend, prompts, stop=("-", "5")):  # both stand in the trace 7-2=5, 5 in the answer
            assert (said.trace, said.answer, said.finish) == ("7-2=5", "", Finish.END)


def test_an_open_trace_is_no_answer(
    own: OwnModel, transformers_model: TransformersModel, endpoint: EndpointModel
) -> None:
    prompts = [Prompt.of(SUM, Mode.THINK), Prompt.of(SUM, Mode.HIGH)]
    for backend in (own, transformers_model, endpoint):
        for said in written(backend, prompts, max_new_tokens=3):
            assert (said.trace, said.answer, said.finish, said.complete) == ("7-2", None, Finish.LENGTH, False)


def test_a_thinking_budget_closes_a_trace(transformers_model: TransformersModel, own: OwnModel) -> None:
    for backend in (own, transformers_model):
        (said,) = written(backend, [Prompt.of(SUM, Mode.THINK)], thinking_budget=3)
        assert said.trace == "7-2" and said.answer is not None and said.thinking_tokens == 3
        (said,) = written(backend, [Prompt.of(SUM, Mode.THINK)], thinking_budget=20)
        assert (said.trace, said.answer) == ("7-2=5", "5")


def test_what_does_not_fit_is_refused(own: OwnModel, transformers_model: TransformersModel) -> None:
    for backend in (own, transformers_model):
        with pytest.raises(ValueError, match="request 0 takes 4118 positions"):
            written(backend, [Prompt.of("a" * (ROOM - 3))])


def test_texts_are_taken_apart() -> None:
    assert take_apart("a</think>b", "</think>") == ("a", "b")
    assert take_apart("a", "</think>") == ("a", None)
    assert take_apart("plain </think> text", "") == (None, "plain </think> text")
    assert take_apart("\n<think>a</think>b", "") == ("a", "b")
    assert take_apart("<think_fast>a", "") == ("a", None)
    assert cut("one\n\ntwo Q", ("Q", "\n\n", "")) == ("one", True) and cut("one", ("Q",)) == ("one", False)


@pytest.mark.parametrize(("length", "room"), list(itertools.product((1, 2, 7, 8, 9, 30), (1, 4, 8))))
def test_windows_predict_each_token_once(length: int, room: int) -> None:
    seen = []
    for start, first, last in windows(length, room):
        assert start < first and last - 1 - start <= room
        seen += range(first, last)
    assert seen == list(range(1, length))


def test_a_folder_that_asks_for_code_or_has_no_safetensors_is_refused(tmp_path: Path) -> None:
    for content, names, said in (
        ("{}", (), "no \\*.safetensors"),
        ('{"auto_map": {"AutoModel": "x.Y"}}', ("model.safetensors",), "auto_map"),
        ("[]", ("model.safetensors",), "no JSON object"),
    ):
        (tmp_path / "config.json").write_text(content)
        for name in names:
            (tmp_path / name).touch()
        with pytest.raises(EvaluationError, match=said):
            TransformersModel(tmp_path)
    with pytest.raises(EvaluationError, match="has no config"):
        TransformersModel(tmp_path / "nothing")


def test_a_server_that_answers_in_another_name_is_refused(own: OwnModel) -> None:
    with serving(Served(own, called="other")) as server, EndpointModel(config_of(server)) as model:
        with pytest.raises(EvaluationError, match="asked as 'tiny' and answers as 'other'"):
            written(model, PROMPTS[:1])
    with serving(Served(own)) as server:
        with pytest.raises(EvaluationError, match="no model 'tinny'; did you mean 'tiny'"):
            EndpointModel(replace(config_of(server), model="tinny"))


def test_failures_are_outlived_or_told(own: OwnModel) -> None:
    with serving(Served(own, broken=2)) as server, EndpointModel(config_of(server)) as model:
        assert written(model, PROMPTS[:2]) and model.run_statistics()["failed_attempts"] == 2
    with serving(Served(own, broken=99)) as server:
        with EndpointModel(config_of(server, max_attempts=2)) as model:
            with pytest.raises(
                EvaluationError, match="1 of 1 requests to 'tiny' got no answer, the last with: status 500"
            ):
                written(model, PROMPTS[:1])


def test_a_server_without_echo_says_so(own: OwnModel) -> None:
    with serving(Served(own, echo=False)) as server, EndpointModel(config_of(server)) as model:
        with pytest.raises(EvaluationError, match="does not tell how likely a prompt is"):
            model.likelihoods(PAIRS[:1])


def test_a_server_that_does_not_take_thinking_out(own: OwnModel) -> None:
    with serving(Served(own, parser=False)) as server, EndpointModel(config_of(server), opens_trace=True) as model:
        chats = [Prompt.of(SUM, Mode.HIGH)]
        assert written(model, chats)[0].answer == "5"
        assert written(model, chats, max_new_tokens=3)[0].answer is None


def test_recorded_calls_are_not_made_again(own: OwnModel, tmp_path: Path) -> None:
    with serving(Served(own)) as server:
        for _ in range(2):
            with EndpointModel(config_of(server), tmp_path / "calls.jsonl") as model:
                assert written(model, PROMPTS[:3])
        assert len(server.sent) == 3


def test_a_budget_for_thinking_is_refused_by_name(endpoint: EndpointModel) -> None:
    with pytest.raises(EvaluationError, match="thinking_budget=5"):
        written(endpoint, [Prompt.of(SUM, Mode.HIGH)], thinking_budget=5)


def test_a_likelihood_that_is_no_number_makes_no_score() -> None:
    with pytest.raises(NotFinite, match="Evaluate an earlier checkpoint"):
        Likelihood(math.nan, 3, False)


@pytest.mark.parametrize("listed", [[1, 2], {"data": ["tiny"]}, {"data": [{"id": 7}]}, {"data": {}}, None])
def test_a_list_of_models_that_is_none_says_no_length(own: OwnModel, listed: object) -> None:
    served = Served(own)
    served.models = lambda: listed  # type: ignore[method-assign, assignment, return-value]
    with serving(served), pytest.raises(EvaluationError, match="does not say how long the context of 'tiny' is"):
        EndpointModel(config_of(served))


def test_what_a_server_broke_off_is_no_answer(own: OwnModel) -> None:
    served = Served(own)
    served.answer = lambda path, sent: (  # type: ignore[method-assign]
        200, {"model": "tiny", "choices": [{"text": " Lima", "finish_reason": "content_filter"}],
              "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
    )  # fmt: skip
    with serving(served), EndpointModel(config_of(served)) as model:
        ((_, said),) = model.generate([(Prompt.of("The capital of Peru is"), Sampling(8))])
    assert said.finish is Finish.LENGTH and not said.complete


def test_half_a_character_is_told_as_such_and_can_be_written() -> None:
    said = generation("a\ud83d</think>\udc00b", ("a\ud83d", "\udc00b"), (), Finish.END, 5)
    assert (said.text, said.trace, said.answer) == ("a\ufffd</think>\ufffdb", "a\ufffd", "\ufffdb")


def test_a_key_that_a_server_does_not_take_is_told(own: OwnModel, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(self: object, url: object, **_: object) -> httpx.Response:
        return httpx.Response(401)

    with serving(Served(own)) as served:
        monkeypatch.setattr(httpx.AsyncClient, "get", refused)
        with pytest.raises(EvaluationError, match="/v1/models answers status 401; name the environment variable"):
            EndpointModel(config_of(served))
