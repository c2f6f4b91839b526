"""What a plan says of k2_70b, against figures computed by hand, and what packed rows change."""

from dataclasses import replace

import numpy as np
import pytest

from k2model.artifacts import Store
from k2model.errors import K2Error
from k2model.planning.estimate import attended_pairs, estimate, gpu_of, interruptions_of, token_prices
from k2model.planning.goodput import BYTE_ROBUST, simulate
from k2model.recipe import load_recipe
from tests.training.job import PHASE, sequences

K2 = load_recipe("k2_70b")


def test_pretraining_by_hand() -> None:
    found = {one.phase: one for one in estimate(K2, gpu_of(K2))}
    one, tokens = found["pretrain"], 12_288_000_000_000
    flops = 6 * (72_548_360_192 - 250_000 * 8_192) * tokens + 12 * 80 * 8_192 * tokens * 8_192
    assert (one.tokens, one.gpus, one.whole_rows) == (tokens, 3_200, True)
    assert one.flops == pytest.approx(flops)
    assert one.step_seconds * one.steps == pytest.approx(flops / (3_200 * 989e12 * 0.4))
    assert one.checkpoint == 12 * 72_548_360_192
    assert one.kept == 250 and one.stored == pytest.approx(250 * one.checkpoint + 2 * 72_548_360_192)
    assert one.reads == pytest.approx(9_830_400 / 400 * 4.125 / one.step_seconds)
    assert one.gpu_hours == pytest.approx(flops / (989e12 * 0.4) / 3600 / one.goodput)


def test_a_token_costs_the_gpu_hours_of_its_phase() -> None:
    priced = replace(K2, cluster=replace(K2.cluster, price_per_gpu_hour=2.5))
    flops = 6 * (72_548_360_192 - 250_000 * 8_192) + 12 * 80 * 8_192 * 8_192
    goodput = estimate(K2, gpu_of(K2))[0].goodput
    assert token_prices(priced)["pretrain"] == pytest.approx(2.5 * flops / (989e12 * 0.4) / 3600 / goodput)
    for lacking in (K2, replace(priced, cluster=replace(priced.cluster, gpu=""))):
        with pytest.raises(K2Error, match=r"set cluster\.gpu and cluster\.price_per_gpu_hour"):
            token_prices(lacking)


def test_k2_70bs_own_saves_keep_97_percent_of_the_time_for_training() -> None:
    for one in estimate(K2, gpu_of(K2)):
        assert one.goodput >= BYTE_ROBUST, one.phase
        assert one.recommended_steps < one.save_every
        phase = K2.phase(one.phase)
        played = simulate(one.steps * one.step_seconds, one.save_every * one.step_seconds, interruptions_of(K2, phase))
        assert played.goodput == pytest.approx(one.goodput, rel=0.02), one.phase


def test_short_documents_cost_less(tmp_path) -> None:
    """The rows of the training tests hold documents of 10 and 6 tokens."""
    store = Store.open(tmp_path)
    packed = sequences(store, PHASE)
    assert attended_pairs(store, packed) == pytest.approx(10**2 + 6**2)
    whole, short = (estimate(K2, gpu_of(K2), known)[2] for known in ({}, {"mid_2": 65_536 * 1_000.0}))
    assert not short.whole_rows and short.flops < 0.7 * whole.flops


def test_a_price_and_a_calm_cluster() -> None:
    calm = replace(K2, cluster=replace(K2.cluster, failures_per_gpu_day=0.0))
    one = estimate(calm, gpu_of(calm))[0]
    assert one.recommended_steps is None and one.interruptions == 0 and one.goodput > 0.999
    assert np.isfinite(one.days)


def test_a_phase_without_saves_counts_as_one_interval_to_its_end() -> None:
    unsaved = load_recipe("k2_1b", {f"phases.sft.checkpoints.{name}": "0" for name in ("save_every", "keep_every")})
    one = estimate(unsaved, gpu_of(unsaved))[-1]
    assert one.save_every == one.steps and 0.9 < one.goodput < 1


def test_a_phase_that_would_never_reach_its_next_save_says_so() -> None:
    never = load_recipe("k2_70b", {"cluster.failures_per_gpu_day": "1e6"})
    with pytest.raises(K2Error, match=r"phases.pretrain would not come .* x 3,200 GPUs\), and 0.011 days"):
        estimate(never, gpu_of(never))
