"""A wavelet codec as a tokenizer without training: bit planes of coefficients, coarse to fine."""

from __future__ import annotations

from arbench.protocols import System

from .cards import CARDS

SYSTEM = System(name="wavelet", cards=CARDS)
