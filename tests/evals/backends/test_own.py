"""The project's own model as a backend, on a model that knows a few documents by heart."""

import pytest
import torch

from k2model.documents.markup import plain_prompt, reasoning
from k2model.evals.backend import Finish, Prompt, Sampling
from k2model.evals.backends import OwnModel
from k2model.recipe.evaluation import Mode
from tests.evals.conftest import World


@pytest.fixture(scope="module")
def own(world: World) -> OwnModel:
    return OwnModel(world.model, world.loaded_tokenizer, precision=torch.float32, batch_size=4)


def test_a_trace_and_an_answer(own: OwnModel) -> None:
    said = dict(own.generate([(Prompt.of("Compute 1+2=", Mode.THINK), Sampling(40))]))[0]
    assert (said.trace, said.answer, said.finish) == ("1+2=3", "3", Finish.END)
    assert (said.text, said.tokens, said.thinking_tokens) == ("1+2=3</think>3", 8, 5)
    assert said.complete


def test_a_trace_that_is_not_closed_has_no_answer(own: OwnModel) -> None:
    said = dict(own.generate([(Prompt.of("Compute 1+2=", Mode.THINK), Sampling(4))]))[0]
    assert (said.trace, said.answer, said.finish, said.complete) == ("1+2=", None, Finish.LENGTH, False)


def test_a_stop_text_ends_an_answer_and_no_trace(own: OwnModel) -> None:
    requests = [
        (Prompt.of("The capital of Peru is"), Sampling(20, stop=("im",))),
        (Prompt.of("Compute 1+2=", Mode.THINK), Sampling(20, stop=("+",))),
    ]
    said = dict(own.generate(requests))
    assert (said[0].answer, said[0].finish) == (" L", Finish.END)
    assert (said[1].trace, said[1].answer) == ("1+2=3", "3")


def test_a_spent_thinking_budget_closes_the_trace(own: OwnModel) -> None:
    said = dict(own.generate([(Prompt.of("Compute 1+2=", Mode.HIGH), Sampling(40, thinking_budget=2))]))[0]
    assert said.trace == "1+"
    assert said.thinking_tokens == 2
    assert said.answer is not None
    assert said.text.startswith("1+</think>")


def test_likelihoods_are_those_of_one_pass(own: OwnModel) -> None:
    prompt = Prompt.of("The capital of Cuba is")
    right, wrong, nothing = own.likelihoods([(prompt, " Havana"), (prompt, " Lima"), (prompt, "")])
    ids = own.tokenizer.encode_segments(plain_prompt("The capital of Cuba is Havana"))[0]
    with torch.no_grad():
        log = own.model(torch.tensor([ids]))[0].log_softmax(-1)
    expected = sum(float(log[place - 1, ids[place]]) for place in range(len(ids) - 7, len(ids)))
    assert right.nats == pytest.approx(expected, abs=1e-4)
    assert (right.tokens, right.greedy) == (7, True)
    assert wrong.nats < right.nats
    assert not wrong.greedy
    assert (nothing.nats, nothing.tokens) == (0.0, 0)


def test_requests_that_go_on_where_others_end_are_as_likely_as_alone(own: OwnModel) -> None:
    requests = [
        (Prompt.of("The capital of Cuba is Havana. The capital of Peru is"), " Lima"),
        (Prompt.of("The capital of Cuba is"), " Havana"),
        (Prompt.of("The capital of Cuba is Havana"), "."),
        (Prompt.of("The capital of Cuba is"), " Lima"),
        (Prompt.of("The capital of"), ""),
    ]
    together, alone = own.likelihoods(requests), [own.likelihoods([one])[0] for one in requests]
    assert [one.nats for one in together] == pytest.approx([one.nats for one in alone], abs=1e-4)
    assert [(one.tokens, one.greedy) for one in together] == [(one.tokens, one.greedy) for one in alone]
    read: list[int] = []
    score = own.engine.score
    own.engine.score = lambda pairs: [read.append(len(pairs)), score(pairs)][1]  # type: ignore[method-assign]
    own.likelihoods(requests)
    own.engine.score = score  # type: ignore[method-assign]
    assert read == [2]


def test_rolling_predicts_each_token_once(own: OwnModel) -> None:
    text = "The capital of Peru is Lima. " * 20  # 580 bytes: two windows of 256 tokens and a part
    (rolled,) = own.rolling([text])
    ids = [own.tokenizer.bos, *own.tokenizer.encode(text)]
    nats = 0.0
    for first, last in ((1, 257), (257, 513), (513, 581)):
        fed = torch.tensor([ids[max(0, last - 257) : last - 1]])
        with torch.no_grad():
            log = own.model(fed)[0].log_softmax(-1)[-(last - first) :]
        nats += float(log.gather(-1, torch.tensor(ids[first:last])[:, None]).sum())
    assert rolled.tokens == len(text)
    assert rolled.nats == pytest.approx(nats, abs=1e-2)


def test_of_a_document_the_targets_alone_are_counted_in_windows_of_a_length(own: OwnModel) -> None:
    document = reasoning("Compute 1+2=", "1+2=3", "3")
    ids, targets = own.tokenizer.encode_segments(document)
    with torch.no_grad():
        log = own.model(torch.tensor([ids]))[0].log_softmax(-1)
    (whole,) = own.rolling([document])
    assert whole.tokens == sum(targets) == 8
    assert whole.nats == pytest.approx(
        sum(float(log[i - 1, ids[i]]) for i in range(1, len(ids)) if targets[i]), abs=1e-4
    )
    (cut,) = own.rolling([document], window=5)
    assert cut.tokens == 8 and cut.nats != pytest.approx(whole.nats, abs=1e-4)


def test_what_exceeds_the_model_is_refused(own: OwnModel) -> None:
    with pytest.raises(ValueError, match=r"request 0 takes 3\d\d positions of a model built for 256"):
        list(own.generate([(Prompt.of("a" * 250), Sampling(100))]))
    with pytest.raises(ValueError, match="takes 260 positions"):
        own.likelihoods([(Prompt.of("a" * 250), "b" * 10)])


def test_identity_says_the_precision(own: OwnModel) -> None:
    assert own.identity == {"kind": "own", "precision": "fp32", "torch": torch.__version__}
    with pytest.raises(ValueError, match=r"expected torch\.float32 or torch\.bfloat16"):
        OwnModel(own.model, own.tokenizer, precision=torch.float16)
