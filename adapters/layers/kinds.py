"""What a state dict belongs to, told by its keys, so that an error about a wrong file can say which one it is."""

from __future__ import annotations

import re
from collections.abc import Collection

_COMPVIS = r"encoder\.down\.0\.block\.0\.norm1\.weight"
_OWN = r"encoder\.levels\.0\.blocks\.0\.norm1\.weight"

# (what it is, patterns that must all be among the keys); the first match wins, official names before our own
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LlamaGen tokenizer", (r"encoder\.conv_blocks\.0\.res\.0\.norm1\.weight", r"quantize\.embedding\.weight")),
    ("a VAR tokenizer", (_COMPVIS, r"quantize\.quant_resi\..*")),
    ("a RandAR generator", (r"pos_instruct_embeddings", r"tok_embeddings\.weight")),
    ("a LlamaGen text-to-image generator", (r"tok_embeddings\.weight", r"cls_embedding\.cap_proj\.fc1\.weight")),
    ("a LlamaGen generator", (r"tok_embeddings\.weight", r"layers\.0\.attention\.wqkv\.weight")),
    ("a VAR generator", (r"pos_start", r"blocks\.0\.attn\.mat_qkv\.weight")),
    ("a HART tokenizer", (r"vae\.encoder\.down\.0\.block\.0\.norm1\.weight", r"vae\.quantize\..*")),
    ("a HART generator", (r"context_embed\.weight", r"diffloss\.net\..*")),
    ("a MAR generator", (r"encoder_blocks\.0\..*", r"diffloss\.net\..*")),
    ("a RAR generator", (r"target_aware_pos_embed", r"timesteps_embeddings")),
    ("a MaskGIT VQGAN tokenizer", (r"decoder\.up\.1\.upsample_conv\.weight", r"quantize\.embedding\.weight")),
    ("a convolutional VQ autoencoder", (_COMPVIS, r"quantize\.embedding\.weight")),
    ("a KL autoencoder tokenizer", (_COMPVIS, r"post_quant_conv\.weight")),
    ("a MaskGIT VQGAN tokenizer", (_OWN, r"decoder\.levels\.1\.enlarge\.weight")),
    ("a VAR tokenizer or a HART tokenizer", (_OWN, r"quantize\.codebook\.embedding\.weight")),
    ("a LlamaGen tokenizer", (_OWN, r"quantize\.embedding\.weight")),
    ("a KL autoencoder tokenizer", (_OWN, r"post_quant_conv\.weight")),
    ("a RandAR generator", (r"instruction", r"token_table\.weight")),
    ("a LlamaGen text-to-image generator", (r"null_caption", r"token_table\.weight")),
    ("a LlamaGen generator", (r"token_table\.weight", r"blocks\.0\.qkv\.weight")),
    ("a VAR generator", (r"first_position", r"features_in\.weight")),
    ("a HART generator", (r"caption_in\.weight", r"residual_head\..*")),
    ("a MAR generator", (r"no_class", r"head\.state_in\.weight")),
    ("a RAR generator", (r"targets", r"steps", r"table\.weight")),
    ("an Inception network", (r"Mixed_5b\..*",)),
    ("a training state of arbench", (r"arbench_training",)),
)


def recognise(keys: Collection[str]) -> str | None:
    """What a state dict seems to belong to, judged by its keys; None if it is nothing we know."""
    for kind, patterns in _KINDS:
        if all(any(re.fullmatch(pattern, key) for key in keys) for pattern in patterns):
            return kind
    return None


def looks_like(found: Collection[str], wanted: Collection[str]) -> str:
    """ "it looks like A, not B; " from the keys of a file and those that were looked for; "" if nothing is known."""
    kind, other = recognise(found), recognise(wanted)
    if kind is None:
        return ""
    return f"it looks like {kind}{f', not {other}' if other and other not in kind.split(' or ') else ''}; "
