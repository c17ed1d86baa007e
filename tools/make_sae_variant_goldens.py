"""Writes what PyTorch makes of 20 training steps of every SAE variant, plain and with every option in use.

    python tools/make_sae_variant_goldens.py tests/golden

sae_variants.safetensors holds for every case (`relu`, `relu.options`, ...): rows and the starting weights, the gradients of the
first step before anything is done to them, loss [steps], the weights after the last step (the running averages where such are
kept), and the running threshold where there is one. The losses are written down as the papers have them and autograd does the
rest; only JumpReLU's threshold has a gradient of its own, the straight-through estimator. Sizes are small and unequal. Of many
seeds each case keeps the one whose selections are furthest from a tie, so that rounding changes none.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize, relu

D, F, BATCH, STEPS, SEEDS = 12, 40, 32, 20, 40
K, AUXK, GROUPS = 4, 6, 3
DEAD_STEPS, EPS, AUX_COEF, FIRED = 3, 6.25e-10, 1 / 32, 1e-3
LOSS_SCALE, LR = 1.7, 2e-3
SPARSITY = {"relu": 0.05, "gated": 0.05, "jumprelu": 0.02}
BANDWIDTH, INIT_THRESHOLD = 0.05, 0.04
VARIANTS = ("topk", "batchtopk", "jumprelu", "relu", "gated", "matryoshka")
K_START, K_WARMUP, LR_WARMUP, DECAY_STEPS, SPARSITY_WARMUP = 8, 10, 5, 9, 7
CLIP, EMA = {"gated": 1.2}, 0.9  # else 0.5

Tensors = dict[str, torch.Tensor]
Maker = Callable[[str, int], tuple[Tensors, float, int]]  # case, seed -> tensors, least gap to a tie, dead features


class Jump(torch.autograd.Function):
    """u where u > theta, and the count of those; the threshold's slope through a box of the width `width`."""

    @staticmethod
    def forward(ctx, u, theta, width):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(u, theta)
        ctx.width = width
        on = (u > theta).to(u.dtype)
        return u * on, on

    @staticmethod
    def backward(ctx, g_z, g_on):  # type: ignore[no-untyped-def]
        u, theta = ctx.saved_tensors
        box = ((u - theta).abs() < ctx.width / 2).to(u.dtype)
        g_theta = -(box / ctx.width * (theta * g_z + g_on)).sum(0)
        return g_z * (u > theta), g_theta, None


