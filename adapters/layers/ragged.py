"""Codes of images that have different numbers of tokens: rows side by side, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import Card, Codes


def side_by_side(rows: Sequence[NDArray[Any]], device: torch.device) -> Codes:
    """One level of ids (B, longest) with the length of each row; shorter rows end in zeros."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = torch.from_numpy(row.astype(np.int64))
    return Codes(ids=(ids.to(device),), lengths=lengths.to(device))


def rows_of(codes: Codes, card: Card) -> list[NDArray[np.int64]]:
    """The tokens of each image, without what fills up its row. Raises InputError for codes without lengths."""
    if codes.lengths is None or len(codes.ids) != 1:
        raise InputError(
            f"{card.name} decodes rows of different lengths",
            "the codes have no `lengths`" if codes.lengths is None else f"they have {len(codes.ids)} levels",
            "pass what its encoder gives",
        )
    ids: Tensor = codes.ids[0].cpu()
    return [row[:length].numpy() for row, length in zip(ids, codes.lengths.tolist(), strict=True)]
