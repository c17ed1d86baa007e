"""Writes what PyTorch makes of 20 training steps of a crosscoder, and of one SAE over the rows of two blocks.

    python tools/make_sae_block_goldens.py tests/golden

sae_blocks.safetensors holds for every case (`crosscoder.topk`, `crosscoder.batchtopk`, `crosscoder.relu`, `mixed.topk`): the
rows of both blocks as they are, the starting weights, loss [steps], the weights after the last step, and of the first rows the
codes and what is rebuilt from them, in the rows' own units. A crosscoder is written down as Lindsey et al. (2024) have it: an
encoder a block whose products are summed, a decoder and a bias a block, codes weighed by the sum of a feature's decoder norms.
Here weights are kept block by block and joined only when they are saved: W_enc, W_dec [F, all blocks' numbers]. Of many seeds each
case keeps the one whose selections are furthest from a tie.
"""

from __future__ import annotations

import math

import torch
from make_sae_variant_goldens import keep_the_clearest
from torch.nn.functional import normalize, relu

WIDTHS, F, BATCH, STEPS = (7, 5), 40, 32, 20
MIXED_WIDTH, K, AUXK, DEAD_STEPS = 9, 4, 6, 3
EPS, AUX_COEF, FIRED, LOSS_SCALE, LR, SPARSITY = 6.25e-10, 1 / 32, 1e-3, 1.7, 2e-3, 0.05
CASES = ("crosscoder.topk", "crosscoder.batchtopk", "crosscoder.relu", "mixed.topk")
SHOWN = 16

Tensors = dict[str, torch.Tensor]


class Blocks:
    """Parameters of every block, the loss of a batch, and how near the selections came to a tie."""

    def __init__(self, kind: str, start: list[Tensors], b_enc: torch.Tensor) -> None:
        self.kind = kind
        self.block = [{k: v.clone().requires_grad_() for k, v in one.items()} for one in start]
        self.b_enc = b_enc.clone().requires_grad_()
        self.silent = torch.zeros(F, dtype=torch.long)
        self.gap, self.dead, self.threshold = math.inf, 0, 0.0

    def parameters(self) -> list[torch.Tensor]:
        return [p for one in self.block for p in one.values()] + [self.b_enc]

    def pre(self, x: list[torch.Tensor]) -> torch.Tensor:
        return sum((rows - p["b_dec"]) @ p["w_enc"].T for rows, p in zip(x, self.block)) + self.b_enc

    def decode(self, z: torch.Tensor) -> list[torch.Tensor]:
        return [z @ p["w_dec"] + p["b_dec"] for p in self.block]

    def cut(self, values: torch.Tensor, k: int) -> torch.Tensor:
        top = values.detach().topk(k + 1, dim=-1)
        self.gap = min(self.gap, (top.values[..., k - 1] - top.values[..., k]).min().item())
        return torch.zeros_like(values).scatter(-1, top.indices[..., :k], 1)

    def codes(self, pre: torch.Tensor, step: int) -> torch.Tensor:
        if self.kind == "relu":
            self.gap = min(self.gap, pre.abs().min().item())
            return relu(pre)
        if self.kind == "topk":
            z = relu(pre * self.cut(pre, K))
            self.gap = min(self.gap, z[z > 0].min().item())
            return z
        flat = relu(pre).flatten()
        z = (flat * self.cut(flat, BATCH * K)).reshape(pre.shape)
        least = z[z > 0].min().item()
        self.threshold += max(0.01, 1 / (step + 1)) * (least - self.threshold)
        return z

    def aux(self, pre: torch.Tensor, z: torch.Tensor, miss: list[torch.Tensor]) -> torch.Tensor:
        self.silent[(z > FIRED).any(0)] = 0
        self.silent += 1
        dead = self.silent > DEAD_STEPS
        self.dead = int(dead.sum())
        if self.kind == "relu":
            return torch.zeros(())
        strongest = torch.where(dead, pre, torch.full((), -1e9)).topk(AUXK, dim=1)
        if dead.any():
            live = torch.where(dead, relu(pre), -torch.ones(())).detach().sort(dim=1, descending=True).values
            step = (live[:, AUXK - 1] - live[:, AUXK])[live[:, AUXK - 1] > 0]
            if len(step) > 0:
                self.gap = min(self.gap, step.min().item())
            kept = strongest.values.detach()
            self.gap = min(self.gap, kept[kept > -1e8].abs().min().item())
        code = torch.zeros_like(pre).scatter(1, strongest.indices, relu(strongest.values))
        wrong = sum(((code @ p["w_dec"] - m) ** 2).sum() for p, m in zip(self.block, miss))
        return wrong / sum(((m - m.mean(0)) ** 2).sum() for m in miss)

    def loss(self, x: list[torch.Tensor], step: int) -> torch.Tensor:
        pre = self.pre(x)
        z = self.codes(pre, step)
        out = self.decode(z)
        n = sum(rows.numel() for rows in x)
        loss = LOSS_SCALE * sum(((o - rows) ** 2).sum() for o, rows in zip(out, x)) / n
        if self.kind == "relu":
            unit = math.sqrt(sum(rows.shape[1] for rows in x) / LOSS_SCALE)
            length = sum(p["w_dec"].norm(dim=1) for p in self.block)
            loss = loss + SPARSITY / unit * (z * length).sum(1).mean()
        miss = [(rows - o).detach() for o, rows in zip(out, x)]
        return loss + AUX_COEF * self.aux(pre, z, miss)

    def unit_decoder(self) -> None:
        """Directions of length 1 over all blocks together, and their gradient without what lies along them."""
        length = sum((p["w_dec"] ** 2).sum(1, keepdim=True) for p in self.block).sqrt()
        for p in self.block:
            p["w_dec"] /= length
        along = sum((p["w_dec"] * p["w_dec"].grad).sum(1, keepdim=True) for p in self.block)
        for p in self.block:
            p["w_dec"].grad -= p["w_dec"] * along


