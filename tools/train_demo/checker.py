"""Trains the checker: a small convolutional network that reads every factor off a picture, or says 'unreadable'.

    python tools/train_demo/checker.py --work WORK --minutes 6         # stop and start at will: it resumes

Reads WORK/vae.pt, writes WORK/checker.pt.  It is no part of the model.  Its layers are a table, written as
checker.json beside the weights, so that another program can run it without knowing it.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import pool as pool_stage
import torch
import torch.nn.functional as F
import world
from torch import nn

READABLE = ["readable", "unreadable"]
WEIGHTED = ("conv", "group_norm", "linear")
POINTS = 4                                               # x, y of the first object, x, y of the second


def _conv(name: str, cin: int, cout: int, kernel: int, stride: int) -> list[dict[str, Any]]:
    return [{"op": "conv", "name": name, "in": cin, "out": cout, "kernel": kernel, "stride": stride, "padding": kernel // 2},
            {"op": "group_norm", "name": name + "_norm", "channels": cout, "groups": 8, "eps": 1e-5},
            {"op": "relu", "name": name + "_out"}]


# A cell of the last maps sees 220 pixels, a whole object; the largest answer over all places makes no difference
# between places.  Only the centres need them.
LAYERS: list[dict[str, Any]] = [
    {"op": "conv", "name": "stem", "in": 3, "out": 24, "kernel": 4, "stride": 4, "padding": 0},
    {"op": "relu"},
    *_conv("conv1", 24, 48, 3, 2),
    *_conv("conv2", 48, 80, 3, 2),
    *_conv("conv3", 80, 80, 3, 1),
    *_conv("conv4", 80, 112, 3, 2),
    *_conv("conv5", 112, 112, 3, 1),
    *_conv("conv6", 112, 112, 3, 1),
    {"op": "global_max"},
    {"op": "linear", "name": "answer", "in": 112, "out": 31},
    {"op": "from", "name": "conv6_out"},
    {"op": "conv", "name": "where", "in": 112, "out": 12, "kernel": 1, "stride": 1, "padding": 0},
    {"op": "relu"},
    {"op": "flatten"},
    {"op": "linear", "name": "hidden", "in": 768, "out": 48},
    {"op": "relu"},
    {"op": "linear", "name": "centres", "in": 48, "out": 4},
]


def heads() -> list[dict[str, Any]]:
    out, at = [], 0
    for name, values in [*world.FACTORS.items(), ("readable", READABLE)]:
        out.append({"name": name, "kind": "class", "offset": at, "size": len(values), "values": values})
        at += len(values)
    return [*out, {"name": "centres", "kind": "points", "offset": at, "size": POINTS}]


def description() -> dict[str, Any]:
    return {"format": "facet-checker-1", "weights": "checker.safetensors",
            "input": {"width": world.PX, "height": world.PX, "channels": 3, "layout": "CHW", "range": [-1, 1]},
            "layers": LAYERS, "heads": heads(), "unreadable_above": 0.5}


class Checker(nn.Module):
    """The table as a network; parameters are named NAME.weight and NAME.bias."""

    def __init__(self) -> None:
        super().__init__()
        for layer in LAYERS:
            if layer["op"] in WEIGHTED:
                self.add_module(layer["name"], self._make(layer))

    @staticmethod
    def _make(d: dict[str, Any]) -> nn.Module:
        if d["op"] == "conv":
            return nn.Conv2d(d["in"], d["out"], d["kernel"], d["stride"], d["padding"])
        if d["op"] == "group_norm":
            return nn.GroupNorm(d["groups"], d["channels"], d["eps"])
        return nn.Linear(d["in"], d["out"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain = {"relu": F.relu, "flatten": lambda v: v.flatten(1), "global_max": lambda v: v.amax((2, 3))}
        made: dict[str, torch.Tensor] = {}
        ends: list[torch.Tensor] = []
        for layer in LAYERS:                              # by name, since a deep copy has modules of its own
            if layer["op"] == "from":
                ends.append(x)
                x = made[layer["name"]]
            elif layer["op"] in WEIGHTED:
                x = getattr(self, layer["name"])(x)
            else:
                x = plain[layer["op"]](x)
            if "name" in layer:
                made[layer["name"]] = x
        return torch.cat([*ends, x], 1)


def split(out: torch.Tensor) -> dict[str, torch.Tensor]:
    return {h["name"]: out[:, h["offset"]:h["offset"] + h["size"]] for h in heads()}


@torch.no_grad()
def read(net: nn.Module, pictures: torch.Tensor, forced: bool = False) -> tuple[list[world.Scene | None], np.ndarray]:
    """pictures [B,3,256,256] in [-1,1] -> what each shows (None: unreadable, unless forced), centres [B,2,2]"""
    answers = split(net(pictures))
    mute = answers["readable"].softmax(1)[:, 1] > (1.0 if forced else 0.5)
    picks = {f: answers[f].argmax(1).tolist() for f in world.FACTORS}
    scenes = [None if mute[i] else {f: v[picks[f][i]] for f, v in world.FACTORS.items()} for i in range(len(pictures))]
    return scenes, answers["centres"].reshape(-1, 2, 2).numpy()


class Examples:
    """Renders, the same after the VAE, and pictures that show nothing that can be told."""

    def __init__(self, count: int, through: int, seed: int, vae: nn.Module) -> None:
        """`through` of the scenes also go through the VAE, which is far slower than rendering"""
        rng, gen = random.Random(seed), np.random.default_rng(seed)
        at = world.places(gen.standard_normal((count, 1, world.LAT, world.LAT), np.float32))
        self.at = torch.from_numpy(at)
        self.rng, self.count, self.through = rng, count, through
        self.true = torch.empty(count, 3, world.PX, world.PX, dtype=torch.uint8)
        self.coded = torch.empty(through, 3, world.PX, world.PX, dtype=torch.uint8)
        self.labels = torch.empty(count, len(world.FACTORS), dtype=torch.long)
        for first in range(0, count, 20):
            images = []
            for i in range(first, min(first + 20, count)):
                scene = world.random_scene(rng)
                n = 2 if scene["number"] == "two" else 1
                images.append(world.render(scene, [tuple(map(float, p)) for p in at[i, :n]])[0])
                self.labels[i] = torch.tensor([v.index(scene[f]) for f, v in world.FACTORS.items()])
            x = common.pictures_to_tensor(images)
            self.true[first:first + len(x)] = to_bytes(x)
            if first < through:
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                    y = vae.decode(vae.encode(x).latent_dist.mode()).sample.float().clamp(-1, 1)
                self.coded[first:first + len(x)] = to_bytes(y)

    def spoil(self) -> None:
        """Roughens half of the pictures for good and makes the unreadable ones: once, since it costs more than a
        training step."""
        for bank in (self.true, self.coded):
            for i in range(0, len(bank) // 2, 25):
                part = bank[i:min(i + 25, len(bank) // 2)]
                part.copy_(to_bytes(rough(part.float() / 127.5 - 1)))
        self.bank = torch.cat([to_bytes(self.bad(20)) for _ in range(max(1, self.count // 60))])

    def good(self, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        i, j = torch.randint(0, self.count, (n // 2,)), torch.randint(0, self.through, (n - n // 2,))
        x = torch.cat([self.true[i], self.coded[j]]).float() / 127.5 - 1
        i = torch.cat([i, j])
        return x, self.labels[i], self.at[i]

    def bad(self, n: int) -> torch.Tensor:
        """blends of two scenes, noise, smears: a third of each, nearly"""
        a, b = (self.good(n)[0] for _ in range(2))
        out = []
        for k in range(n):
            kind = self.rng.randrange(5)
            if kind < 2:                                  # blends, whole or in another's low frequencies
                share = self.rng.uniform(0.35, 0.65)
                out.append(a[k] * share + b[k] * (1 - share))
            elif kind == 2:
                out.append(noise_picture(self.rng))
            else:
                out.append(smear(a[k], self.rng))
        return torch.stack(out).clamp(-1, 1)


def to_bytes(x: torch.Tensor) -> torch.Tensor:
    return ((x + 1) * 127.5).round().clamp(0, 255).byte()


_GRAIN = torch.randn(160, 1, world.PX, world.PX, generator=torch.Generator().manual_seed(0))


def rough(x: torch.Tensor) -> torch.Tensor:
    """What a small model's good pictures may suffer: slight noise, slight softness, slight shifts of colour."""
    n, at = len(x), int(torch.randint(0, len(_GRAIN) - len(x), (1,)))
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, 0.8 * torch.rand(n, 1, 1, 1))
    cells = F.interpolate(torch.randn(n, 3, 32, 32), scale_factor=8, mode="bilinear")
    x = x + 0.10 * torch.rand(n, 1, 1, 1) * cells + 0.04 * torch.rand(n, 1, 1, 1) * _GRAIN[at:at + n]
    return (x * (1 + 0.04 * torch.randn(n, 1, 1, 1)) + 0.03 * torch.randn(n, 3, 1, 1)).clamp(-1, 1)


