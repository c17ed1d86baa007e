"""What teaches a watched block to write a code for each of its factors' values, which causes what it says.  No command.

Codes: every value of a block's factors has a direction (the mean of the block's delta over the cells that show it,
less the mean over all values).  Samples are *painted* (a value that neither words nor noise tell is added to the
delta, and the picture must show it), *erased* (the value that the words tell is taken out of it, and the picture
must show what the noise tells) or *nudged* (a random direction is added, and the picture must stay).  A cosine
loss makes the value's direction a large part of what the block writes there, and a second one keeps the block, in the
space of a factor's codes, at the value's own code: so that one feature can hold it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import world
from torch import nn

import model as m

NAMES = list(world.FACTORS)
NONE, PAINT, ERASE, NUDGE = range(4)
SHARES = (0.34, 0.26, 0.27, 0.13)                         # of the samples at the first step
OFTEN = (2.5, 2, 1.2, 1, 1, 0.8, 1.2)                     # how often a factor is chosen, in the order of world.FACTORS
STRONG = (1.2, 5.0)                                       # painted, in lengths of the code
NUDGED = (1.2, 8.0)                                       # random directions, in the same lengths
STRAY = (0.2, 1.6)                                        # random part of a direction, in its own length: the decoder rows
ERASED = (0.2, 1.0)                                       # of features had cosines of .43 to .94 with the codes, and of a
                                                          # code that is taken out a feature held .22 to .84
SHARP = 8.0                                               # of the cosines
SPREAD = 1.0                                              # weight of the distances beside the cosines
KEEP = 0.98                                               # decay of the running means


@dataclass
class Plan:
    """What is done to one sample: value `value` of factor `factor`, in the block that has it."""

    mode: int = NONE
    factor: int = 0
    value: int = 0


def draw(rng: random.Random) -> tuple[int, str]:
    """what is done to a sample, and to which factor"""
    return rng.choices(range(4), SHARES)[0], rng.choices(NAMES, OFTEN)[0]


class Codes(nn.Module):
    """Running mean deltas of every value, the pushes made from them, and the cosine loss."""

    def __init__(self, unet: nn.Module, kinds: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.kinds = kinds
        self.owner = {f: b for b, own in kinds.items() for f in own}
        width = m.CHANNELS[2]
        values = sum(map(len, world.FACTORS.values()))
        self.first = dict(zip(NAMES, np.cumsum([0, *map(len, world.FACTORS.values())]).tolist()))
        self.register_buffer("total", torch.zeros(values, width))
        self.register_buffer("weight", torch.zeros(values))
        self.directions = nn.Parameter(torch.randn(values, width) * width ** -0.5)
        self.centres = nn.ParameterDict({b.replace(".", "_"): nn.Parameter(torch.zeros(width)) for b in kinds})
        self.delta: dict[str, torch.Tensor] = {}
        self.plans: list[Plan] = []
        self.gen = torch.Generator().manual_seed(0)
        for block in kinds:
            unet.get_submodule(m.BLOCKS[block] + ".proj_out").register_forward_hook(self._tap(block))

    def _tap(self, block: str) -> Any:
        def tap(_: nn.Module, __: Any, out: torch.Tensor) -> torch.Tensor | None:
            self.delta[block] = out
            push = self._push(block, out.detach().float()) if self.plans else None
            return None if push is None else out + push.to(out.dtype)
        return tap

    def span(self, factor: str) -> slice:
        return slice(self.first[factor], self.first[factor] + len(world.FACTORS[factor]))

    def code(self, factor: str, value: int) -> torch.Tensor:
        means = self.total[self.span(factor)] / self.weight[self.span(factor)].clamp(min=1e-3)[:, None]
        return means[value] - means.mean(0)

    def _push(self, block: str, delta: torch.Tensor) -> torch.Tensor | None:
        """delta [B,64,D] -> what is added to it"""
        push, some = torch.zeros_like(delta), False
        for i, plan in enumerate(self.plans):
            factor = NAMES[plan.factor]
            if plan.mode == NONE or self.owner[factor] != block or self.weight[self.span(factor)].min() < 20:
                continue
            code, some = self.code(factor, plan.value), True
            stray = torch.randn(code.shape, generator=self.gen)
            stray *= code.norm() / stray.norm()
            if plan.mode == ERASE:
                along = F.normalize(code, dim=0)
                base = self.total[self.span(factor)].sum(0) / self.weight[self.span(factor)].sum()
                out = along + self._between(STRAY) * F.normalize(stray, dim=0)
                push[i] = -self._between(ERASED) * ((delta[i] - base) @ along).clamp(min=0)[:, None] * out
                continue
            if plan.mode == NUDGE:
                push[i] = self._between(NUDGED) * stray
            else:
                push[i] = self._between(STRONG) * (code + self._between(STRAY) * stray)
        return push if some else None

    def _between(self, ends: tuple[float, float]) -> float:
        return ends[0] + (ends[1] - ends[0]) * float(torch.rand((), generator=self.gen))

    def _spread(self, factor: str, delta: torch.Tensor, want: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """mean squared distance to the own code within the space of the factor's codes, as a share of the delta's own
        mean square: a measure in the codes' length would be met by shrinking"""
        means = self.total[self.span(factor)] / self.weight[self.span(factor)].clamp(min=1e-3)[:, None]
        centre = means.mean(0)
        basis = torch.linalg.svd(means - centre, full_matrices=False).Vh[:len(means) - 1]     # [V-1,D]
        off = (delta - means[want][:, None]) @ basis.T                                       # [B,64,V-1]
        whole = (delta - centre).square().sum(-1)
        return (off.square().sum(-1) * weight).sum() / (whole * weight).sum().clamp(min=1e-6)

    @torch.no_grad()
    def _learn(self, factor: str, delta: torch.Tensor, want: torch.Tensor, weight: torch.Tensor) -> None:
        """delta [B,64,D], want [B], weight [B,64]"""
        span, n = self.span(factor), len(world.FACTORS[factor])
        hot = F.one_hot(want, n).float()
        self.total[span].mul_(KEEP).add_(hot.T @ (delta * weight[..., None]).sum(1))
        self.weight[span].mul_(KEEP).add_(hot.T @ weight.sum(1))

    def loss(self, mask: torch.Tensor, labels: torch.Tensor, clean: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """mask [B,1,8,8], labels [B,7], clean [B]: samples to which nothing was done -> loss, mean cosine to the own
        value (c.) and distance to its code (s.)"""
        total, right = torch.zeros(()), {}
        if not clean.any():
            return total, right
        mask, labels = mask[clean].flatten(1), labels[clean]
        for block, own in self.kinds.items():
            delta = self.delta[block][clean].float()
            for factor in own:
                weight = 1 - mask if factor == "background" else torch.ones_like(mask) if factor == "light" else mask
                want = labels[:, NAMES.index(factor)]
                self._learn(factor, delta.detach(), want, weight)
                cos = F.normalize(delta - self.centres[block.replace(".", "_")], dim=-1) @ \
                    F.normalize(self.directions[self.span(factor)], dim=-1).T          # [B,64,V]
                each = F.cross_entropy(SHARP * cos.flatten(0, 1), want.repeat_interleave(64), reduction="none")
                total = total + (each * weight.flatten()).sum() / weight.sum().clamp(min=1)
                if self.weight[self.span(factor)].min() > 20:
                    spread = self._spread(factor, delta, want, weight)
                    total, right[f"s.{factor}"] = total + SPREAD * spread, float(spread.detach())
                hot = cos.detach().gather(2, want[:, None, None].expand(-1, 64, 1))[..., 0]
                right[f"c.{factor}"] = float((hot * weight).sum() / weight.sum().clamp(min=1))
        return total, right
