"""Trains the demo model's autoencoder on rendered scenes, in three stages.

    python tools/train_demo/vae.py --work WORK --stage crops --minutes 30    # stop and start at will: it resumes
    python tools/train_demo/vae.py --work WORK --stage whole --minutes 10 --lr 1e-3
    python tools/train_demo/vae.py --work WORK --stage decoder --minutes 20 --lr 1e-3

Small crops are the fastest way to sharp edges, but norms and attention over a whole picture see other statistics:
without the second stage, wide backgrounds come out in wrong colours.  The third leaves the latents as they are.

Writes WORK/vae.pt (weights, averaged weights, optimizer, step) and WORK/vae.png (originals above reconstructions).
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import common
import numpy as np
import torch
import world
from diffusers import AutoencoderKL
from PIL import Image

SIZES = {64: 40, 128: 10, 256: 3}                        # crop width: batch
MIXED = (64, 128, 256, 256)


def new_vae(scaling_factor: float = 1.0) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(16, 32, 64, 64), layers_per_block=1,
        latent_channels=4, norm_num_groups=8, sample_size=256, scaling_factor=scaling_factor, force_upcast=False)


class Crops:
    """Rendered scenes in memory; a batch is crops, most of them around objects."""

    def __init__(self, count: int, seed: int) -> None:
        rng, gen = random.Random(seed), np.random.default_rng(seed)
        at = world.places(gen.standard_normal((count, 1, world.LAT, world.LAT), np.float32))
        self.images = np.empty((count, world.PX, world.PX, 3), np.uint8)
        self.cover = np.empty((count, world.PX, world.PX), np.uint8)
        self.at: list[list[tuple[float, float]]] = []
        for i in range(count):
            scene = world.random_scene(rng)
            centres = [tuple(map(float, p)) for p in at[i, :2 if scene["number"] == "two" else 1]]
            im, cover = world.render(scene, centres)
            self.images[i], self.cover[i] = (im * 255).round(), (cover * 255).round()
            self.at.append(centres)

    def batch(self, size: int, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
        n = SIZES[size]
        out, cover = np.empty((n, size, size, 3), np.uint8), np.empty((n, size, size), np.uint8)
        for k in range(n):
            i = rng.randrange(len(self.at))
            if rng.random() < 0.7:
                cx, cy = rng.choice(self.at[i])
                x, y = (int(c * world.PX - size / 2 + rng.uniform(-55, 55)) for c in (cx, cy))
            else:
                x, y = rng.randrange(world.PX), rng.randrange(world.PX)
            x, y = (min(max(v, 0), world.PX - size) for v in (x, y))
            out[k], cover[k] = self.images[i, y:y + size, x:x + size], self.cover[i, y:y + size, x:x + size]
        x = torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1
        return x, torch.from_numpy(cover)[:, None].float() / 255


def loss_of(vae: AutoencoderKL, x: torch.Tensor, cover: torch.Tensor, decoder_only: bool) -> torch.Tensor:
    with torch.set_grad_enabled(not decoder_only):
        posterior = vae.encode(x).latent_dist
        z = posterior.sample()
    if decoder_only:
        z = z + 0.05 * z.std() * torch.randn_like(z)      # the U-Net's latents are not exact either
    error = (vae.decode(z).sample - x).float()
    # gradients of the error: without them edges and stripes come out soft
    dx, dy = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    weight = 1 + 2 * cover
    loss = (weight * (error.abs() + 2 * error ** 2)).mean() + 0.5 * (dx.abs().mean() + dy.abs().mean())
    return loss if decoder_only else loss + 3e-7 * posterior.kl().mean()


@torch.no_grad()
def look(vae: AutoencoderKL, x: torch.Tensor, path: Path | None) -> tuple[float, float]:
    """-> PSNR of the reconstructions, 1/std of the latents"""
    z = vae.encode(x).latent_dist.mode()
    y = vae.decode(z).sample.clamp(-1, 1)
    if path is not None:
        rows = torch.cat([torch.cat(list(v[:8]), 2) for v in (x, y)], 1)
        Image.fromarray(((rows + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(path)
    return -10 * math.log10(((y - x) ** 2).mean().item() / 4), 1 / z.std().item()


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--minutes", type=float, default=30, help="length of the whole cosine, resumed parts included")
    ap.add_argument("--stage", choices=("crops", "whole", "decoder"), default="crops")
    ap.add_argument("--scenes", type=int, default=2400)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    common.threads(args.threads)
    torch.manual_seed(0)
    path, stop = args.work / "vae.pt", common.Stop()
    vae = new_vae()
    step, spent = 0, 0.0
    saved = torch.load(path) if path.exists() else None
    average = common.Average(vae, 0.997)
    if saved:
        vae.load_state_dict(saved["vae"])
        average.module.load_state_dict(saved["average"])
    decoder_only = args.stage == "decoder"
    if decoder_only:
        vae.load_state_dict(average.module.state_dict())   # the landed latents are the averaged encoder's
        for part in (vae.encoder, vae.quant_conv):
            part.requires_grad_(False)
    opt = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad], lr=args.lr, betas=(0.9, 0.99),
                            weight_decay=1e-3)
    if saved and saved["stage"] == args.stage:
        opt.load_state_dict(saved["opt"])
        step, spent = saved["step"], saved["spent"]
    rng, crops = random.Random(step), Crops(args.scenes, seed=0)
    held = common.pictures_to_tensor([i / np.float32(255) for i in Crops(16, seed=1).images])
    begun, seen = time.time(), time.time()
    print(f"{sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M parameters, from step {step}", flush=True)

    def keep() -> None:
        psnr, scale = look(average.module, held, args.work / "vae.png")
        print(f"{step} {spent:.1f} min psnr {psnr:.2f} scale {scale:.4f}", flush=True)
        common.save_atomic({"vae": vae.state_dict(), "average": average.module.state_dict(), "opt": opt.state_dict(),
                            "step": step, "spent": spent, "stage": args.stage, "scale": scale}, path)

    while spent < args.minutes and not stop.asked:
        for g in opt.param_groups:
            g["lr"] = args.lr * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * spent / args.minutes)) + 1e-5
        x, cover = crops.batch(64 if args.stage == "crops" else rng.choice(MIXED), rng)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(vae, x, cover, decoder_only)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        step += 1
        average.update(vae, step)
        now = time.time()
        spent, seen = spent + min(now - seen, 20) / 60, now     # a stopped process (SIGSTOP) spends nothing
        if step % 100 == 0:
            print(f"{step} {spent:.1f} min loss {loss.item():.4f} {step / (now - begun):.2f}/s", flush=True)
        if step % 300 == 0:
            keep()
    keep()


if __name__ == "__main__":
    main()
