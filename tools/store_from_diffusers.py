"""Makes an activation store with diffusers, on any device: the same folder that `facet capture` writes.

    python tools/store_from_diffusers.py --model stabilityai/sdxl-turbo --device cuda --dtype f16 \
        --prompts prompts.txt --blocks down.2.1,up.0.1 -o store

Options are those of `facet capture`. Prompt i, from 0, has its own CPU generator with seed S + i. A delta is what the block's
proj_out gives, before the residual is added. Shards that are there already are kept, so a run that was stopped goes on.
Needs torch, diffusers, transformers (without ftfy, which changes the tokens) and safetensors.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import math
import re
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from safetensors.torch import save_file

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
ORDER = {"down": 0, "mid": 1, "up": 2}


class Stop(Exception):
    """Ends a run after the last step that is wanted."""


def read_prompts(path: Path) -> list[tuple[str, int | None]]:
    """(prompt, its own seed or None); a line each, .jsonl with the key prompt, .csv with the column prompt."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    elif path.suffix == ".csv":
        rows = [
            r
            for r in csv.DictReader(text.splitlines(keepends=True))
            if (r["prompt"] or "").strip()
        ]
    else:
        rows = [
            {"prompt": line.rstrip("\r")} for line in text.split("\n") if line.strip()
        ]
    found = [
        (r["prompt"], int(r["seed"]) if r.get("seed") not in (None, "") else None)
        for r in rows
    ]
    if not found:
        raise SystemExit(f"{path}: no prompt in it")
    return found


def short_name(name: str) -> str:
    """unet.down_blocks.2.attentions.1 -> down.2.1"""
    m = re.fullmatch(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)", name)
    if m:
        return ".".join(m.groups())
    m = re.fullmatch(r"mid_block\.attentions\.(\d+)", name)
    return f"mid.{m[1]}" if m else name


def find_blocks(
    unet: torch.nn.Module, wanted: str
) -> list[tuple[str, str, Transformer2DModel]]:
    """(short name, full name, module) in the order in which they run."""
    every = [
        (short_name(n), f"unet.{n}", m)
        for n, m in unet.named_modules()
        if isinstance(m, Transformer2DModel)
    ]
    every.sort(
        key=lambda b: (ORDER[b[0].split(".")[0]], [int(x) for x in b[0].split(".")[1:]])
    )
    patterns = wanted.split(",")
    for p in patterns:
        if not any(
            fnmatch.fnmatchcase(s, p) or fnmatch.fnmatchcase(f, p) for s, f, _ in every
        ):
            raise SystemExit(
                f"no block {p}; there are {' '.join(s for s, _, _ in every)}"
            )
    return [
        b
        for b in every
        if any(fnmatch.fnmatchcase(n, p) for p in patterns for n in b[:2])
    ]


def parse_steps(text: str | None, steps: int) -> list[int]:
    """'1,3-5' -> [1, 3, 4, 5]; None: all."""
    if text is None:
        return list(range(1, steps + 1))
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        chosen |= set(range(int(first), int(last or first) + 1))
    if not chosen or min(chosen) < 1 or max(chosen) > steps:
        raise SystemExit(f"--at-steps {text}: want steps from 1 to {steps}")
    return sorted(chosen)


