"""One-D-Piece (arXiv:2501.10064): TiTok whose first tokens alone, however many, decode to the whole image."""

from __future__ import annotations

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import Codes

from ...layers.sequence_tokenizer import SequenceTokenizer


class OneDPiece(SequenceTokenizer):
    """`Tokenizer` and `Prefix`. The sequence of a prefix is really shorter: nothing is padded or masked."""

    @torch.inference_mode()
    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        most = self.network.config.num_latent_tokens
        if not 1 <= count <= most:
            raise InputError(f"{self.card.name} has no first {count} tokens", f"it has 1 to {most}", "pass fewer")
        return self._images(codes, count)


replay = OneDPiece.replay