class Sae:
    """The weights of one case, its loss, and how near its selections came to a tie."""

    def __init__(self, case: str, start: Tensors) -> None:
        self.variant, _, self.options = case.partition(".")
        self.p = {
            key: value.clone().requires_grad_() for key, value in start.items()
        }
        self.silent = torch.zeros(F, dtype=torch.long)
        self.gap = math.inf
        self.threshold = 0.0
        self.dead = 0

    def near(self, values: torch.Tensor, what: float | torch.Tensor) -> None:
        self.gap = min(self.gap, (values - what).abs().min().item())

    def cut(self, values: torch.Tensor, k: int) -> torch.Tensor:
        """1 for the k largest along the last axis, and the gap noted."""
        top = values.detach().topk(k + 1, dim=-1)
        self.gap = min(
            self.gap, (top.values[..., k - 1] - top.values[..., k]).min().item()
        )
        return torch.zeros_like(values).scatter(-1, top.indices[..., :k], 1)

    def k(self, step: int) -> int:
        if self.options and step < K_WARMUP:
            return round(K_START + step / K_WARMUP * (K - K_START))
        return K

    def sparsity(self, step: int) -> float:
        full = SPARSITY[self.variant]
        if self.options and step < SPARSITY_WARMUP:
            return full * (step + 1) / SPARSITY_WARMUP
        return full

    def aux(self, pre: torch.Tensor, z: torch.Tensor, miss: torch.Tensor) -> torch.Tensor:
        """The aux term of what is missed, from the strongest dead features; counts the dead on the way."""
        self.silent[(z > FIRED).any(0)] = 0
        self.silent += 1
        dead = self.silent > DEAD_STEPS
        self.dead = int(dead.sum())
        if self.variant in SPARSITY and not self.options:
            return torch.zeros(())  # no aux term in their papers
        strongest = torch.where(dead, pre, torch.full((), -1e9)).topk(AUXK, dim=1)
        if dead.any():
            ordered = torch.where(dead, relu(pre), -torch.ones(()))
            ordered = ordered.detach().sort(dim=1, descending=True).values
            step = (ordered[:, AUXK - 1] - ordered[:, AUXK])[ordered[:, AUXK - 1] > 0]
            if len(step) > 0:
                self.gap = min(self.gap, step.min().item())
            self.near(strongest.values.detach()[strongest.values > -1e8], 0)
        code = torch.zeros_like(pre).scatter(1, strongest.indices, relu(strongest.values))
        return ((code @ self.p["w_dec"] - miss) ** 2).mean() / (
            (miss - miss.mean(0)) ** 2
        ).mean()

    def batch_codes(self, pre: torch.Tensor, step: int) -> torch.Tensor:
        flat = relu(pre).flatten()
        z = (flat * self.cut(flat, BATCH * self.k(step))).reshape(pre.shape)
        least = z[z > 0].min().item()
        self.threshold += max(0.01, 1 / (step + 1)) * (least - self.threshold)
        return z

    def loss(self, x: torch.Tensor, step: int) -> torch.Tensor:
        p = self.p
        unit = math.sqrt(D / LOSS_SCALE)
        pre = (x - p["b_dec"]) @ p["w_enc"].T + p["b_enc"]
        if self.variant == "topk":
            z = relu(pre * self.cut(pre, self.k(step)))
            self.near(pre.detach()[z > 0], 0)
        elif self.variant in ("batchtopk", "matryoshka"):
            z = self.batch_codes(pre, step)
        elif self.variant == "jumprelu":
            theta, width = unit * p["threshold_ln"].exp(), BANDWIDTH * unit
            z, on = Jump.apply(pre, theta, width)
            for edge in (theta, theta - width / 2, theta + width / 2):
                self.near(pre.detach(), edge.detach())
        elif self.variant == "relu":
            z = relu(pre)
            self.near(pre.detach(), 0)
        else:
            magnitude = (x - p["b_dec"]) @ p["w_enc"].T * p["r_mag"].exp() + p["b_mag"]
            z = relu(magnitude) * (pre > 0)
            self.near(pre.detach(), 0)
            self.near(magnitude.detach(), 0)
        out = z @ p["w_dec"] + p["b_dec"]
        loss = LOSS_SCALE * ((out - x) ** 2).mean()
        if self.variant == "matryoshka":
            ends = [F >> (GROUPS - 1 - g) for g in range(GROUPS)]
            loss = LOSS_SCALE * torch.stack(
                [
                    ((z[:, :end] @ p["w_dec"][:end] + p["b_dec"] - x) ** 2).mean()
                    for end in ends
                ]
            ).mean()
        elif self.variant == "jumprelu":
            loss = loss + self.sparsity(step) * on.sum(1).mean()
        elif self.variant == "relu":
            length = p["w_dec"].norm(dim=1)
            loss = loss + self.sparsity(step) / unit * (z * length).sum(1).mean()
        elif self.variant == "gated":
            length = p["w_dec"].norm(dim=1)
            loss = loss + self.sparsity(step) / unit * (relu(pre) * length).sum(1).mean()
            frozen = relu(pre) @ p["w_dec"].detach() + p["b_dec"].detach()
            loss = loss + LOSS_SCALE * ((frozen - x) ** 2).mean()
        return loss + AUX_COEF * self.aux(pre, z, (x - out).detach())


def rate(step: int) -> float:
    """Warm-up, then constant, then a cosine to 0."""
    lr, left = LR, STEPS - step
    if step < LR_WARMUP:
        lr *= (step + 1) / LR_WARMUP
    if left < DECAY_STEPS:
        lr *= 0.5 * (1 - math.cos(math.pi * left / DECAY_STEPS))
    return lr


