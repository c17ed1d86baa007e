#!/usr/bin/env python3
"""Expected values of facet's operations, computed by PyTorch: inputs and outputs, feature maps as [B,H,W,C].

    python tools/make_op_goldens.py tests/vectors/ops.safetensors
"""

import argparse
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def nhwc(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def products(t: Tensors) -> None:
    x, w, b = torch.randn(5, 24), torch.randn(7, 24) / 5, torch.randn(7)
    t |= {"linear.x": x, "linear.w": w, "linear.b": b, "linear.y": F.linear(x, w, b)}
    for act, f in {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}.items():
        t[f"linear.{act}"] = f(F.linear(x, w, b))
    x, w, b = torch.randn(2, 6, 9, 7), torch.randn(8, 6, 3, 3) / 7, torch.randn(8)
    t |= {"conv.x": nhwc(x), "conv.w": w, "conv.b": b, "conv.y": nhwc(F.conv2d(x, w, b, padding=1))}
    t["conv.stride2"] = nhwc(F.conv2d(x, w, b, stride=2, padding=1))
    t["conv.high"] = nhwc(F.conv2d(F.pad(x, (0, 1, 0, 1)), w, b, stride=2))  # the VAE's down-sampler
    t["conv.up2"] = nhwc(F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, b, padding=1))
    t["conv.up_odd"] = nhwc(F.conv2d(F.interpolate(x, size=(13, 17), mode="nearest"), w, b, padding=1))


def norms(t: Tensors) -> None:
    x, g, b = torch.randn(2, 24, 5, 6) * 3 + 1, torch.randn(24), torch.randn(24)
    t |= {"group_norm.x": nhwc(x), "group_norm.g": g, "group_norm.b": b}
    t["group_norm.y"] = nhwc(F.group_norm(x, 8, g, b, 1e-5))
    t["group_norm.silu"] = nhwc(F.silu(F.group_norm(x, 8, g, b, 1e-6)))
    x = torch.randn(7, 40) * 2 - 3
    g, b = torch.randn(40), torch.randn(40)
    t |= {"layer_norm.x": x, "layer_norm.g": g, "layer_norm.b": b, "layer_norm.y": F.layer_norm(x, (40,), g, b, 1e-5)}


def attention(t: Tensors) -> None:
    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (3, 8)).transpose(1, 2)

    q, k, v = torch.randn(2, 10, 24), torch.randn(2, 13, 24), torch.randn(2, 13, 24)
    t |= {"attention.q": q, "attention.k": k, "attention.v": v}
    y = F.scaled_dot_product_attention(heads(q), heads(k), heads(v))
    t["attention.y"] = y.transpose(1, 2).flatten(2).contiguous()
    y = F.scaled_dot_product_attention(heads(k), heads(k), heads(v), is_causal=True)
    t["attention.causal"] = y.transpose(1, 2).flatten(2).contiguous()


def elementwise(t: Tensors) -> None:
    x = torch.randn(6, 34) * 3
    value, gate = x.chunk(2, dim=-1)  # as diffusers' GEGLU
    t |= {"geglu.x": x, "geglu.y": value * F.gelu(gate)}
    t |= {"act.silu": F.silu(x), "act.gelu": F.gelu(x), "act.quick_gelu": x * torch.sigmoid(1.702 * x), "act.relu": F.relu(x)}
    x = torch.randn(2, 5, 7, 8)
    t |= {"pool.x": nhwc(x), "pool.avg2": nhwc(F.avg_pool2d(x, 2)), "pool.max3": nhwc(F.max_pool2d(x, 3)), "pool.all": x.mean((2, 3))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(20)
    torch.set_num_threads(1)
    tensors: Tensors = {}
    for part in (products, norms, attention, elementwise):
        part(tensors)
    meta = {"torch": torch.__version__, "python": platform.python_version(), "seed": "20"}
    save_file(tensors, args.out, metadata=meta)
    print(f"{args.out}: {len(tensors)} tensors, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
