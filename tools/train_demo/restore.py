"""Writes landed weights back as checkpoints, so that training can go on without the original ones.

    python tools/train_demo/restore.py --model models/demo --work WORK

Writes WORK/vae.pt and WORK/checker.pt if they are missing; the optimizers start anew.  The U-Net needs no
checkpoint: unet.py has --from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import checker
import common
import torch
from diffusers import AutoencoderKL


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, required=True)
    ap.add_argument("--work", type=Path, required=True)
    args = ap.parse_args()
    vae = AutoencoderKL.from_pretrained(args.model / "vae").float()
    eye = checker.load(args.model / "checker")
    for name, net, more in (("vae", vae, {"stage": "landed", "scale": vae.config.scaling_factor}), ("checker", eye, {})):
        path = args.work / f"{name}.pt"
        if path.exists():
            print(f"{path} is there: left as it is")
            continue
        weights = net.state_dict()
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3).state_dict()
        common.save_atomic({"net": weights, "vae": weights, "average": weights, "opt": optimizer, "step": 0,
                            "spent": 0.0} | more, path)


if __name__ == "__main__":
    main()