class Recorder:
    """Hooks that keep the maps of one batch: maps[block][step], [rows of the batch, H, W, C] f32."""

    def __init__(
        self, unet: torch.nn.Module, blocks: list, what: str, at: list[int]
    ) -> None:
        self.at, self.step = at, 0
        self.maps: list[dict[int, torch.Tensor]] = [{} for _ in blocks]
        self.grid = [(0, 0)] * len(blocks)
        self.handles = [unet.register_forward_pre_hook(self.start, with_kwargs=True)]
        self.handles.append(unet.register_forward_hook(self.end))
        for i, (_, _, module) in enumerate(blocks):
            before = self.keeps_input(i, what)
            self.handles.append(
                module.register_forward_pre_hook(before, with_kwargs=True)
            )
            if what == "out":
                self.handles.append(module.register_forward_hook(self.keeps_output(i)))
            if what == "delta":
                self.handles.append(
                    module.proj_out.register_forward_hook(self.keeps_output(i))
                )

    def start(self, *_: object) -> None:
        self.step += 1

    def end(self, *_: object) -> None:
        if self.step == self.at[-1]:
            raise Stop

    def keep(self, i: int, x: torch.Tensor) -> None:
        if self.step not in self.at:
            return
        h, w = self.grid[i]
        maps = (
            x.permute(0, 2, 3, 1)
            if x.dim() == 4
            else x.reshape(x.shape[0], h, w, x.shape[-1])
        )
        self.maps[i][self.step] = maps.float().cpu()

    def keeps_input(self, i: int, what: str):
        def hook(_: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            self.grid[i] = (x.shape[2], x.shape[3])
            if what == "in":
                self.keep(i, x)

        return hook

    def keeps_output(self, i: int):
        def hook(_: torch.nn.Module, __: tuple, out: object) -> None:
            self.keep(i, out if isinstance(out, torch.Tensor) else out[0])

        return hook

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def run_batch(
    pipe, blocks: list, args: argparse.Namespace, prompts: list, first: int
) -> list[dict[str, torch.Tensor]]:
    """The rows of each block for these prompts, in the order prompt, step, branch, y, x."""
    recorder = Recorder(pipe.unet, blocks, args.what, args.at)
    generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in prompts]
    try:
        pipe(
            prompt=[p for p, _ in prompts],
            negative_prompt=None
            if args.negative is None
            else [args.negative] * len(prompts),
            num_inference_steps=args.steps,
            guidance_scale=args.guidance,
            width=args.width,
            height=args.height,
            generator=generators,
            output_type="latent",
        )
    except Stop:
        pass
    finally:
        recorder.close()
    n, guided = len(prompts), args.guidance > 1
    branches = {"cond": [1], "uncond": [0], "both": [0, 1]}[args.branch]
    out = []
    for i in range(len(blocks)):
        h, w = recorder.grid[i]
        parts = []
        for k in range(n):
            for step in args.at:
                for b in branches:
                    rows = recorder.maps[i][step][
                        (n + k) if guided and b == 1 else k
                    ].reshape(h * w, -1)
                    parts.append((first + k, step, b, rows))
        cells = torch.stack(
            torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1
        ).reshape(-1, 2)
        places = [
            torch.tensor([p[j] for p in parts]).repeat_interleave(h * w)
            for j in range(3)
        ]
        out.append(
            {
                "rows": torch.cat([p[3] for p in parts]),
                "prompt": places[0].to(torch.int32),
                "step": places[1].to(torch.int16),
                "branch": places[2].to(torch.uint8),
                "yx": cells.to(torch.int16).repeat(len(parts), 1),
            }
        )
    return out


def to_store_type(rows: torch.Tensor, name: str, where: str) -> dict[str, torch.Tensor]:
    """The rows in the store's type; i8: each row over its largest magnitude / 127, which is kept as `scale`."""
    if name == "i8":
        scale = rows.abs().amax(1) / 127
        whole = (rows / scale.clamp_min(1e-37)[:, None]).round()
        return {"rows": whole.to(torch.int8).contiguous(), "scale": scale}
    out = rows.to(DTYPES[name])
    if not torch.isfinite(out).all():
        raise SystemExit(
            f"{where}: {name} cannot hold {rows.abs().max().item():g}: choose another --store-dtype"
        )
    return {"rows": out.contiguous()}


def write_shard(
    path: Path, batches: list[dict[str, torch.Tensor]], name: str, where: str
) -> None:
    tensors = {key: torch.cat([b[key] for b in batches]) for key in batches[0]}
    rows = tensors["rows"]
    if not torch.isfinite(rows).all():
        raise SystemExit(f"{where}: the block wrote a number that is not finite")
    tensors |= to_store_type(rows, name, where)
    back = tensors["rows"].double()
    if name == "i8":
        back *= tensors["scale"].double()[:, None]
    sums = {
        "squares": repr(float(rows.double().square().sum())),
        "error": repr(float((rows.double() - back).square().sum())),
    }
    temp = path.with_suffix(".tmp-torch")
    save_file(tensors, temp, metadata={"format": "pt", **sums})
    temp.rename(path)