def train(case: str, start: Tensors, rows: torch.Tensor) -> tuple[Tensors, float, int]:
    sae = Sae(case, start)
    decoder = sae.p["w_dec"]
    free = case in ("relu.options", "topk.options")
    adam = torch.optim.Adam(sae.p.values(), lr=LR, eps=EPS)
    out: Tensors = {}
    losses, clipped, mean = [], 0, {}
    for step in range(STEPS):
        loss = sae.loss(rows[step * BATCH : (step + 1) * BATCH], step)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            out |= {f"grad.{key}": p.grad.clone() for key, p in sae.p.items()}
        with torch.no_grad():
            if not free:
                decoder /= decoder.norm(dim=1, keepdim=True)
            if not sae.options:
                along = (decoder * decoder.grad).sum(1, keepdim=True)
                decoder.grad -= decoder * along
        if sae.options:
            adam.param_groups[0]["lr"] = rate(step)
            most = CLIP.get(sae.variant, 0.5)
            length = torch.nn.utils.clip_grad_norm_(sae.p.values(), most)
            clipped += bool(length > most)
        adam.step()
        adam.zero_grad()
        if sae.options:
            n = step + 1
            decay = 0.0 if step == 0 else min(EMA, (1 + n) / (10 + n))
            for key, p in sae.p.items():
                old = mean.get(key, p.detach())
                mean[key] = decay * old + (1 - decay) * p.detach()
    if sae.options and not 0 < clipped < STEPS:
        sae.gap = 0  # clipping must be at work in some steps, and idle in others
    out |= {key: p.detach().clone() for key, p in sae.p.items()}
    out |= {f"mean.{key}": value for key, value in mean.items()}
    out["loss"] = torch.tensor(losses, dtype=torch.float64)
    if sae.threshold > 0:
        out["threshold"] = torch.tensor([sae.threshold], dtype=torch.float64)
    return out, sae.gap, sae.dead


def make_rows() -> torch.Tensor:
    """Sparse sums of a dictionary, off centre, with noise."""
    dictionary = normalize(torch.randn(20, D), dim=1)
    n = BATCH * STEPS
    code = torch.rand(n, 20) * (torch.rand(n, 20) < 0.12) * 3
    return code @ dictionary + 0.05 * torch.randn(n, D) + 0.5 * torch.randn(D)


def make(case: str, seed: int) -> tuple[Tensors, float, int]:
    torch.manual_seed(seed)
    variant, _, options = case.partition(".")
    raw = make_rows()
    rows = raw
    if options:  # centred, then sqrt(D) long on average
        rows = raw.double() - raw.double().mean(0)
        rows = (rows * math.sqrt(D) / rows.norm(dim=1).mean()).float()
    w_enc = (torch.rand(F, D) * 2 - 1) / D**0.5
    start = {
        "w_enc": w_enc,
        "b_enc": 0.02 * torch.randn(F),
        "w_dec": normalize(w_enc, dim=1),
        "b_dec": rows.median(0).values,
    }
    start["b_enc"][::4] -= 3  # silent: the aux term reaches them
    if variant == "jumprelu":
        start["threshold_ln"] = torch.full((F,), math.log(INIT_THRESHOLD))
    if variant == "gated":
        start["b_mag"] = 0.05 * torch.randn(F)
        start["r_mag"] = 0.1 * torch.randn(F)
    out, gap, dead = train(case, start, rows)
    out |= {"rows": raw} | {f"start.{key}": value for key, value in start.items()}
    return out, gap, dead


def keep_the_clearest(about: str, cases: list[str], make: Maker, name: str) -> None:
    """The command: of SEEDS tries of every case the one furthest from a tie that reaches dead features, in one file."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors: Tensors = {}
    seeds: dict[str, int] = {}
    for case in cases:
        tries = [(*make(case, seed), seed) for seed in range(SEEDS)]
        best, gap, dead, seed = max(tries, key=lambda t: t[1] if t[2] > 0 else 0)
        print(f"{case}: seed {seed}, least gap {gap:.2g}, {dead} dead, loss {best['loss'][0]:.4f} {best['loss'][-1]:.4f}")
        tensors |= {f"{case}.{key}": value.contiguous() for key, value in best.items()}
        seeds[case] = seed
    args.out.mkdir(parents=True, exist_ok=True)
    meta = {"format": "pt", "torch": torch.__version__, "seeds": json.dumps(seeds)}
    save_file(tensors, args.out / name, metadata=meta)


if __name__ == "__main__":
    every = [v for v in VARIANTS if v != "topk"] + [f"{v}.options" for v in VARIANTS]
    keep_the_clearest(__doc__ or "", every, make, "sae_variants.safetensors")
