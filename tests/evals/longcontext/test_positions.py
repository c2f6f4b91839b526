"""The loss by position against one forward pass, and by context against what a bigram model knows."""

import pytest
import torch

from k2model.errors import EvaluationError
from k2model.evals.answers import Answers
from k2model.evals.backends.own import OwnModel
from k2model.evals.items import ItemResult
from k2model.evals.longcontext.positions import heldout_texts, losses_by_context, losses_by_position
from k2model.evals.scores import row_of
from k2model.recipe.schema import ModelConfig
from k2model.tokens import K2Tokenizer
from tests.evals.scripted import Scripted
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


def by_score(results: list[ItemResult]) -> dict[str, list[ItemResult]]:
    found: dict[str, list[ItemResult]] = {}
    for one in results:
        found.setdefault(one.score, []).append(one)
    return found


def test_buckets_are_stretches_of_one_pass(own: OwnModel) -> None:
    texts = {"a": TEXT, "b": TEXT[120:], "c": "too short"}
    answers = Answers()
    found = by_score(losses_by_position(own, texts, 256, answers))
    assert {score: [one.item for one in own] for score, own in found.items()} == {
        "position_loss/128": ["a", "b"], "position_loss/256": ["a", "b"],
    }  # fmt: skip
    for number, name in enumerate("ab"):
        losses, text = each_loss(own, texts[name]), texts[name]
        # bytes are tokens, and one begins the text; a cut is at most four tokens and a word before the border
        ends = [found[score][number].tokens for score in found]
        assert text[ends[0]] == " " and text[sum(ends)] == " " and 116 <= ends[0] <= 127 and 244 <= sum(ends) <= 255
        assert found["position_loss/128"][number].value == pytest.approx(sum(losses[: ends[0]]), rel=1e-4)
        assert found["position_loss/256"][number].value == pytest.approx(sum(losses[ends[0] : sum(ends)]), rel=1e-4)
    row = row_of("p", "position_loss/128", found["position_loss/128"], "g", "nats/token")
    assert row.n == 2 and row.low < row.value < row.high
    kept = Scripted(own.tokenizer, lambda *_: None)  # cannot be asked: what was read before is not read again
    assert losses_by_position(kept, texts, 256, answers) == [one for own in found.values() for one in own]


def test_the_same_tokens_are_predicted_with_more_and_more_before_them(own: OwnModel) -> None:
    found = losses_by_context(own, {"a": TEXT}, 512)
    assert [one.score for one in found] == ["context_loss/128", "context_loss/256", "context_loss/384"]
    assert len({one.tokens for one in found}) == 1 and 110 <= found[0].tokens <= 140
    whole = each_loss(own, TEXT[:511])  # all of the beginning stands before the last row's tokens
    end = max(i for i in range(511) if TEXT[i] == " " and i >= 500)
    assert found[-1].value == pytest.approx(sum(whole[end - found[-1].tokens : end]), rel=0.05)
    assert len({round(one.value, 3) for one in found}) == 3


def test_what_is_too_long_or_too_short_is_refused(own: OwnModel) -> None:
    with pytest.raises(EvaluationError, match="has 800 positions, and the loss is asked for at 1000"):
        losses_by_position(own, {"a": TEXT}, 1000)
    with pytest.raises(EvaluationError, match="none of 1 texts has 512 tokens"):
        losses_by_position(own, {"a": "short"}, 512)


def test_the_projects_own_texts_are_held_out() -> None:
    from k2model.documents.standard_library import code_documents

    texts = list(heldout_texts(20_000, 6).values())
    assert len(texts) == 6 and all(50_000 <= len(text) <= 160_000 for text in texts)
    trained = {document["text"][40:140] for document in code_documents()[0]}
    assert not any(piece in text for text in texts[:3] for piece in trained)
