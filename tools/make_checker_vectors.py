"""Makes tests/vectors/checker/: a tiny random checker, pictures, and what torch reads in them.

    python tools/make_checker_vectors.py [--model models/demo]

Needs torch, numpy and safetensors; versions are recorded in the metadata. The demo model's own
checker is run as well, on rough pictures made from a seed (demo.safetensors); where it has no
weights, that file is left as it is.
"""

import argparse
import json
import pathlib

import numpy as np
import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

VERSIONS = {
    "torch": torch.__version__,
    "numpy": np.__version__,
    "safetensors": safetensors.__version__,
}

TINY = {
    "format": "facet-checker-1",
    "weights": "checker.safetensors",
    "input": {"width": 20, "height": 14, "channels": 3, "layout": "CHW", "range": [-1, 1]},
    "layers": [
        {"op": "conv", "name": "stem", "in": 3, "out": 6, "kernel": 4, "stride": 2, "padding": 1},
        {"op": "group_norm", "name": "norm", "channels": 6, "groups": 3, "eps": 1e-5},
        {"op": "relu"},
        {"op": "conv", "name": "next", "in": 6, "out": 5, "kernel": 3, "stride": 3, "padding": 0},
        {"op": "relu", "name": "seen"},
        {"op": "flatten"},
        {"op": "linear", "name": "hidden", "in": 30, "out": 9},
        {"op": "relu"},
        {"op": "linear", "name": "answer", "in": 9, "out": 5},
        {"op": "from", "name": "seen"},
        {"op": "global_max"},
        {"op": "linear", "name": "where", "in": 5, "out": 4},
    ],
    "heads": [
        {
            "name": "shape",
            "kind": "class",
            "offset": 0,
            "size": 3,
            "values": ["circle", "square", "star"],
        },
        {
            "name": "readable",
            "kind": "class",
            "offset": 3,
            "size": 2,
            "values": ["readable", "unreadable"],
        },
        {"name": "centres", "kind": "points", "offset": 5, "size": 4},
    ],
    "unreadable_above": 0.5,
}


def weights(layers: list[dict], seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator("cpu").manual_seed(seed)
    out = {}
    for d in layers:
        shape: tuple[int, ...] = ()
        if d["op"] == "conv":
            shape = (d["out"], d["in"], d["kernel"], d["kernel"])
        elif d["op"] == "linear":
            shape = (d["out"], d["in"])
        elif d["op"] == "group_norm":
            shape = (d["channels"],)
        if shape:
            fan = max(1, int(np.prod(shape[1:])))
            out[d["name"] + ".weight"] = (torch.randn(shape, generator=g) * 1.5 / fan**0.5).half()
            out[d["name"] + ".bias"] = (torch.randn(shape[0], generator=g) * 0.2).half()
    return out


def run(layers: list[dict], w: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """pixels uint8 [B,H,W,3] -> the chains' ends side by side"""
    x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    made, ends = {}, []
    for d in layers:
        a, b = (w.get(f"{d.get('name')}.{part}") for part in ("weight", "bias"))
        if a is not None:
            a, b = a.float(), b.float()
        if d["op"] == "conv":
            x = F.conv2d(x, a, b, d["stride"], d["padding"])
        elif d["op"] == "group_norm":
            x = F.group_norm(x, d["groups"], a, b, d["eps"])
        elif d["op"] == "linear":
            x = F.linear(x, a, b)
        elif d["op"] == "relu":
            x = F.relu(x)
        elif d["op"] == "flatten":
            x = x.flatten(1)
        elif d["op"] == "global_max":
            x = x.amax((2, 3))
        elif d["op"] == "from":
            ends.append(x)
            x = made[d["name"]]
        made[d.get("name")] = x
    return torch.cat([*ends, x], 1)


def pictures(count: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Smooth coloured patches: cheap to make again from the seed by anyone."""
    g = torch.Generator("cpu").manual_seed(seed)
    low = torch.randn(count, 3, 4, 4, generator=g)
    x = F.interpolate(low, size=(height, width), mode="nearest")
    return ((x * 0.4 + 0.5) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def main() -> None:
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/vectors/checker"))
    ap.add_argument("--model", type=pathlib.Path, default=pathlib.Path("models/demo"))
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    w = weights(TINY["layers"], 6)
    (args.out / "checker.json").write_text(json.dumps(TINY, indent=1) + "\n", encoding="utf-8")
    save_file(w, args.out / "checker.safetensors", metadata=VERSIONS)
    x = pictures(19, 14, 20, 4)
    save_file(
        {"pixels": x, "logits": run(TINY["layers"], w, x)},
        args.out / "tiny.safetensors",
        metadata=VERSIONS,
    )
    real = args.model / "checker" / "checker.safetensors"
    if real.exists():
        layers = json.loads((args.model / "checker" / "checker.json").read_text(encoding="utf-8"))[
            "layers"
        ]
        # the pictures are flat in 64-pixel patches, so that their 4x4 colours alone need keeping
        x = pictures(6, 256, 256, 5)
        out = {
            "patches": x[:, 32::64, 32::64].contiguous(),
            "logits": run(layers, load_file(real), x),
        }
        save_file(out, args.out / "demo.safetensors", metadata=VERSIONS)


if __name__ == "__main__":
    main()
