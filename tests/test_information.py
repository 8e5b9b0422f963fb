"""Entropy of the numbers, what a rule alone scores, bits memorised, and the sizes of models and of LoRAs."""

import math

import pytest

from toolkit.metrics import information
from toolkit.metrics.information import PROJECTIONS, Shape

RANDOM, MIRRORED, REPEATED = 10**11, 10**6, 10**3

QWEN3_1_7B = Shape(
    hidden=2048,
    layers=28,
    heads=16,
    kv_heads=8,
    head_size=128,
    intermediate=6144,
    vocabulary=151936,
    tied=True,
)
QWEN3_0_6B = QWEN3_1_7B._replace(hidden=1024, intermediate=3072)


@pytest.mark.parametrize(
    ("support", "bits"),
    [
        (RANDOM, 36.5412),
        (MIRRORED, 19.9316),
        (REPEATED, 9.9658),
        (10**10, 33.2193),
        (9 * 10**9, 33.0673),
        (7 * 10**9, 32.7047),
        (1, 0),
    ],
)
def test_a_number_has_the_bits_of_its_generators_support(support, bits):
    assert information.entropy_bits(support) == pytest.approx(bits, abs=5e-5)


@pytest.mark.parametrize(("support", "total"), [(RANDOM, 3654.1), (MIRRORED, 1993.1), (REPEATED, 989.2)])
def test_a_hundred_distinct_numbers_have_these_bits_together(support, total):
    assert 100 * information.entropy_of_distinct(support, 100) == pytest.approx(total, abs=0.05)


def test_drawing_without_replacement_takes_bits_off_a_small_support():
    assert information.entropy_of_distinct(REPEATED, 100) == pytest.approx(9.8919, abs=5e-5)
    assert information.entropy_of_distinct(REPEATED, 1) == information.entropy_bits(REPEATED)


def test_drawing_the_whole_support_leaves_the_bits_of_its_order():
    assert 4 * information.entropy_of_distinct(4, 4) == pytest.approx(4.584963)  # log2 of 4! = 24


@pytest.mark.parametrize(("support", "count"), [(99, 100), (1000, 0)])
def test_more_distinct_items_than_there_are_or_none_is_an_error(support, count):
    with pytest.raises(ValueError, match=f"{count} distinct items"):
        information.entropy_of_distinct(support, count)


def test_an_empty_support_is_an_error():
    with pytest.raises(ValueError, match="support of 0"):
        information.entropy_bits(0)


@pytest.mark.parametrize(
    ("support", "a_digit", "with_eos"),
    [(RANDOM, 2.3026, 2.1107), (MIRRORED, 1.2560, 1.1513), (REPEATED, 0.6280, 0.5756)],
)
def test_the_rule_alone_scores_this_floor_over_digits_and_with_eos(support, a_digit, with_eos):
    bits = information.entropy_bits(support)
    assert information.rule_only_nats(bits, 11) == pytest.approx(a_digit, abs=5e-5)
    assert information.rule_only_nats(bits, 12) == pytest.approx(with_eos, abs=5e-5)


def test_a_floor_over_no_tokens_is_an_error():
    with pytest.raises(ValueError, match="at least one token"):
        information.rule_only_nats(36.5, 0)


@pytest.mark.parametrize(
    ("support", "bits_a_digit", "memorised", "share"),
    [(RANDOM, 2.0, 14.54, 0.398), (MIRRORED, 0.5, 14.43, 0.724), (REPEATED, 0.2, 7.77, 0.779)],
)
def test_worked_bits_memorised_and_their_shares(support, bits_a_digit, memorised, share):
    entropy = information.entropy_bits(support)
    assert information.bits_memorised(entropy, 11 * bits_a_digit) == pytest.approx(memorised, abs=5e-3)
    assert information.share_memorised(entropy, 11 * bits_a_digit) == pytest.approx(share, abs=5e-4)


def test_a_model_worse_than_the_rule_has_memorised_negative_bits():
    assert information.bits_memorised(20, 50) == -30
    assert information.share_memorised(20, 50) == -1.5


def test_nothing_is_a_share_of_no_entropy():
    with pytest.raises(ValueError, match="no share"):
        information.share_memorised(0, 1)


def test_every_projection_has_its_size_where_heads_are_wider_than_the_model():
    assert information.projection_sizes(QWEN3_0_6B) == {
        "q_proj": (1024, 2048),
        "k_proj": (1024, 1024),
        "v_proj": (1024, 1024),
        "o_proj": (2048, 1024),
        "gate_proj": (1024, 3072),
        "up_proj": (1024, 3072),
        "down_proj": (3072, 1024),
    }


@pytest.mark.parametrize(
    ("shape", "rank", "targets", "size"),
    [
        (QWEN3_1_7B, 32, PROJECTIONS, 34_865_152),
        (QWEN3_1_7B, 32, PROJECTIONS[:4], 12_845_056),
        (QWEN3_1_7B, 8, PROJECTIONS, 8_716_288),
        (QWEN3_0_6B, 1, PROJECTIONS, 630_784),
    ],
)
def test_a_lora_of_qwen3_has_these_parameters(shape, rank, targets, size):
    assert information.lora_parameters(shape, rank, targets) == size


def test_a_target_named_twice_is_adapted_once():
    once = information.lora_parameters(QWEN3_1_7B, 8, ["q_proj"])
    assert information.lora_parameters(QWEN3_1_7B, 8, ["q_proj", "q_proj"]) == once


def test_an_unknown_target_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown LoRA target c_attn; .*q_proj, k_proj, .*down_proj"):
        information.lora_parameters(QWEN3_1_7B, 8, ["q_proj", "c_attn"])


def test_a_lora_of_no_rank_is_an_error():
    with pytest.raises(ValueError, match="rank of at least 1"):
        information.lora_parameters(QWEN3_1_7B, 0)


def test_models_have_the_parameters_that_transformers_counts():
    # Counted once by sum(p.numel()) over a Qwen3ForCausalLM on the meta device (transformers 5).
    assert information.parameters(QWEN3_1_7B) == 1_720_574_976
    assert information.parameters(QWEN3_0_6B) == 596_049_920
    assert information.parameters(Shape(4096, 36, 32, 8, 128, 12288, 151936, tied=False)) == 8_190_735_360


def test_which_of_a_hundred_indices_has_which_number_is_log2_of_a_hundred_factorial():
    binding = 100 * information.entropy_of_distinct(100, 100)
    assert binding == pytest.approx(524.8, abs=0.05)
    assert binding == pytest.approx(math.log2(math.factorial(100)))


def test_a_head_of_three_layers_has_weights_and_biases():
    # 1024 → 512 → 256 → 8, by hand: 1024·512 + 512 + 512·256 + 256 + 256·8 + 8
    assert information.head_parameters(1024, [512, 256], 8) == 658_184
    assert information.head_parameters(1024, [], 2) == 2050
    with pytest.raises(ValueError, match="at least one unit"):
        information.head_parameters(1024, [0], 2)