def capture(
    pipe, blocks: list, args: argparse.Namespace, prompts: list[tuple[str, int]]
) -> dict:
    per_shard = args.batch * max(1, args.shard_prompts // args.batch)
    n_shards = -(-len(prompts) // per_shard)
    described = [
        {
            "name": s,
            "full_name": f,
            "d": 0,
            "grid": [0, 0],
            "rows_per_prompt": 0,
            "rows": 0,
            "squares": 0.0,
            "error": 0.0,
            "shards": [],
        }
        for s, f, _ in blocks
    ]
    for shard in range(n_shards):
        mine = prompts[shard * per_shard : (shard + 1) * per_shard]
        name = f"{shard:0{max(5, len(str(n_shards - 1)))}d}.safetensors"
        paths = [args.output / s / name for s, _, _ in blocks]
        batches: list[list[dict[str, torch.Tensor]]] = [[] for _ in blocks]
        if not all(p.exists() for p in paths):
            for at in range(0, len(mine), args.batch):
                rows = run_batch(
                    pipe,
                    blocks,
                    args,
                    mine[at : at + args.batch],
                    shard * per_shard + at,
                )
                for i, r in enumerate(rows):
                    batches[i].append(r)
            for i, p in enumerate(paths):
                p.parent.mkdir(parents=True, exist_ok=True)
                write_shard(
                    p,
                    batches[i],
                    args.store_dtype,
                    f"{blocks[i][0]}, prompts from {shard * per_shard}",
                )
        print(
            f"{min(len(prompts), (shard + 1) * per_shard)} of {len(prompts)} prompts",
            flush=True,
        )
        for d, p in zip(described, paths):
            count_shard(d, p, len(mine))
    for d in described:
        squares, error = d.pop("squares"), d.pop("error")
        if not math.isnan(error):
            d["rounding_error"] = (error / squares) ** 0.5 if squares > 0 else 0.0
    return {"blocks": described, "shard_prompts": per_shard}


def count_shard(block: dict, path: Path, prompts: int) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        n, d = file.get_slice("rows").get_shape()
        last = file.get_tensor("yx")[-1].tolist()
        kept = file.metadata() or {}
    block["d"], block["grid"], block["rows_per_prompt"] = (
        d,
        [last[0] + 1, last[1] + 1],
        n // prompts,
    )
    block["rows"] += n
    for key in ("squares", "error"):
        block[key] += float(kept.get(key, "nan"))  # an older shard does not say
    block["shards"].append({"file": path.name, "rows": n})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-m", "--model", required=True, help="a diffusers folder or a hub name"
    )
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only so many prompts")
    parser.add_argument("--blocks", default="down.2.1,mid.0,up.0.0,up.0.1")
    parser.add_argument("--what", choices=["delta", "in", "out"], default="delta")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--at-steps")
    parser.add_argument("--guidance", type=float, default=0.0)
    parser.add_argument("-n", "--negative")
    parser.add_argument("--branch", choices=["cond", "uncond", "both"], default="cond")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-W", "--width", type=int)
    parser.add_argument("-H", "--height", type=int)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--shard-prompts", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="f32")
    parser.add_argument("--store-dtype", choices=[*DTYPES, "i8"], default="f16")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    if args.branch != "cond" and args.guidance <= 1:
        raise SystemExit(
            f"--branch {args.branch} needs --guidance above 1: without guidance there is no uncond half"
        )
    args.at = parse_steps(args.at_steps, args.steps)
    prompts = [
        (p, args.seed + i if s is None else s)
        for i, (p, s) in enumerate(read_prompts(args.prompts))
    ][: args.limit]
    if (args.output / "store.json").exists():
        raise SystemExit(f"{args.output} holds a store already: choose another folder")
    pipe = StableDiffusionXLPipeline.from_pretrained(
        args.model, torch_dtype=DTYPES[args.dtype]
    ).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    size = pipe.default_sample_size * pipe.vae_scale_factor
    args.width, args.height = args.width or size, args.height or size
    blocks = find_blocks(pipe.unet, args.blocks)
    with torch.no_grad():
        made = capture(pipe, blocks, args, prompts)
    options = {
        key: getattr(args, key)
        for key in (
            "what",
            "steps",
            "guidance",
            "negative",
            "branch",
            "seed",
            "width",
            "height",
            "batch",
        )
    }
    options |= {"at_steps": args.at, "shard_prompts": made["shard_prompts"]}
    store = {
        "format": "facet-store",
        "version": 1,
        "made_by": f"diffusers, torch {torch.__version__}",
        "model": {
            "name": Path(args.model).name,
            "hash": None,
            "backend": args.device,
            "precision": args.dtype,
        },
        "dtype": args.store_dtype,
        "options": options,
        "blocks": made["blocks"],
        "prompts": [{"text": p, "seed": s} for p, s in prompts],
    }
    temp = args.output / "store.json.tmp-torch"
    temp.write_text(
        json.dumps(store, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    temp.rename(args.output / "store.json")


if __name__ == "__main__":
    main()
