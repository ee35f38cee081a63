"""Generators whose images are larger than those of their tokenizer's card."""

from __future__ import annotations

import pytest

from arbench import registry
from arbench.protocols import LoadSpec, TokenSpec
from arbench.tasks.outputs import request_for
from arbench.tasks.sampled import sampled


@pytest.mark.parametrize("name", ["raster/llamagen-mini", "random_order/randar-mini"])
def test_a_generator_may_make_larger_images_than_its_tokenizers_card_says(name):
    """As LlamaGen at 384 and RandAR at 512 do, over tokenizers of 256."""
    small = registry.card(name)
    large = small.derive(
        name=f"{name}-64", resolution=64, tokens=TokenSpec.grid(16, 256), config={**small.config, "block_size": 256}
    )
    spec = LoadSpec(init="random")
    tokenizer = registry.resolve(registry.card(small.tokenizer).implementation).load(
        registry.card(small.tokenizer), spec
    )
    generator = registry.resolve(large.implementation).load(large, spec, tokenizer)
    images, codes = sampled(generator, range(2), 2, large.native, lambda ids: request_for(large, ids, 0, "cpu"))
    assert images.shape == (2, 3, 64, 64)
    assert codes.ids[0].shape == (2, 256)
