"""Gives a trained U-Net readouts of the noise's low frequencies back.

    python tools/train_demo/graft.py --work WORK          # changes WORK/unet.pt; keeps WORK/unet-before-graft.pt

Early in training the noise's channels 1 to 3 only disturb, and the network learns to shut them out: linear probes
find their block means at the 8x8 level no more, so that colour, shape and size cannot follow the noise later on.
This adds them again: at each of the four linear layers on the way down (two down-samplers, two shortcuts) a readout
of the noise's block means, fitted at that layer's input, is added to the three quietest output channels.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import common
import torch
import torch.nn.functional as F
import world
from torch import nn

import model as m

NOISE = (1, 2, 3)                                        # channels of the noise
PICTURES = 200


def ends(net: m.Model, noise: torch.Tensor, captions: list[str], layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """the layer's inputs and outputs over the whole sample"""
    inputs: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []

    def keep(_: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        inputs.append(args[0].clone())
        outputs.append(out.clone())

    hook = layer.register_forward_hook(keep)
    for i in range(0, len(noise), 50):
        net.x0(noise[i:i + 50], m.LAST, *net.text(captions[i:i + 50]))
    hook.remove()
    return torch.cat(inputs), torch.cat(outputs)


def rows_of(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def fit(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, float]:
    """ridge regression of rows y [n,3] on rows x [n,C] -> readout [3,C], R2"""
    x, y = (x - x.mean(0)).double(), (y - y.mean(0)).double()
    w = torch.linalg.solve(x.T @ x + 1e-4 * x.square().mean() * len(x) * torch.eye(x.shape[1]), x.T @ y)
    return w.T.float(), float(1 - (y - x @ w).var() / y.var())


@torch.no_grad()
def graft(net: m.Model, gain: float) -> None:
    gen, rng = torch.Generator().manual_seed(11), random.Random(11)
    noise = torch.randn(PICTURES, 4, world.LAT, world.LAT, generator=gen)
    captions = [world.caption(world.random_scene(rng), rng)[0] for _ in range(PICTURES)]
    down = net.unet.down_blocks
    for layer, side in ((down[0].downsamplers[0].conv, 16), (down[1].resnets[0].conv_shortcut, 16),
                        (down[1].downsamplers[0].conv, 8), (down[2].resnets[0].conv_shortcut, 8)):
        x, out = ends(net, noise, captions, layer)
        pool = world.LAT // side
        means = F.avg_pool2d(noise[:, NOISE], pool) * pool               # block means at unit variance
        readout, r2 = fit(rows_of(F.avg_pool2d(x, x.shape[-1] // side)), rows_of(means))
        quiet = out.var((0, 2, 3)).argsort()[:len(NOISE)].tolist()
        print(f"{side}x{side}: R2 at the input {r2:.2f}; added to channels {quiet}")
        for r, c in zip(readout, quiet):
            if layer.kernel_size == (1, 1):
                layer.weight[c, :, 0, 0] += gain * r
            else:                                         # a down-sampler: the four pixels of its block
                layer.weight[c, :, 1:, 1:] += gain * r[:, None, None] / 4


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--model", type=Path, default=Path("models/demo"), help="folder with the tokenizers")
    ap.add_argument("--gain", type=float, default=1.0, help="deviation of the added block means")
    args = ap.parse_args()
    common.threads(1)
    path = args.work / "unet.pt"
    saved = torch.load(path)
    common.save_atomic(saved, args.work / "unet-before-graft.pt")
    before = {k: v.clone() for k, v in saved["net"].items()}
    net = m.Model(args.model, fresh=True)
    net.load_state_dict(saved["net"])
    graft(net.eval(), args.gain)
    saved["net"] = net.state_dict()
    for k, v in saved["average"].items():
        v += saved["net"][k] - before[k]
    common.save_atomic(saved, path)


if __name__ == "__main__":
    main()
