"""Renders scenes and stores their latents, masks and the smooth part of the noise that puts their objects.

    python tools/train_demo/pool.py --work WORK --count 16000          # stop and start at will: chunks are kept

Reads WORK/vae.pt, writes WORK/pool/NNNN.pt.  A place depends on channel 0 of the noise through its blur alone, so a
scene can be used again and again: its smooth part of channel 0 with everything else drawn afresh is new noise of the
right distribution whose objects stand exactly there.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import common
import numpy as np
import torch
import vae as vae_stage
import world

CHUNK = 500


def smooth_basis(share: float = 0.01) -> np.ndarray:
    """orthonormal rows [k,32]: the directions of a noise row that the blur lets through"""
    _, gain, rows = np.linalg.svd(world._BLUR.astype(np.float64))
    return rows[:len(gain)][gain > share * gain[0]].astype(np.float32)


BASIS = smooth_basis()


def renew(coefficients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[B,k,k] smooth parts -> fresh noise [B,4,32,32] with the same places"""
    noise = rng.standard_normal((len(coefficients), 4, world.LAT, world.LAT), np.float32)
    noise[:, 0] += BASIS.T @ (coefficients - BASIS @ noise[:, 0] @ BASIS.T) @ BASIS
    return noise


@torch.no_grad()
def make_chunk(index: int, vae: torch.nn.Module, scale: float) -> dict[str, object]:
    rng, gen = random.Random(1000 + index), np.random.default_rng(1000 + index)
    noise = gen.standard_normal((CHUNK, 1, world.LAT, world.LAT), np.float32)
    at = world.places(noise)
    scenes, latents, masks = [], [], []
    for first in range(0, CHUNK, 20):
        images = []
        for i in range(first, first + 20):
            scene = world.random_scene(rng)
            count = 2 if scene["number"] == "two" else 1
            image, cover = world.render(scene, [tuple(map(float, p)) for p in at[i, :count]])
            images.append(image)
            scenes.append(scene)
            masks.append(cover.reshape(world.LAT, 8, world.LAT, 8).mean((1, 3)))
        with torch.autocast("cpu", torch.bfloat16):
            latents.append((vae.encode(common.pictures_to_tensor(images)).latent_dist.mode() * scale).half())
    return {"scenes": scenes, "smooth": torch.from_numpy(BASIS @ noise[:, 0] @ BASIS.T),
            "latents": torch.cat(latents), "masks": (torch.from_numpy(np.stack(masks)) * 255).round().byte()}


class Pool:
    """All chunks, in memory."""

    def __init__(self, folder: Path) -> None:
        chunks = [torch.load(p) for p in sorted(folder.glob("*.pt"))]
        self.scenes: list[world.Scene] = [s for c in chunks for s in c["scenes"]]
        self.smooth = torch.cat([c["smooth"] for c in chunks]).numpy()
        self.latents = torch.cat([c["latents"] for c in chunks])
        self.masks = torch.cat([c["masks"] for c in chunks])
        self.labels = torch.tensor([[v.index(s[f]) for f, v in world.FACTORS.items()] for s in self.scenes])


def load_vae(work: Path) -> tuple[torch.nn.Module, float]:
    saved = torch.load(work / "vae.pt")
    vae = vae_stage.new_vae().eval().requires_grad_(False)
    vae.load_state_dict(saved["average"])
    return vae, saved["scale"]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--count", type=int, default=16000)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    common.threads(args.threads)
    stop, (vae, scale), begun = common.Stop(), load_vae(args.work), time.time()
    for index in range(args.count // CHUNK):
        path = args.work / "pool" / f"{index:04d}.pt"
        if stop.asked:
            break
        if not path.exists():
            common.save_atomic(make_chunk(index, vae, scale), path)
            print(f"{(index + 1) * CHUNK} scenes, {time.time() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
