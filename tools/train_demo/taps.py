"""Reading and editing what the four watched blocks write, and pairs of captions and noises to measure on.

No command; scores.py and score_features.py use it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checker
import numpy as np
import torch
import world
from diffusers import AutoencoderKL
from torch import nn

import model as m

Edit = Callable[[torch.Tensor], torch.Tensor]            # delta [B,D,8,8] -> what is added to it


class Taps:
    """delta: block -> its last output minus input; edits: block -> what to add."""

    def __init__(self, unet: nn.Module) -> None:
        self.delta: dict[str, torch.Tensor] = {}
        self.edits: dict[str, Edit] = {}
        for block, path in m.BLOCKS.items():
            unet.get_submodule(path).register_forward_hook(self._tap(block))

    def _tap(self, block: str) -> Any:
        def tap(_: nn.Module, args: Any, out: Any) -> Any:
            y = out[0] if isinstance(out, tuple) else out.sample
            self.delta[block] = y - args[0]
            if block not in self.edits:
                return None
            y = y + self.edits[block](self.delta[block])
            return (y,) if isinstance(out, tuple) else type(out)(sample=y)
        return tap


def erase(delta: torch.Tensor) -> torch.Tensor:
    return -delta


class Case:
    """One caption with one noise, and what the picture must show."""

    def __init__(self, text: str, noise: np.ndarray) -> None:
        said, settled = world.read_caption(text)
        self.text, self.noise = text, noise
        self.scene, self.at = world.decide(noise, said, settled)
        self.said = world.said(self.scene, settled)


def cases(captions: list[str], seed: int) -> list[Case]:
    gen = torch.Generator().manual_seed(seed)
    return [Case(c, torch.randn(4, world.LAT, world.LAT, generator=gen).numpy()) for c in captions]


def silent_about(factor: str, count: int, rng: random.Random) -> list[str]:
    """captions that name other factors and not this one"""
    out: list[str] = []
    while len(out) < count:
        scene = world.random_scene(rng)
        scene[factor] = world.UNSAID.get(factor, scene[factor])
        text, named = world.caption(scene, rng)
        if text and (factor not in named or factor in world.UNSAID):
            out.append(text)
    return out


class Machine:
    """Model, VAE and checker together: cases in, readings out."""

    def __init__(self, folder: Path) -> None:
        self.net = m.Model(folder, fresh=False).eval().requires_grad_(False)
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval().requires_grad_(False)
        self.eye = checker.load(folder / "checker")
        self.taps = Taps(self.net.unet)
        self.forced = False                               # read values off pictures that count as unreadable, too
        self.empty = self.net.text([""])

    def latents(self, some: list[Case], steps: int = 1, pooled_empty: bool = False,
                context_empty: bool = False) -> torch.Tensor:
        context, pooled = self.net.text([c.text for c in some])
        if pooled_empty:
            pooled = self.empty[1].expand_as(pooled)
        if context_empty:
            context = self.empty[0].expand_as(context)
        x = torch.from_numpy(np.stack([c.noise for c in some]))
        times = [m.LAST - 1000 * k // steps for k in range(1, steps)]
        return self.net.several(x, context, pooled, times, torch.Generator().manual_seed(1))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample.clamp(-1, 1)

    @torch.no_grad()
    def show(self, some: list[Case], batch: int = 25, **how: Any) -> torch.Tensor:
        return torch.cat([self.decode(self.latents(some[i:i + batch], **how)) for i in range(0, len(some), batch)])

    @torch.no_grad()
    def read(self, some: list[Case], batch: int = 25, **how: Any) -> tuple[list[world.Scene | None], np.ndarray]:
        scenes, centres = [], []
        for i in range(0, len(some), batch):
            s, c = checker.read(self.eye, self.show(some[i:i + batch], batch, **how), self.forced)
            scenes += s
            centres.append(c)
        return scenes, np.concatenate(centres)
