"""Every adapter that ships with arbench: their cards, and which of them replay which recordings. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card

from .continuous.cards import CARDS as CONTINUOUS
from .hybrid.cards import CARDS as HYBRID
from .next_scale.cards import CARDS as NEXT_SCALE
from .random_order.randar_cards import CARDS as RANDAR
from .random_order.rar_cards import CARDS as RAR
from .raster.cards import CARDS as RASTER
from .tokenizers.cards import CARDS as TOKENIZERS

CARDS: tuple[Card, ...] = (*RASTER, *NEXT_SCALE, *RAR, *RANDAR, *CONTINUOUS, *HYBRID, *TOKENIZERS)

GOLDENS: dict[tuple[str, str], str] = {
    ("llamagen", "tokenizer"): "arbench.adapters.tokenizers.llamagen_vq:replay",
    ("llamagen", "generator"): "arbench.adapters.raster.llamagen:replay",
    ("var", "tokenizer"): "arbench.adapters.tokenizers.var_msvq:replay",
    ("var", "generator"): "arbench.adapters.next_scale.var:replay",
    ("rar", "tokenizer"): "arbench.adapters.tokenizers.maskgit_vqgan:replay",
    ("rar", "generator"): "arbench.adapters.random_order.rar:replay",
    ("randar", "generator"): "arbench.adapters.random_order.randar:replay",
    ("mar", "tokenizer"): "arbench.adapters.tokenizers.mar_kl:replay",
    ("mar", "generator"): "arbench.adapters.continuous.mar:replay",
    ("hart", "tokenizer"): "arbench.adapters.tokenizers.hart_hybrid:replay",
    ("hart", "generator"): "arbench.adapters.hybrid.hart:replay",
}
"""(adapter, component) of a golden -> the function that builds its replay."""