def joined(block: list[Tensors]) -> Tensors:
    return {key: torch.cat([p[key].detach() for p in block], dim=-1).clone() for key in ("w_enc", "w_dec", "b_dec")}


def scale_of(rows: torch.Tensor) -> float:
    return (math.sqrt(rows.shape[1]) / rows.norm(dim=1).mean()).item()


def make_rows(widths: tuple[int, ...]) -> list[torch.Tensor]:
    """Blocks that show the same causes, each through directions, a scale and a mean of its own."""
    n = BATCH * STEPS
    code = torch.rand(n, 20) * (torch.rand(n, 20) < 0.12) * 3
    out = []
    for i, width in enumerate(widths):
        dictionary = normalize(torch.randn(20, width), dim=1)
        rows = code @ dictionary + 0.05 * torch.randn(n, width) + 0.5 * torch.randn(width)
        out.append(rows * (0.4, 3.0)[i])
    return out


def make(case: str, seed: int) -> tuple[Tensors, float, int]:
    torch.manual_seed(seed)
    what, kind = case.split(".")
    mixed = what == "mixed"
    raw = make_rows((MIXED_WIDTH,) * 2 if mixed else WIDTHS)
    mean = [r.double().mean(0) if mixed else torch.zeros(r.shape[1], dtype=torch.float64) for r in raw]
    scale = [scale_of(r.double() - m) for r, m in zip(raw, mean)]
    rows = [((r.double() - m) * s).float() for r, m, s in zip(raw, mean, scale)]
    if mixed:  # half of every batch is of either block
        half = BATCH // 2
        rows = [torch.cat([r[s : s + half] for s in range(0, half * STEPS, half) for r in rows])]
    width = sum(r.shape[1] for r in rows)
    w_enc = (torch.rand(F, width) * 2 - 1) / width**0.5
    w_dec = normalize(w_enc, dim=1)
    start, at = [], 0
    for r in rows:
        part = slice(at, at + r.shape[1])
        start.append({"w_enc": w_enc[:, part], "w_dec": w_dec[:, part], "b_dec": r.median(0).values})
        at += r.shape[1]
    b_enc = 0.02 * torch.randn(F)
    b_enc[::4] -= 3  # silent: the aux term reaches them
    sae = Blocks(kind, start, b_enc)
    adam = torch.optim.Adam(sae.parameters(), lr=LR, eps=EPS)
    losses = []
    for step in range(STEPS):
        loss = sae.loss([r[step * BATCH : (step + 1) * BATCH] for r in rows], step)
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            sae.unit_decoder()
        adam.step()
        adam.zero_grad()
    out = {f"start.{k}": v for k, v in joined(start).items()} | {"start.b_enc": b_enc}
    out |= joined(sae.block) | {"b_enc": sae.b_enc.detach().clone()}
    out |= {f"rows.{i}": r for i, r in enumerate(raw)} | {"loss": torch.tensor(losses, dtype=torch.float64)}
    with torch.no_grad():
        gap = sae.gap
        for i, block in enumerate(raw if mixed else [None]):
            shown = [((block[:SHOWN].double() - mean[i]) * scale[i]).float()] if mixed else [r[:SHOWN] for r in rows]
            z = sae.codes(sae.pre(shown), 0) if kind == "topk" else relu(sae.pre(shown))
            if kind == "batchtopk":
                sae.gap = min(sae.gap, (z - sae.threshold).abs().min().item())
                z = z * (z > sae.threshold)
            gap = min(gap, sae.gap)
            back = sae.decode(z)
            if mixed:
                out[f"codes.{i}"], out[f"rebuilt.{i}"] = z / scale[i], (back[0].double() / scale[i] + mean[i]).float()
            else:
                out["codes.0"] = z
                out["rebuilt.0"] = torch.cat([b / s for b, s in zip(back, scale)], dim=1)
    if kind == "batchtopk":
        out["threshold"] = torch.tensor([sae.threshold], dtype=torch.float64)
    return out, gap, sae.dead


if __name__ == "__main__":
    keep_the_clearest(__doc__ or "", list(CASES), make, "sae_blocks.safetensors")
