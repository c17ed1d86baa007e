"""Makes docs/facet.png from a finished `facet demo`: a strong picture, its map, and painting.

    python tools/make_readme_picture.py --demo out/demo --block down.2.1 --feature 192 --pair 1

The map is computed from the held-out rows and the SAE, as the page draws it: dark where the feature
is not active.
Needs numpy, Pillow and safetensors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

SIDE, GAP, SHOW_SEED = 256, 12, 200000


def maps(demo: Path, block: str, feature: int) -> np.ndarray:
    """[pairs, 8, 8] of the pairs that the page shows: the second half of the held-out store"""
    w = load_file(demo / "saes" / block / "sae_weights.safetensors")
    k = json.loads((demo / "saes" / block / "cfg.json").read_text())["k"]
    shards = sorted((demo / "store-heldout" / block).glob("*.safetensors"))
    rows = np.concatenate([load_file(s)["rows"].astype(np.float32) for s in shards])
    z = (rows - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    least = np.partition(z, -k, axis=1)[:, -k]
    z = np.where(z[:, feature] >= least, z[:, feature].clip(0), 0).reshape(-1, 8, 8)
    return z[len(z) // 2 :]


def main() -> None:
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--demo", type=Path, default=Path("out/demo"))
    ap.add_argument("--block", required=True)
    ap.add_argument("--feature", type=int, required=True)
    ap.add_argument("--pair", type=int, default=0, help="which of the four painted pictures")
    ap.add_argument("-o", "--output", type=Path, default=Path("docs/facet.png"))
    args = ap.parse_args()
    every = maps(args.demo, args.block, args.feature)
    best = int(every.mean((1, 2)).argmax())
    pictures = args.demo / "pictures"
    top = Image.open(pictures / f"show-{best}.png").convert("RGB")
    dark = Image.fromarray((205 * (1 - every[best] / every[best].max())).astype(np.uint8))
    night = Image.new("RGB", top.size, (12, 14, 24))
    spot = Image.composite(night, top, dark.resize(top.size, Image.Resampling.NEAREST))
    painted = Image.open(pictures / f"{args.block}-{args.feature}-painted-{args.pair}.png")
    seed = json.loads(painted.text["facet"])["seed"]
    clean = Image.open(pictures / f"show-{seed - SHOW_SEED}.png").convert("RGB")
    sheet = Image.new("RGB", (4 * SIDE + 6 * GAP, SIDE + 2 * GAP), (251, 250, 247))
    for i, tile in enumerate((top, spot, clean, painted.convert("RGB"))):
        sheet.paste(tile, (GAP + i * (SIDE + GAP) + GAP * (i > 1), GAP))
    sheet.save(args.output, optimize=True)


if __name__ == "__main__":
    main()
