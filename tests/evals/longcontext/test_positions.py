"""The loss by position against one forward pass, and by context against what a bigram model knows."""

import pytest
import torch

from k2model.errors import EvaluationError
from k2model.evals.backends.own import OwnModel
from k2model.evals.longcontext.positions import borders, heldout_texts, loss_by_context, loss_by_position
from k2model.recipe.schema import ModelConfig
from k2model.tokens import K2Tokenizer
from tests.model.conftest import byte_tokenizer, random_model

SMALL = ModelConfig(
    vocab_size=274, hidden_size=48, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=16, ffn_size=64, init_std=0.2
)
TEXT = " ".join(f"word{number % 17} is {number * 7 % 23}" for number in range(50))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> OwnModel:
    tokenizer = K2Tokenizer.load(byte_tokenizer(tmp_path_factory.mktemp("bytes")))
    return OwnModel(random_model(SMALL, positions=800), tokenizer, precision=torch.float32)


def each_loss(own: OwnModel, text: str) -> list[float]:
    """Nats of each token behind the first, of one pass over the whole text."""
    ids = [own.tokenizer.bos, *own.tokenizer.encode(text)]
    with torch.no_grad():
        log = own.model(torch.tensor([ids]))[0].log_softmax(-1)
    return [-float(log[place - 1, ids[place]]) for place in range(1, len(ids))]


def test_borders_double() -> None:
    assert borders(1024) == (0, 128, 256, 512, 1024)
    assert borders(1000, 100) == (0, 100, 200, 400, 800, 1000) and borders(64) == (0, 64)


def test_buckets_are_stretches_of_one_pass(own: OwnModel) -> None:
    texts = [TEXT, TEXT[120:], "too short"]
    rows = loss_by_position(own, texts, 256, first=64)
    assert [(row.start, row.end, row.texts) for row in rows] == [(0, 64, 2), (64, 128, 2), (128, 256, 2)]
    whole = [each_loss(own, text) for text in texts[:2]]
    ends = []
    for text in texts[:2]:  # bytes are tokens, and one begins the text
        ends.append(
            [max(i for i in range(mark) if text[i] == " " and text[i - 1].isalnum()) for mark in (64, 128, 256)]
        )
    for row, (start, end) in zip(rows, ((None, 0), (0, 1), (1, 2)), strict=True):
        spans = [(0 if start is None else own_ends[start], own_ends[end]) for own_ends in ends]
        nats = sum(sum(losses[a:b]) for losses, (a, b) in zip(whole, spans, strict=True))
        assert row.tokens == pytest.approx(sum(b - a for a, b in spans), abs=16)
        assert row.nats == pytest.approx(nats / sum(b - a for a, b in spans), rel=0.05)
        assert row.low <= row.nats <= row.high


def test_the_same_tokens_are_predicted_with_more_and_more_before_them(own: OwnModel) -> None:
    rows = loss_by_context(own, [TEXT], 256, first=32)
    assert [(row.start, row.end) for row in rows] == [(32, 64), (64, 96), (128, 160), (224, 256)]
    assert len({row.tokens for row in rows}) == 1 and rows[0].tokens <= 40
    last = each_loss(own, TEXT[: 256 - 1])  # the whole beginning stands before the last row's tokens
    assert rows[-1].nats == pytest.approx(sum(last[-rows[-1].tokens :]) / rows[-1].tokens, rel=0.15)
    assert len({round(row.nats, 4) for row in rows}) > 1


def test_what_is_too_long_or_too_short_is_refused(own: OwnModel) -> None:
    with pytest.raises(EvaluationError, match="has 800 positions, and the loss is asked for at 1000"):
        loss_by_position(own, [TEXT], 1000)
    with pytest.raises(EvaluationError, match="none of 1 texts has 512 tokens"):
        loss_by_position(own, ["short"], 512)


def test_the_projects_own_texts_are_held_out() -> None:
    from k2model.documents.standard_library import code_documents

    texts = list(heldout_texts(20_000))
    assert len(texts) >= 5 and all(20_000 <= len(text) <= 160_000 for text in texts)
    trained = {document["text"][40:140] for document in code_documents()[0]}
    assert not any(piece in text for text in texts[:3] for piece in trained)
