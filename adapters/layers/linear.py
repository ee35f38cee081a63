"""A linear layer that gives a row of numbers the same result in any batch, as far as the processor's library allows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

FEWEST_ROWS = 16
"""Below this many rows MKL takes other kernels, which sum in another order (seen for every width, on one and on two
threads); a sample drawn alone would now and then differ from the same one drawn in a batch."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`; on the CPU a few rows are computed as `FEWEST_ROWS`, the others zero."""
    rows = x.numel() // x.shape[-1]
    if x.device.type != "cpu" or rows >= FEWEST_ROWS:
        return F.linear(x, weight, bias)
    padded = F.pad(x.reshape(rows, x.shape[-1]), (0, 0, 0, FEWEST_ROWS - rows))
    return F.linear(padded, weight, bias)[:rows].reshape(*x.shape[:-1], weight.shape[0])


def filled_up(x: Tensor, rows: int | None = None) -> Tensor:
    """`x` (B, n, W) with zero sequences behind it: `rows` in all, or on the CPU as many as `FEWEST_ROWS` tokens are.

    What goes through several layers is filled up once, not by each of them; `linear` leaves the result as it is. Where
    whole sequences would be more than these tokens, they are left to each layer.
    """
    if rows is None:
        few = x.device.type == "cpu" and FEWEST_ROWS % x.shape[1] == 0
        rows = FEWEST_ROWS // x.shape[1] if few else len(x)
    return F.pad(x, (0, 0, 0, 0, 0, rows - len(x))) if rows > len(x) else x


class Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
