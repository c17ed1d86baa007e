"""What the training scripts share: atomic checkpoints, threads, an averaged copy, and the noise schedule."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

os.environ.setdefault("OMP_WAIT_POLICY", "passive")       # two spinning OpenMP programs slow each other tenfold


def threads(n: int) -> None:
    torch.set_num_threads(n)


def save_atomic(state: dict[str, Any], path: Path) -> None:
    """A checkpoint is whole or absent: written beside its name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


class Stop:
    """SIGINT and SIGTERM ask the loop to end after a last checkpoint."""

    def __init__(self) -> None:
        self.asked = False
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


class Average:
    """Exponential moving average of a module's parameters; the copy is what is landed."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        d = min(self.decay, step / (step + 20))
        mine, theirs = list(self.module.parameters()), list(module.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - d)


def pictures_to_tensor(images: list[np.ndarray]) -> torch.Tensor:
    """[H,W,3] in [0,1] -> [B,3,H,W] in [-1,1], channels last"""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) * 2 - 1


def signal_rates() -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(alpha bar), sqrt(1 - alpha bar) of SDXL's scaled-linear schedule, by timestep"""
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
    bar = torch.cumprod(1 - betas, 0)
    return bar.sqrt().float(), (1 - bar).sqrt().float()