def noise_picture(rng: random.Random) -> torch.Tensor:
    side = rng.choice((4, 8, 16, 32, 64, 256))
    x = F.interpolate(torch.randn(1, 3, side, side), size=(world.PX, world.PX), mode="bilinear")[0]
    return x * rng.uniform(0.1, 1.0) + 0.6 * torch.randn(3, 1, 1)


def smear(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """too soft to tell, dragged along a line, or drowned in noise"""
    kind = rng.randrange(4)
    if kind == 0:
        side = rng.choice((4, 6, 8))
        small = F.adaptive_avg_pool2d(x[None], side)
        return F.interpolate(small, size=(world.PX, world.PX), mode="bicubic")[0]
    if kind == 1:                                         # dragged
        length, across = rng.randrange(90, 160), rng.random() < 0.5
        steps = torch.arange(-length // 2, length // 2, 6)
        return torch.stack([torch.roll(x, int(s), 2 if across else 1) for s in steps]).mean(0)
    if kind == 2:
        return 0.35 * x + rng.uniform(0.7, 1.0) * noise_picture(rng)
    places = [torch.roll(x, (rng.randrange(-64, 64), rng.randrange(-64, 64)), (1, 2)) for _ in range(5)]
    return torch.stack(places).mean(0)                    # an average over places, as a model in doubt draws it


def loss_of(out: dict[str, torch.Tensor], labels: torch.Tensor, at: torch.Tensor, good: int) -> torch.Tensor:
    """the first `good` pictures are readable, the rest are not and have no labels"""
    loss = sum(F.cross_entropy(out[f][:good], labels[:, c]) for c, f in enumerate(world.FACTORS))
    want = torch.zeros(len(out["readable"]), dtype=torch.long)
    want[good:] = 1
    loss = loss + F.cross_entropy(out["readable"], want)
    p = out["centres"][:good].view(-1, 2, 2)
    two = labels[:, list(world.FACTORS).index("number")] == 1
    same, crossed = ((p - q).abs().mean((1, 2)) for q in (at, at.flip(1)))
    first = (p[:, 0] - at[:, 0]).abs().mean(1)            # which of two is the first cannot be seen: the better match
    return loss + 10 * torch.where(two, torch.minimum(same, crossed), first).mean()


@torch.no_grad()
def report(net: nn.Module, held: Examples) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, pictures in (("true", held.true), ("coded", held.coded)):
        got, near, mute = [], [], 0
        for first in range(0, held.count, 50):
            scenes, centres = read(net, pictures[first:first + 50].float() / 127.5 - 1)
            for k, s in enumerate(scenes):
                i = first + k
                mute += s is None
                got.append([s is not None and v.index(s[f]) == held.labels[i, c]
                            for c, (f, v) in enumerate(world.FACTORS.items())])
                near.append(match(centres[k], held.at[i].numpy(), held.labels[i, 4].item() + 1))
        out |= {f"{name} {f}": float(np.mean([g[c] for g in got])) for c, f in enumerate(world.FACTORS)}
        out |= {f"{name} unreadable": mute / held.count, f"{name} centres<.03": float(np.mean(np.array(near) < 0.03))}
    torch.manual_seed(99)
    bad = [s is None for _ in range(10) for s in read(net, held.bad(50))[0]]
    return out | {"bad unreadable": float(np.mean(bad))}


def match(got: np.ndarray, want: np.ndarray, count: int) -> float:
    """largest distance of an object to its place; two objects in the better order"""
    if count == 1:
        return float(np.hypot(*(got[0] - want[0])))
    return float(min(max(np.hypot(*(got[0] - a)), np.hypot(*(got[1] - b))) for a, b in (want, want[::-1])))


def load(folder: Path) -> Checker:
    from safetensors.torch import load_file
    net = Checker().eval()
    net.load_state_dict({k: v.float() for k, v in load_file(folder / "checker.safetensors").items()})
    return net


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--minutes", type=float, default=6)
    ap.add_argument("--scenes", type=int, default=6000)
    ap.add_argument("--through", type=int, default=2000, help="of them, that also go through the VAE")
    ap.add_argument("--batch", type=int, default=48)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    common.threads(args.threads)
    stop, path = common.Stop(), args.work / "checker.pt"
    vae, _ = pool_stage.load_vae(args.work)
    torch.manual_seed(5)
    net = Checker()
    average, opt = common.Average(net, 0.995), torch.optim.AdamW(net.parameters(), args.lr, weight_decay=1e-3)
    step, spent = 0, 0.0
    if path.exists():
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        average.module.load_state_dict(saved["average"])
        opt.load_state_dict(saved["opt"])
        step, spent = saved["step"], saved["spent"]
    data, held = Examples(args.scenes, args.through, 50 + step, vae), Examples(300, 300, 7, vae)
    data.spoil()
    seen, good = time.time(), args.batch * 2 // 3
    while spent < args.minutes and not stop.asked:
        for g in opt.param_groups:
            g["lr"] = args.lr * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * spent / args.minutes)) + 1e-6
        x, labels, at = data.good(good)
        x = torch.cat([x, data.bank[torch.randint(0, len(data.bank), (args.batch - good,))].float() / 127.5 - 1])
        with torch.autocast("cpu", torch.bfloat16):
            out = net(x)
        loss = loss_of(split(out.float()), labels, at, good)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        opt.step()
        step += 1
        average.update(net, step)
        now = time.time()
        spent, seen = spent + min(now - seen, 20) / 60, now
        if step % 100 == 0:
            print(f"{step} {spent:.1f} min loss {loss.item():.3f}", flush=True)
        if step % 500 == 0:
            print(report(average.module, held), flush=True)
    print(report(average.module, held), flush=True)
    common.save_atomic({"net": net.state_dict(), "average": average.module.state_dict(), "opt": opt.state_dict(),
                        "step": step, "spent": spent}, path)


if __name__ == "__main__":
    main()
