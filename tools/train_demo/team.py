"""Data-parallel training in processes of one thread each, and the optimizer of the demo model.  No command.

Products this small leave a second thread half idle: two processes of one thread train 60 samples/s where one of two
threads trains 45.  All parameters lie in one flat tensor in shared memory; every worker has a flat gradient there, and updates its
own share of the parameters from the mean gradient.  Matrices and kernels go by Muon (momentum, orthogonalised by
Newton-Schulz steps; Jordan et al. 2024, with the scale of Liu et al. 2025, arXiv:2502.16982), the rest by AdamW.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import nn

PATIENCE = 600                                            # seconds to wait for a worker before giving up on it


def orthogonal(g: torch.Tensor) -> torch.Tensor:
    """[B,r,c], r <= c -> about the nearest matrices with orthonormal rows"""
    x = g.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.float()


class Flat:
    """Parameters, their moments and one gradient a worker, as flat tensors in shared memory."""

    def __init__(self, params: list[nn.Parameter], by_muon: Callable[[nn.Parameter], bool], workers: int) -> None:
        self.shapes = [p.shape for p in params]
        self.muon = [by_muon(p) for p in params]
        self.ends = torch.tensor([p.numel() for p in params]).cumsum(0).tolist()
        n = self.ends[-1]
        self.value = torch.cat([p.detach().reshape(-1) for p in params]).share_memory_()
        self.first, self.second = torch.zeros(n).share_memory_(), torch.zeros(n).share_memory_()
        self.grads = torch.zeros(workers, n).share_memory_()
        self.norms = torch.zeros(workers).share_memory_()
        self.news = torch.zeros(2, dtype=torch.float64).share_memory_()      # what worker 0 tells: spent, stop
        self.barrier = mp.get_context("spawn").Barrier(workers)
        self.workers = workers

    def span(self, i: int) -> slice:
        return slice(self.ends[i - 1] if i else 0, self.ends[i])

    def adopt(self, params: list[nn.Parameter], rank: int) -> None:
        """makes a worker's parameters and gradients views of the shared tensors"""
        for i, p in enumerate(params):
            p.data = self.value[self.span(i)].view(p.shape)
            p.grad = self.grads[rank, self.span(i)].view(p.shape)

    def wait(self) -> None:
        if self.workers > 1:
            try:
                self.barrier.wait(PATIENCE)
            except threading.BrokenBarrierError:
                raise SystemExit("a training process is gone: start again, the last checkpoint is whole") from None

    def state(self) -> dict[str, torch.Tensor]:
        return {"first": self.first, "second": self.second}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """parameters may have been added at the end since"""
        n = len(state["first"])
        self.first[:n].copy_(state["first"])
        self.second[:n].copy_(state["second"])


class Optimizer:
    """One worker's part of the step."""

    def __init__(self, flat: Flat, rank: int, decay: float = 1e-2) -> None:
        self.flat, self.rank, self.decay = flat, rank, decay
        cost = [(2 if m else 1) * s.numel() for s, m in zip(flat.shapes, flat.muon)]
        load, mine = [0] * flat.workers, []
        for i in sorted(range(len(cost)), key=lambda i: -cost[i]):        # largest first, to the least busy
            who = load.index(min(load))
            load[who] += cost[i]
            if who == rank:
                mine.append(i)
        self.mine = sorted(mine)
        self.alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in self.mine:
            if flat.muon[i]:
                rows = flat.shapes[i][0]
                self.alike[(rows, flat.shapes[i].numel() // rows)].append(i)
        self.rest = [i for i in self.mine if not flat.muon[i]]

    def step(self, step: int, lr: float, muon_lr: float, clip: float = 1.0) -> None:
        """step counts from 1; gradients must be there; on return all parameters are new in every worker"""
        f = self.flat
        f.wait()
        mean = {i: f.grads[:, f.span(i)].mean(0) for i in self.mine}
        f.norms[self.rank] = sum(float(mean[i].square().sum()) for i in self.rest)
        f.wait()
        scale = min(1.0, clip / (float(f.norms.sum()) ** 0.5 + 1e-6))
        for i in self.rest:
            s, g = f.span(i), mean[i] * scale
            f.first[s].lerp_(g, 0.1)
            f.second[s].lerp_(g * g, 0.01)
            root = (f.second[s] / (1 - 0.99 ** step)).sqrt_().add_(1e-8)
            f.value[s].mul_(1 - lr * self.decay).addcdiv_(f.first[s], root, value=-lr / (1 - 0.9 ** step))
        for (rows, cols), indices in self.alike.items():
            for i in indices:
                f.first[f.span(i)].mul_(0.95).add_(mean[i])
            u = torch.stack([(mean[i] + 0.95 * f.first[f.span(i)]).view(rows, cols) for i in indices])
            u = orthogonal(u.transpose(1, 2)).transpose(1, 2) if rows > cols else orthogonal(u)
            by = muon_lr * 0.2 * max(rows, cols) ** 0.5
            for i, v in zip(indices, u):
                f.value[f.span(i)].mul_(1 - muon_lr * self.decay).sub_(v.reshape(-1), alpha=by)
        f.grads[self.rank].zero_()
        f.wait()


def launch(work: Callable[..., None], flat: Flat, *args: Any) -> None:
    """Runs work(rank, flat, *args) in every worker; worker 0 is this process."""
    context = mp.get_context("spawn")
    others = [context.Process(target=work, args=(rank, flat, *args), daemon=True) for rank in range(1, flat.workers)]
    for p in others:
        p.start()
    try:
        work(0, flat, *args)
        for p in others:
            p.join()
    finally:
        for p in others:
            p.terminate()
