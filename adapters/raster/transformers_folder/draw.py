"""What the library's loop calls with the scores of each step: it draws the tokens with our noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor

from arbench.protocols import Noise, Sampling

from ...layers.sampling import draw_tokens, guided_steps, mix_guidance


class Draw:
    """Called with the scores of a step, (2N, V) guided or (N, V), those without the prompt last.

    It draws the tokens of the samples `rows`, and returns scores of which the library takes the highest, the one drawn:
    (N, V), or as many rows as came in if `both`. `plan` has an entry for each step: the token that stands there, or
    None where one is drawn, `among` these ids (K,) if given. `steps` is entered and left with each step.
    """

    def __init__(
        self,
        noise: Noise,
        rows: Sequence[int],
        sampling: Sampling,
        plan: Sequence[int | None],
        steps: Iterator[AbstractContextManager[None]],
        *,
        among: Tensor | None = None,
        both: bool = False,
    ) -> None:
        self.noise, self.rows, self.sampling, self.plan = noise, list(rows), sampling, plan
        self.among, self.both = among, both
        self.guided = guided_steps(sampling.guidance, sum(each is None for each in plan))
        self.step = self.drawn = 0
        self.steps, self.running = steps, ExitStack()
        self.running.enter_context(next(steps))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        given, count = self.plan[self.step], len(self.rows)
        if given is None:
            chosen = self._draw(scores.float())  # (N, 1)
            self.drawn += 1
        else:
            chosen = torch.full((count, 1), given, device=scores.device)
        self.step += 1
        self.running.close()
        self.running.enter_context(next(self.steps, nullcontext()))
        if self.both:
            chosen = chosen.repeat(len(scores) // count, 1)
        return scores.new_full((len(chosen), scores.shape[-1]), -torch.inf).scatter(1, chosen, 0.0)

    def _draw(self, scores: Tensor) -> Tensor:
        if self.among is not None:
            scores = scores[:, self.among]
        if self.drawn < self.guided:
            scores = mix_guidance(scores, self.sampling.guidance.scale)
        scores = scores[: len(self.rows)].unsqueeze(1)
        # noise has a row for each sample of the batch, whatever is drawn in this call
        whole = scores.new_zeros(self.noise.batch, 1, scores.shape[-1])
        whole[self.rows] = scores
        chosen = draw_tokens(whole, self.sampling, self.noise, "tokens", start=self.drawn)[self.rows]
        return chosen if self.among is None else self.among[chosen]
