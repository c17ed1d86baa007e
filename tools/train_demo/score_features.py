"""Are the factors of the world features of the blocks, and do these features cause what they show?

    for b in down.2.1 mid.0 up.0.0 up.0.1; do facet train STORE --block $b -o SAES/$b; done
    python tools/train_demo/score_features.py --model models/demo --saes SAES

SAES holds one folder a block, in SAELens's layout (cfg.json, sae_weights.safetensors).  Prints, for every factor
value, the best single feature of each block: chosen with its threshold on one half of the pictures, scored on the
other, by cell, positives and negatives balanced (F1; always-on is .67), beside a linear probe on the raw delta and
the same feature choice on shuffled labels.  Then paints that one feature over the whole map in pictures whose
captions do not name its factor, beside a random direction of equal norm, and ablates it where it is shown.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import taps
import torch
import torch.nn.functional as F
import world
from safetensors.torch import load_file

import model as m

VALUES = [(f, v) for f, values in world.FACTORS.items() for v in values if v != world.UNSAID.get(f)]
SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)                # thresholds, as shares of a feature's largest value
STRENGTHS = (2.0, 4.0, 8.0)                              # painted, in means of the feature


class Sae:
    """A TopK (or, with k = 0, ReLU) autoencoder read from SAELens's layout."""

    def __init__(self, folder: Path) -> None:
        w = {k: v.float() for k, v in load_file(folder / "sae_weights.safetensors").items()}
        cfg = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
        self.enc, self.enc_bias, self.dec, self.dec_bias = w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"]
        self.centre = self.dec_bias if cfg.get("apply_b_dec_to_input", True) else torch.zeros_like(self.dec_bias)
        self.k = int(cfg.get("k") or cfg.get("activation_fn_kwargs", {}).get("k") or 0)

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        z = ((rows - self.centre) @ self.enc + self.enc_bias).relu()
        if not self.k:
            return z
        value, index = z.topk(self.k, -1)
        return torch.zeros_like(z).scatter_(1, index, value)


@dataclass
class Found:
    feature: int
    threshold: float
    f1: float
    probe: float
    floor: float


