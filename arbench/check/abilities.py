"""What a generator can do beyond sampling, check by check."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import Unsupported
from ..protocols import Codes, Edits, Scores
from .calls import BATCHES, IDS, GeneratorCalls
from .knobs import plain
from .returned import EXACT, SAME, check_codes, difference, on_grid, pick, pick_codes, tensors_of
from .verdict import Broken, NotApplicable


def scores(calls: GeneratorCalls) -> str:
    tokens, codes = calls.card.tokens, calls.generated.codes
    if not isinstance(calls.model, Scores) or tokens is None or codes is None:
        raise _lacking(calls, "scores", "logits")
    try:
        request = calls.request(IDS)
        with calls.watch("logits", request=request, codes=codes):
            logits = calls.model.logits(request, codes)
    except Unsupported as error:
        raise NotApplicable(error.what) from None
    expected = (len(IDS), tokens.tokens, tokens.vocabulary)
    if tuple(logits.shape) != expected:
        raise Broken(f"`logits` are {tuple(logits.shape)}, not {expected}")
    if not bool(logits.isfinite().all()):
        raise Broken("`logits` hold NaN or infinity")
    return f"finite, {expected[1:]}{_unoffered(calls, 'scores')}"


def edit(calls: GeneratorCalls) -> str:
    tokens, codes = calls.card.tokens, calls.generated.codes
    if not isinstance(calls.model, Edits) or tokens is None or codes is None:
        raise _lacking(calls, "edits", "edit")
    if len(tokens.levels[-1]) != 2:
        raise Broken(f"it has `edit`, and its finest tokens {tokens.levels[-1]} are not a grid")
    everything = torch.ones(tokens.levels[-1], dtype=torch.bool, device=calls.device)
    half = everything.clone()
    half[:, 1::2] = False
    edited = _edited(calls, IDS, codes, half, seed=1)
    note = check_codes(tokens, edited, len(IDS))
    apart = difference(on_grid(edited, tokens, ~half), on_grid(codes, tokens, ~half))
    if apart > EXACT:
        raise Broken(f"tokens outside the mask do not come back as given ({apart:.2g} apart)")
    if difference(on_grid(edited, tokens, half), on_grid(codes, tokens, half)) <= SAME:
        raise Broken("tokens in the mask are the given ones with another seed: none is drawn")
    for ids in BATCHES:
        again = _edited(calls, ids, pick_codes(codes, ids), half, seed=1)
        if difference(tensors_of(again), pick(tensors_of(edited), ids)) > SAME:
            raise Broken(f"edits {ids} in a batch of {len(ids)} are not those in a batch of {len(IDS)}")
    other = _edited(calls, IDS, edited, everything)
    if difference(tensors_of(other), tensors_of(codes)) > SAME:
        raise Broken("with a mask of everything it does not draw what `sample` draws")
    return f"{note}; those outside the mask as given; a mask of everything is `sample`{_unoffered(calls, 'edits')}"


def _edited(calls: GeneratorCalls, ids: Sequence[int], codes: Codes, mask: Tensor, seed: int = 0) -> Codes:
    assert isinstance(calls.model, Edits)
    calls.ready(len(ids), plain(calls.card))
    request, sampling = calls.request(ids, seed), plain(calls.card)
    try:
        with calls.watch("edit", request=request, codes=codes, mask=mask, sampling=sampling):
            generated = calls.model.edit(request, codes, mask, sampling)
    except Unsupported as error:  # of this size or configuration
        if "edits" in calls.card.offers:
            raise
        raise NotApplicable(error.what) from None
    if generated.codes is None:
        raise Broken("`edit` returns no codes")
    return generated.codes


def _lacking(calls: GeneratorCalls, ability: str, method: str) -> Exception:
    if ability in calls.card.offers:
        return Broken(f"the card offers `{ability}`, and there is no `{method}` of codes")
    return NotApplicable(f"it has no `{method}`")


def _unoffered(calls: GeneratorCalls, ability: str) -> str:
    return "" if ability in calls.card.offers else f"; no suite uses it, for `offers` of the card lacks {ability!r}"
