"""The diffusion head: an MLP that draws a continuous token by denoising, given a state of the transformer.

From Li et al., "Autoregressive image generation without vector quantization" (NeurIPS 2024, arXiv:2406.11838): noise
prediction with learned variance (Nichol and Dhariwal, ICML 2021), sampled on a subset of 1000 cosine steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import UsageError
from arbench.protocols import Noise

from .checkpoint import replace_patterns
from .linear import Linear
from .sampling import mix_guidance

TRAINED_STEPS = 1000
FREQUENCIES = 128
MOST_AT_ONCE = 2**14
"""Normal numbers of one sample that are drawn in one call, so that noise costs few kernels and little memory."""

# ---- the network -----------------------------------------------------------------------------------------------------


def time_features(timesteps: Tensor) -> Tensor:
    """(N, 256) float32: cosines, then sines, of timesteps (N,) at 128 rates from 1 down to about 1e-4."""
    rates = torch.exp(torch.arange(FREQUENCIES, device=timesteps.device) * (-math.log(10000.0) / FREQUENCIES))
    angles = timesteps.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


class HeadBlock(nn.Module):
    """A gated residual MLP whose norm is shifted and scaled by the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp_in = Linear(width, width)
        self.mlp_out = Linear(width, width)
        self.modulation = Linear(width, 3 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(..., W) from `x` (..., W) and the silu of the condition (..., W)."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        h = F.silu(self.mlp_in(modulated(self.norm(x), shift, scale)))
        out: Tensor = x + gate * self.mlp_out(h)
        return out


class DiffusionHead(nn.Module):
    """Predicts noise and variance of tokens of `channels` numbers, given states of `states` numbers."""

    def __init__(self, channels: int, states: int, width: int, depth: int) -> None:
        super().__init__()
        self.channels = channels
        self.time_in = Linear(2 * FREQUENCIES, width)
        self.time_out = Linear(width, width)
        self.state_in = Linear(states, width)
        self.token_in = Linear(channels, width)
        self.blocks = nn.ModuleList(HeadBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = Linear(width, 2 * width)
        self.out = Linear(width, 2 * channels)
        self._times: dict[tuple[float, ...], Tensor] = {}

    def times(self, steps: Sequence[Step]) -> Tensor:
        """(T,) the timesteps of a process, on the device of the weights.

        Copied there once: the host does not wait in a call, and a recorded call copies nothing from the host.
        """
        asked, device = tuple(step.time for step in steps), self.time_in.weight.device
        kept = self._times.get(asked)
        if kept is None or kept.device != device:
            kept = self._times[asked] = torch.tensor(asked).to(device)
        return kept

    def time(self, timesteps: Tensor) -> Tensor:
        """(N, W) embedding of timesteps (N,) of the 1000 it was trained on."""
        embedded: Tensor = self.time_out(F.silu(self.time_in(time_features(timesteps).to(self.time_in.weight.dtype))))
        return embedded

    def denoise(self, noisy: Tensor, condition: Tensor) -> Tensor:
        """(..., 2C) from tokens (..., C) and `condition` (..., W): embedded time plus embedded state."""
        condition = F.silu(condition)
        x = self.token_in(noisy.to(self.token_in.weight.dtype))
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        out: Tensor = self.out(modulated(self.norm(x), shift, scale))
        return out

    def reverse(
        self, step: Step, x: Tensor, condition: Tensor, noise: Tensor | None, weight: float | None, clip: float
    ) -> Tensor:
        """(B, n, C) tokens one step earlier, from `x`: the whole of a step, which can be compiled as one.

        `condition` (B, n, W), or with a guidance `weight` (2B, n, W), as `denoise` takes it; else see `previous`.
        """
        prediction = self.denoise(x if weight is None else torch.cat((x, x)), condition).float()
        if weight is not None:
            eps, variance = prediction.chunk(2, dim=-1)
            prediction = torch.cat((mix_guidance(eps, weight), variance.chunk(2)[0]), dim=-1)
        return previous(step, x, prediction, noise, clip=clip)

    def forward(self, noisy: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
        """(N, 2C), noise then variance in [-1, 1], of tokens (N, C) at timesteps (N,), given states (N, Z)."""
        return self.denoise(noisy, self.time(timesteps) + self.state_in(states))


_TO_OFFICIAL = (
    (r"^time_in\.", "time_embed.mlp.0."),
    (r"^time_out\.", "time_embed.mlp.2."),
    (r"^state_in\.", "cond_embed."),
    (r"^token_in\.", "input_proj."),
    (r"^modulation\.", "final_layer.adaLN_modulation.1."),
    (r"^out\.", "final_layer.linear."),
    (r"^blocks\.(\d+)\.norm\.", r"res_blocks.\1.in_ln."),
    (r"^blocks\.(\d+)\.mlp_in\.", r"res_blocks.\1.mlp.0."),
    (r"^blocks\.(\d+)\.mlp_out\.", r"res_blocks.\1.mlp.2."),
    (r"^blocks\.(\d+)\.modulation\.", r"res_blocks.\1.adaLN_modulation.1."),
)


def official_head_name(ours: str) -> str:
    """The name in the official `SimpleMLPAdaLN` of one of the parameters of `DiffusionHead`."""
    return replace_patterns(ours, _TO_OFFICIAL)


# ---- the diffusion process -------------------------------------------------------------------------------------------


def cosine_alphas(steps: int = TRAINED_STEPS) -> list[float]:
    """How much of the signal's power is left after each step: Nichol and Dhariwal's cosine, betas at most 0.999."""

    def signal(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    kept = (max(1 - 0.999, signal((i + 1) / steps) / signal(i / steps)) for i in range(steps))
    return list(accumulate(kept, lambda product, alpha: product * alpha))


def spaced(count: int, total: int = TRAINED_STEPS) -> tuple[int, ...]:
    """`count` of `total` timesteps, evenly spread, with the first and the last."""
    if not 2 <= count <= total:
        raise UsageError(
            f"a diffusion head cannot take {count} steps", f"it was trained on {total}", f"ask for 2 to {total} steps"
        )
    # the sum is taken step by step as officially: its rounding decides between neighbours
    places = accumulate([(total - 1) / (count - 1)] * (count - 1), initial=0.0)
    return tuple(round(place) for place in places)


class Step(NamedTuple):
    """One step of the reverse process from timestep `time`, as coefficients.

    clean = `clean_noisy` x - `clean_noise` eps;  mean = `mean_clean` clean + `mean_noisy` x;  the log variance lies
    between `least` (variance -1) and `most` (variance 1). Noise is added unless it is the last step.
    """

    time: float
    clean_noisy: float
    clean_noise: float
    mean_clean: float
    mean_noisy: float
    least: float
    most: float
    last: bool


def reverse_steps(timesteps: Sequence[int]) -> tuple[Step, ...]:
    """The reverse process on the given timesteps (ascending, at least two), in the order it runs: from the last down.

    Betas are those between neighbours of the list (Nichol and Dhariwal, section 4). The posterior's variance is zero
    at the first timestep, where that of the second takes its place.
    """
    alphas = cosine_alphas()
    kept = [alphas[time] for time in timesteps]
    before = [1.0, *kept[:-1]]
    betas = [1 - now / earlier for now, earlier in zip(kept, before, strict=True)]
    variances = [beta * (1 - e) / (1 - a) for beta, a, e in zip(betas, kept, before, strict=True)]
    steps = [
        Step(
            time=time,
            clean_noisy=math.sqrt(1 / alpha),
            clean_noise=math.sqrt(1 / alpha - 1),
            mean_clean=beta * math.sqrt(earlier) / (1 - alpha),
            mean_noisy=(1 - earlier) * math.sqrt(1 - beta) / (1 - alpha),
            least=math.log(variances[max(index, 1)]),
            most=math.log(beta),
            last=index == 0,
        )
        for index, (time, alpha, earlier, beta) in enumerate(zip(timesteps, kept, before, betas, strict=True))
    ]
    return tuple(reversed(steps))


def previous(step: Step, x: Tensor, prediction: Tensor, noise: Tensor | None, *, clip: float = 0.0) -> Tensor:
    """(..., C): tokens one step earlier, from `prediction` (..., 2C) for tokens `x` (..., C), both float32.

    `noise` (..., C) is already multiplied by the temperature; the last step takes none. The estimate of the clean
    token is kept within `clip` of zero, unless that is 0.
    """
    eps, variance = prediction.chunk(2, dim=-1)
    clean = step.clean_noisy * x - step.clean_noise * eps
    if clip:
        clean = clean.clamp(-float(clip), float(clip))
    mean = step.mean_clean * clean + step.mean_noisy * x
    if noise is None or step.last:
        return mean
    share = (variance + 1) / 2
    return mean + torch.exp(0.5 * (share * step.most + (1 - share) * step.least)) * noise


def step_noise(noise: Noise, stream: str, steps: int, shape: Sequence[int]) -> Iterator[Tensor]:
    """(B, *shape) normal numbers for each of `steps` steps, drawn for several steps at a time."""
    at_once = max(1, MOST_AT_ONCE // max(1, math.prod(shape)))
    for first in range(0, steps, at_once):
        yield from noise.normal(f"{stream}/{first}", (min(at_once, steps - first), *shape)).unbind(1)


def embedded_times(head: DiffusionHead, steps: Sequence[Step]) -> Tensor:
    """(T, W): the head's embedding of the time of each step; the same for all tokens, so made once a call."""
    return head.time(head.times(steps))


def sample_tokens(
    head: DiffusionHead,
    steps: Sequence[Step],
    states: Tensor,
    noise: Noise,
    stream: str,
    *,
    times: Tensor | None = None,
    weight: float | None = None,
    temperature: float = 1.0,
    clip: float = 0.0,
) -> Tensor:
    """Tokens (B, n, C), float32, by ancestral sampling, given embedded states (B, n, W), `head.state_in` of them.

    `times` are the `embedded_times` of the steps, for callers that draw more than once.
    With a guidance `weight` the states are a doubled batch (2B, n, W), the conditional half first; eps is mixed, and
    the variance is the conditional one's. Temperature multiplies the noise that steps add, not what they start from.
    """
    shape = (states.shape[1], head.channels)
    if times is None:
        times = embedded_times(head, steps)
    x = noise.normal(f"{stream}/start", shape)
    added = step_noise(noise, stream, len(steps) - 1, shape)
    for step, time in zip(steps, times, strict=True):
        x = head.reverse(step, x, states + time, None if step.last else temperature * next(added), weight, clip)
    return x