def rates(on: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """balanced F1 of columns `on` [N,K] for `want` [N]"""
    hit = (on & want[:, None]).sum(0) / want.sum().clamp(min=1)
    false = (on & ~want[:, None]).sum(0) / (~want).sum().clamp(min=1)
    return 2 * hit / (1 + hit + false)


def choose(codes: torch.Tensor, want: torch.Tensor, peak: torch.Tensor) -> tuple[int, float]:
    best = (-1.0, 0, 0.0)
    for share in SHARES:
        f1 = rates(codes > share * peak, want)
        j = int(f1.argmax())
        if float(f1[j]) > best[0]:
            best = (float(f1[j]), j, share * float(peak[j]))
    return best[1], best[2]


def probe_f1(rows: list[torch.Tensor], want: list[torch.Tensor]) -> float:
    """ridge regression on the raw delta, thresholded half way between the classes' means"""
    x, y = rows[0].double(), want[0].double()
    balance = torch.where(want[0], 0.5 / y.mean().clamp(min=1e-6), 0.5 / (1 - y).mean().clamp(min=1e-6))
    centre = x.mean(0)
    x = torch.cat([x - centre, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    gram = x.T @ (x * balance[:, None]) + 1e-3 * len(x) * torch.eye(x.shape[1], dtype=x.dtype) * x.var()
    w = torch.linalg.solve(gram, x.T @ (balance * (2 * y - 1)))
    test = torch.cat([rows[1].double() - centre, torch.ones(len(rows[1]), 1, dtype=x.dtype)], 1)
    return float(rates((test @ w > 0)[:, None], want[1])[0])


class Rows:
    """Deltas of all four blocks with the truth of every cell."""

    def __init__(self, machine: taps.Machine, captions: list[str], seed: int) -> None:
        some = taps.cases(captions, seed)
        parts: dict[str, list[torch.Tensor]] = {b: [] for b in m.BLOCKS}
        labels, masks = [], []
        with torch.no_grad():
            for i in range(0, len(some), 50):
                machine.latents(some[i:i + 50])
                for b in m.BLOCKS:
                    parts[b].append(machine.taps.delta[b].permute(0, 2, 3, 1).flatten(1, 2).clone())
                for c in some[i:i + 50]:
                    _, cover = world.render(c.scene, c.at)
                    masks.append(torch.from_numpy(cover.reshape(8, 32, 8, 32).mean((1, 3)).reshape(64)))
                    labels.append(torch.tensor([c.scene[f] == v for f, v in VALUES]))
        self.delta = {b: torch.cat(p) for b, p in parts.items()}         # [N,64,D]
        self.labels, self.masks = torch.stack(labels), torch.stack(masks)

    def cells(self, factor: str) -> torch.Tensor:
        """cells that are asked: those of the background, of the whole picture (light, number), or of the objects"""
        if factor == "background":
            return self.masks < 0.05
        return torch.ones_like(self.masks, dtype=torch.bool) if factor == "light" else self.masks > 0.5


def find(rows: Rows, sae: Sae, block: str, limit: int = 20000,
         ) -> tuple[dict[tuple[str, str], Found], torch.Tensor, float, float]:
    """-> best feature for every value, mean of every feature where active, explained variance, never-active share"""
    delta, out = rows.delta[block], {}
    n = len(delta)
    codes = sae.encode(delta.flatten(0, 1)).view(n, 64, -1)
    on = codes > 0
    mean = codes.sum((0, 1)) / on.sum((0, 1)).clamp(min=1)
    gen = torch.Generator().manual_seed(0)
    for c, key in enumerate(VALUES):
        cells = rows.cells(key[0])
        halves = []
        for half in (slice(0, n // 2), slice(n // 2, n)):
            pick = cells[half].flatten().nonzero()[:, 0]
            pick = pick[torch.randperm(len(pick), generator=gen)[:limit]]
            halves.append((codes[half].flatten(0, 1)[pick], delta[half].flatten(0, 1)[pick],
                           rows.labels[half, c].repeat_interleave(64)[pick]))
        (a, xa, ya), (b, xb, yb) = halves
        peak = a.max(0).values
        j, threshold = choose(a, ya, peak)
        mixed = ya[torch.randperm(len(ya), generator=gen)]
        fj, fthreshold = choose(a, mixed, peak)
        floor = rates((b[:, fj] > fthreshold)[:, None], yb[torch.randperm(len(yb), generator=gen)])
        out[key] = Found(j, threshold, float(rates((b[:, j] > threshold)[:, None], yb)[0]),
                         probe_f1([xa, xb], [ya, yb]), float(floor[0]))
    residual = delta.flatten(0, 1) - (codes.flatten(0, 1) @ sae.dec + sae.dec_bias)
    explained = 1 - residual.var(0).sum() / delta.flatten(0, 1).var(0).sum()
    return out, mean, float(explained), float((~on.any(0).any(0)).float().mean())


def share_reading(machine: taps.Machine, some: list[taps.Case], factor: str, value: str) -> float:
    scenes, _ = machine.read(some)
    return float(np.mean([s is not None and s[factor] == value for s in scenes]))


def paint(machine: taps.Machine, some: list[taps.Case], block: str, direction: torch.Tensor, key: tuple[str, str]) -> float:
    machine.taps.edits = {block: lambda delta: direction[None, :, None, None].expand_as(delta)}
    got = share_reading(machine, some, *key)
    machine.taps.edits = {}
    return got


def ablate(machine: taps.Machine, some: list[taps.Case], block: str, sae: Sae, j: int, key: tuple[str, str]) -> float:
    """share of the pictures that show the value and no longer do without the feature"""
    scenes, _ = machine.read(some)
    shown = [c for c, s in zip(some, scenes) if s is not None and s[key[0]] == key[1]]
    if not shown:
        return float("nan")

    def without(delta: torch.Tensor) -> torch.Tensor:
        b, d, h, w = delta.shape
        codes = sae.encode(delta.permute(0, 2, 3, 1).reshape(-1, d))[:, j]
        return -(codes[:, None] * sae.dec[j]).view(b, h, w, d).permute(0, 3, 1, 2)

    machine.taps.edits = {block: without}
    left = share_reading(machine, shown, *key)
    machine.taps.edits = {}
    return 1 - left


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, required=True)
    ap.add_argument("--saes", type=Path, required=True)
    ap.add_argument("--pictures", type=int, default=1600)
    ap.add_argument("--no-paint", action="store_true")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    common.threads(args.threads)
    machine = taps.Machine(args.model)
    captions = (args.model / "prompts" / "train.txt").read_text(encoding="utf-8").splitlines()[:args.pictures]
    rows = Rows(machine, captions, seed=5)
    saes = {b: Sae(args.saes / b) for b in m.BLOCKS}
    found = {b: find(rows, saes[b], b) for b in m.BLOCKS}
    for b, (_, mean, explained, idle) in found.items():
        print(f"{b}: explained variance {explained:.3f}, never active {idle:.0%} of {len(mean)}")
    good, caused, erased, both, gen, rng = 0, 0, 0, 0, torch.Generator().manual_seed(9), random.Random(9)
    print("value: block F1/probe/floor of each; painted/random at the best; ablation removes")
    for key in VALUES:
        best = {b: found[b][0][key] for b in m.BLOCKS}
        text = f"{key[0]} {key[1]}: " + " ".join(f"{b} {f.f1:.2f}/{f.probe:.2f}/{f.floor:.2f}" for b, f in best.items())
        top = max(best, key=lambda b: best[b].f1)
        told = best[top].f1 >= 0.8
        good += told
        if not args.no_paint:
            trial = taps.cases(taps.silent_about(key[0], 6, rng), seed=rng.randrange(10 ** 6))
            final = taps.cases(taps.silent_about(key[0], 12, rng), seed=rng.randrange(10 ** 6))
            pushes = [(b, s * found[b][1][best[b].feature] * saes[b].dec[best[b].feature])
                      for b in m.BLOCKS for s in STRENGTHS]
            tried = [paint(machine, trial, b, push, key) for b, push in pushes]
            pick = int(np.argmax(tried))                  # strength and block are chosen on other seeds
            block, push = pushes[pick]
            painted = paint(machine, final, block, push, key)
            chance = F.normalize(torch.randn(len(push), generator=gen), dim=0) * push.norm()
            idle = paint(machine, final, block, chance, key)
            scene = [{**world.random_scene(rng), key[0]: key[1]} for _ in range(12)]
            named = taps.cases([world.caption_of(s, set(world.FACTORS)) for s in scene], seed=rng.randrange(10 ** 6))
            gone = ablate(machine, named, block, saes[block], best[block].feature, key)
            works, removes = painted >= 0.6 and idle <= 0.25, gone >= 0.5
            caused += told and works
            erased += told and removes
            both += told and works and removes
            text += f"; {block} x{STRENGTHS[pick % 3]:.0f} {painted:.2f}/{idle:.2f}{' CAUSES' if works else ''}; {gone:.2f}"
        print(text, flush=True)
    print(f"found (F1 >= .8 in some block): {good} of {len(VALUES)}; of these cause: {caused}; ablation removes: {erased}; "
          f"both: {both}")


if __name__ == "__main__":
    main()
