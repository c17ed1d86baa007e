"""Which k and how many features suit the demo model: trains every pair, and scores it on captions nobody trained on.

    python tools/train_demo/preset_table.py --facet build/facet --work WORK [--blocks down.2.1,up.0.1]

Captures the training prompts into WORK/preset-store once, trains k {4, 8, 16} x {2, 4, 8} features per width in each
block, and prints a table in Markdown: explained variance and never-active share on the held-out captions' rows, and
how many factor values have a single feature with F1 >= .8 there (found on one half, scored on the other).
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import common
import score_features
import taps
import torch

import model as m

STEPS = 1000                                             # as `facet demo` trains


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--facet", required=True)
    ap.add_argument("--model", type=Path, default=Path("models/demo"))
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--blocks", default=",".join(m.BLOCKS))
    ap.add_argument("--pictures", type=int, default=600)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    common.threads(args.threads)
    blocks, store = args.blocks.split(","), args.work / "preset-store"
    if not (store / "store.json").exists():
        subprocess.run([args.facet, "capture", "--model", args.model, "--prompts", args.model / "prompts" / "train.txt",
                        "--blocks", args.blocks, "--batch", "8", "-q", "-o", store], check=True)
    captions = (args.model / "prompts" / "heldout.txt").read_text(encoding="utf-8").splitlines()[:args.pictures]
    rows = score_features.Rows(taps.Machine(args.model), captions, seed=6)
    print("| k | features | " + " | ".join(f"{b}: EV, never active, found" for b in blocks) + " | found in some block |")
    print("|---|---|" + "---|" * (len(blocks) + 1))
    for k in (4, 8, 16):
        for expansion in (2, 4, 8):
            cells, best = [], {key: 0.0 for key in score_features.VALUES}
            for b in blocks:
                out = args.work / "preset-saes" / f"{b}-k{k}-x{expansion}"
                if not out.exists():
                    subprocess.run([args.facet, "train", "--store", store, "--block", b, "--preset", "demo", "--k", str(k),
                                    "--steps", str(STEPS), "--expansion-factor", str(expansion), "-q", "-o", out],
                                   check=True)
                with torch.no_grad():
                    found, _, ev, idle = score_features.find(rows, score_features.Sae(out), b)
                cells.append(f"{ev:.3f}, {idle:.0%}, {sum(f.f1 >= 0.8 for f in found.values())}")
                best = {key: max(best[key], f.f1) for key, f in found.items()}
            print(f"| {k} | {expansion} x | " + " | ".join(cells) + f" | {sum(v >= 0.8 for v in best.values())} of {len(best)} |",
                  flush=True)


if __name__ == "__main__":
    main()
