"""Card of the wavelet codec. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, TokenSpec

WAVELET = Card(
    name="tokenizers/wavelet",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.wavelet_codec.adapter:Wavelet",
    summary="bit planes of wavelet coefficients in zerotrees, coarse to fine: no training, any size",
    resolution=256,
    multiple=1,
    config={"wavelet": "bior4.4", "levels": 5, "step": 16},
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((0,),), vocabulary=4, variable_length=True),
    parameters=0,
    code_licence="Apache-2.0",
    weights_licence="not needed: it has no weights",
    source="J. M. Shapiro, IEEE Trans. Signal Processing 41 (1993); coefficients of PyWavelets",
)

CARDS: tuple[Card, ...] = (WAVELET,)
