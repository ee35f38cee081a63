"""Vector quantisation: the codebook lookup, and the multi-scale residual quantiser of VAR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 4096
"""Features matched at once, so that the distances to a large codebook stay within memory."""


class Codebook(nn.Module):
    """`size` codes of `channels` numbers.

    `unit`: "none" matches by Euclidean distance; "codes" puts features and codes on the unit sphere, looked-up codes
    included (LlamaGen); "match" does so for matching only (VAR's `using_znorm`).
    """

    def __init__(self, size: int, channels: int, unit: Literal["none", "codes", "match"] = "none") -> None:
        super().__init__()
        self.unit = unit
        self.embedding = nn.Embedding(size, channels)

    @property
    def codes(self) -> Tensor:
        """(V, C), as looked up."""
        weight = self.embedding.weight
        return F.normalize(weight, dim=-1) if self.unit == "codes" else weight

    def lookup(self, ids: Tensor) -> Tensor:
        """(..., C) codes of ids (...)."""
        return F.embedding(ids, self.codes)

    def nearest(self, features: Tensor) -> Tensor:
        """(...) int64: the code nearest to each of the features (..., C)."""
        rows = features.reshape(-1, features.shape[-1])
        codes = self.codes if self.unit == "none" else F.normalize(self.embedding.weight, dim=-1)
        ids = torch.cat([self._nearest(part, codes) for part in torch.split(rows, ROWS)])
        return ids.reshape(features.shape[:-1])

    def _nearest(self, rows: Tensor, codes: Tensor) -> Tensor:
        if self.unit != "none":
            rows = F.normalize(rows, dim=-1)
        if self.unit == "match":
            return (rows @ codes.T).argmax(-1)
        # |z - e|^2 expanded: the terms and their order decide near ties, so they follow the reference
        squares = rows.square().sum(1, keepdim=True) + codes.square().sum(1)
        return torch.addmm(squares, rows, codes.T, alpha=-2).argmin(-1)


class SignBits(nn.Module):
    """Lookup-free codes: bit i of an id (weight 2**i) says whether channel i is positive; codes are -1 and 1."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def nearest(self, features: Tensor) -> Tensor:
        """(...) int64 for features (..., bits)."""
        places = torch.arange(self.bits, device=features.device)
        return ((features > 0).long() << places).sum(-1)

    def lookup(self, ids: Tensor) -> Tensor:
        """(..., bits) float32 codes of ids (...)."""
        places = torch.arange(self.bits, device=ids.device)
        return ((ids.unsqueeze(-1) >> places) & 1).float() * 2 - 1


def phi_of_scales(scales: int, phis: int) -> tuple[int, ...]:
    """Which of `phis` shared convolutions serves each scale: the nearest of evenly spaced places in [0, 1].

    With four convolutions and ten scales, scales 2 and 7 are midway between two places and float64 rounding decides;
    hence the reference's own arithmetic, numpy's linspace and divisions in this order.
    """
    margin = 1 / 3 / phis if phis == 4 else 1 / 2 / phis
    places = np.linspace(margin, 1 - margin, phis)
    last = max(scales - 1, 1)
    return tuple(int(np.abs(places - scale / last).argmin()) for scale in range(scales))


class MultiScaleQuantizer(nn.Module):
    """Residual quantisation of a feature map over token maps of growing size (VAR, Tian et al., NeurIPS 2024).

    Scale k codes what the scales before it left over. Its codes are enlarged to the full map and pass a 3x3
    convolution "phi", `(1 - ratio) x + ratio conv(x)`; the sum over scales is `f_hat`, float32 (B, C, H, W).

    sides: side of each token map, coarse to fine; the last is that of the feature map.
    phis: number of convolutions; scale k uses the one whose place is nearest to k / (K - 1).
    """

    def __init__(
        self,
        sides: Sequence[int],
        codes: int,
        channels: int,
        *,
        phis: int = 4,
        ratio: float = 0.5,
        unit: Literal["none", "match"] = "none",
    ) -> None:
        super().__init__()
        self.sides = tuple(sides)
        self.channels = channels
        self.ratio = abs(ratio)
        self.codebook = Codebook(codes, channels, unit)
        # a ratio of zero leaves no convolution, and then there are no weights either
        self.phis = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(phis if self.ratio > 1e-6 else 0)
        )
        self.phi_of_scale = phi_of_scales(len(self.sides), phis)

    @property
    def form(self) -> tuple[tuple[int, ...], int, int]:
        """Sides, codes and channels: what a generator over these codes must be made for."""
        return self.sides, self.codebook.embedding.num_embeddings, self.channels

    def start(self, batch: int) -> Tensor:
        """The empty `f_hat` before the first scale."""
        weight = self.codebook.embedding.weight
        return torch.zeros(batch, self.channels, self.sides[-1], self.sides[-1], device=weight.device)

    def contribution(self, codes: Tensor, scale: int) -> Tensor:
        """What the codes (B, C, h, w) of one scale add to `f_hat`."""
        if scale < len(self.sides) - 1:
            codes = F.interpolate(codes, size=(self.sides[-1], self.sides[-1]), mode="bicubic")
        if not self.phis:
            return codes
        out: Tensor = codes * (1 - self.ratio) + self.phis[self.phi_of_scale[scale]](codes) * self.ratio
        return out

    def lookup(self, ids: Tensor, scale: int) -> Tensor:
        """(B, C, h, w) codes of the ids (B, h * w) of one scale."""
        side = self.sides[scale]
        codes = self.codebook.lookup(ids)  # (B, h * w, C)
        return codes.transpose(1, 2).reshape(len(ids), self.channels, side, side)

    def accumulate(self, f_hat: Tensor, ids: Tensor, scale: int) -> Tensor:
        """`f_hat` with the ids (B, h * w) of `scale` (counted from 0) added; the argument is left as it is."""
        return f_hat + self.contribution(self.lookup(ids, scale), scale)

    def next_input(self, f_hat: Tensor, scale: int) -> Tensor:
        """(B, C, h, w): `f_hat` after `scale`, shrunk to the size of scale + 1; after the last scale `f_hat` itself."""
        if scale == len(self.sides) - 1:
            return f_hat
        side = self.sides[scale + 1]
        return F.interpolate(f_hat, size=(side, side), mode="area")

    def teacher_forcing(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, tokens of scales 1 .. K-1, C): what a generator is fed for given ids of scales 0 .. K-2 (or all)."""
        f_hat = self.start(levels[0].shape[0])
        inputs = [f_hat.new_zeros(f_hat.shape[0], 0, self.channels)]
        for scale, ids in enumerate(levels[: len(self.sides) - 1]):
            f_hat = self.accumulate(f_hat, ids, scale)
            inputs.append(self.next_input(f_hat, scale).flatten(2).transpose(1, 2))
        return torch.cat(inputs, dim=1)

    def f_hat(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) from the ids of the first scales, one (B, h * w) each."""
        f_hat = self.start(levels[0].shape[0])
        for scale, ids in enumerate(levels):
            f_hat = self.accumulate(f_hat, ids, scale)
        return f_hat

    def encode(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """Ids of every scale (B, h * w) and `f_hat`, for features (B, C, H, W)."""
        rest, f_hat = features, torch.zeros_like(features)
        levels = []
        for scale, side in enumerate(self.sides):
            last = scale == len(self.sides) - 1
            small = rest if last else F.interpolate(rest, size=(side, side), mode="area")
            ids = self.codebook.nearest(small.flatten(2).transpose(1, 2))
            added = self.contribution(self.lookup(ids, scale), scale)
            rest, f_hat = rest - added, f_hat + added
            levels.append(ids)
        return levels, f_hat
