"""Gives a trained U-Net its low-frequency channels back.

    python tools/train_demo/graft.py --work WORK          # changes WORK/unet.pt; keeps WORK/unet-before-graft.pt

Early in training the noise's channels 1 to 3 only disturb, and the network learns to shut them out: linear probes
find their block means at the 8x8 level no more, so that colour, shape and size cannot follow the noise later on.
This makes the quietest channels of every level carry them again, as at the very start.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import common
import torch
import world

import model as m

NOISE = (1, 2, 3)                                        # channels of the noise
PICTURES = 100


@torch.no_grad()
def quiet(net: m.Model) -> list[list[int]]:
    """the channels of least variance on the five widths on the way down"""
    gen, rng = torch.Generator().manual_seed(11), random.Random(11)
    captions = [world.caption(world.random_scene(rng), rng)[0] for _ in range(PICTURES)]
    down, seen = net.unet.down_blocks, {}
    layers = (down[0].resnets[1], down[0].downsamplers[0], down[1].attentions[1], down[1].downsamplers[0], down[2].attentions[1])
    hooks = []
    for k, layer in enumerate(layers):
        def keep(_: object, __: object, out: object, k: int = k) -> None:
            seen[k] = (out if torch.is_tensor(out) else out[0]).var((0, 2, 3))
        hooks.append(layer.register_forward_hook(keep))
    net.x0(torch.randn(PICTURES, 4, world.LAT, world.LAT, generator=gen), m.LAST, *net.text(captions))
    for h in hooks:
        h.remove()
    for k in range(len(layers)):
        print(f"{len(seen[k])} channels of deviation {seen[k].sqrt().median():.2f}; taken: "
              + ", ".join(f"{c} ({seen[k][c].sqrt():.2f})" for c in seen[k].argsort()[:len(NOISE)].tolist()))
    return [seen[k].argsort()[:len(NOISE)].tolist() for k in range(len(layers))]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--model", type=Path, default=Path("models/demo"), help="folder with the tokenizers")
    args = ap.parse_args()
    common.threads(1)
    path = args.work / "unet.pt"
    saved = torch.load(path)
    common.save_atomic(saved, args.work / "unet-before-graft.pt")
    net = m.Model(args.model, fresh=True)
    net.load_state_dict(saved["average"])
    into = quiet(net.eval())
    for key in ("net", "average"):
        net.load_state_dict(saved[key])
        m.low_frequency_start(net.unet, NOISE, into)
        saved[key] = {k: v.clone() for k, v in net.state_dict().items()}
    common.save_atomic(saved, path)


if __name__ == "__main__":
    main()
