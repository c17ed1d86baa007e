"""Makes tests/golden/edit/: what every edit does to the final latents of the twins, by hooks on diffusers.

    python tools/make_edit_goldens.py --out tests/golden/edit

The formulas are written here as in the table of include/facet/recipe.h, in f64, on the output of each block's proj_out.
Writes edits.json (settings, edits in their text form, sizes and seeds of the random SAEs), edits.safetensors (final
latents), mask.png and the source recipes. SAEs are torch.randn of a seed, which the test draws again. Needs what
make_twin.py needs, and Pillow.
"""
import argparse
import json
import math
import re
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
from make_twin import A, B, build, generate
from PIL import Image
from safetensors.torch import save_file

BLOCKS = {
    "a": {"down.2.1": ("down_blocks.2.attentions.1", 100), "mid.0": ("mid_block.attentions.0", 101),
          "up.0.1": ("up_blocks.0.attentions.1", 102), "up.1.0": ("up_blocks.1.attentions.0", 103)},
    "b": {"down.0.0": ("down_blocks.0.attentions.0", 110), "mid.0": ("mid_block.attentions.0", 111)},
}
K = 5
SETTINGS = {
    "a": {
        "one": {"prompt": ["a red circle above the sea"], "seed": 7, "steps": 1, "guidance": 0.0, "size": (96, 128)},
        "three": {"prompt": ["two blue stars"], "seed": 11, "steps": 3, "guidance": 0.0, "size": (128, 96)},
        "guided": {"prompt": ["portrait of an old man"], "negative": "a hat", "seed": 3, "steps": 2, "guidance": 4.0,
                   "size": (96, 128)},
        "odd": {"prompt": ["the left and the right side"], "seed": 13, "steps": 1, "guidance": 0.0, "size": (88, 72)},
        "pair": {"prompt": ["a dog", "the moon at night"], "seed": 5, "steps": 2, "guidance": 3.0, "size": (64, 96)},
    },
    "b": {"zeros": {"prompt": ["one two three"], "seed": 22, "steps": 2, "guidance": 3.0, "size": (24, 40)}},
}
# Runs that features are taken from, with the size and steps of those that take them.
SOURCES = {
    "one": {"prompt": ["a dog in the snow"], "seed": 31, "steps": 1, "guidance": 0.0, "size": (96, 128)},
    "three": {"prompt": ["the sea at night"], "seed": 32, "steps": 3, "guidance": 0.0, "size": (128, 96)},
    "guided": {"prompt": ["the cat's picture"], "negative": "snow", "seed": 33, "steps": 2, "guidance": 3.0, "size": (96, 128)},
    "pair": {"prompt": ["mountains", "a photograph"], "seed": 34, "steps": 2, "guidance": 0.0, "size": (64, 96), "index": 1},
}
# {a} {b} {c}: the three features of the block that are strongest in the run without edits.
EVERYWHERE = {
    "add": ["mid.0:{a} +3 @box:0.13,0.21,0.77,0.9"],
    "subtract": ["up.0.1:{b} -6 unit=std @ellipse:0.1,0.15,0.85,0.7"],
    "add_max": ["down.2.1:{c} +1 unit=max", "up.1.0:{a} +4 unit=one @mask.png"],
    "ablate": ["up.0.1:{a} x0", "up.0.1:{b} x0"],
    "scale": ["mid.0:{a} x-3 @mask.png"],
    "set": ["mid.0:{b} =2.5 @map:{a}>0.2", "up.1.0:{a} =-1"],
    "only": ["mid.0:{a} only 1.5"],
    "only_masked": ["up.0.1:{a} only 1 @box:0,0.3,0.6,1"],
    "rebuild": ["mid.0 rebuild"],
    "rebuild_masked": ["up.0.1 rebuild @ellipse:0,0,0.9,1", "down.2.1 rebuild"],
    "zero": ["up.0.1 zero"],
    "zero_masked": ["mid.0 zero @mask.png"],
    "all_in_one": ["mid.0 rebuild @box:0,0,0.55,1", "mid.0:{a} x2", "mid.0:{b} +2", "mid.0:{c} =1 @mask.png"],
    "dynamic": ["down.2.1:{a} +5", "up.0.1:{a} x0", "up.0.1:{b} x4 @box:0.2,0,1,0.8"],
    "static": ["down.2.1:{a} +5", "up.0.1:{a} x0 static", "up.0.1:{b} x4 @box:0.2,0,1,0.8 static"],
    "static_map": ["down.2.1:{a} +5", "up.0.1:{c} =2 @map:{a}>0.3 static", "mid.0 rebuild static"],
}
STEPS = {
    "first": ["mid.0:{a} +4 steps=1"],
    "last": ["mid.0:{a} +4 steps=2", "up.0.1 zero steps=2"],
    "split": ["mid.0 zero steps=1 @box:0,0,0.5,1", "mid.0 rebuild steps=2", "up.0.1:{a} x0 static steps=1-2"],
}
HALVES = {
    "cond": ["mid.0:{a} +3 branch=cond", "up.0.1:{a} x0 branch=cond"],
    "uncond": ["mid.0:{a} +3 branch=uncond", "up.0.1:{a} =2 branch=uncond static"],
    "only_both": ["mid.0:{a} only 1 branch=both"],
    "only_uncond": ["mid.0:{a} only 1 branch=uncond"],
    "zero_cond": ["mid.0 zero branch=cond", "mid.0 rebuild branch=uncond"],
}
TRANSPORT = {
    "from": ["mid.0 from {source}:{a},{b},{c} x2"],
    "from_masked": ["up.0.1 from {source}:{a},{b} x-1.5 @ellipse:0.2,0.1,1,0.9", "down.2.1 from {source}:{a} x3"],
    "transport": ["up.0.1 from {source}:{a},{b} x1 @box:0,0,0.5,1", "up.0.1:{c} x0 @box:0.3,0,1,1 static", "mid.0:{a} x0 static"],
}
B_CASES = {
    "add": ["mid.0:{a} +3 @box:0.13,0.21,0.77,0.9", "down.0.0:{a} x-2"],
    "only": ["mid.0:{a} only 1"],
    "static": ["down.0.0:{a} +4 @mask.png", "mid.0:{a} x0 static steps=2"],
    "rebuild": ["down.0.0 rebuild"],
}


# ---- SAEs ----

def make_sae(d: int, seed: int) -> dict:
    """What the test draws again: one generator, these tensors in this order, f32 products only."""
    g = torch.Generator("cpu").manual_seed(seed)
    f = 4 * d
    return {"d": d, "f": f, "k": K, "seed": seed,
            "w_enc": torch.randn(f, d, generator=g), "b_enc": torch.randn(f, generator=g) * np.float32(0.1).item(),
            "w_dec": torch.randn(f, d, generator=g) * np.float32(0.15).item(),
            "b_dec": torch.randn(d, generator=g) * np.float32(0.1).item(),
            "mean": torch.randn(f, generator=g).abs() + 0.5, "std": torch.randn(f, generator=g).abs() + 0.25,
            "max": torch.randn(f, generator=g).abs() + 4}


def codes(sae: dict, rows: torch.Tensor) -> torch.Tensor:
    """[..., D] -> [..., F]: the k largest pre-activations after ReLU, the rest zero."""
    pre = (rows - sae["b_dec"].double()) @ sae["w_enc"].double().T + sae["b_enc"].double()
    top = pre.topk(sae["k"], dim=-1)
    return torch.zeros_like(pre).scatter(-1, top.indices, top.values.clamp(min=0))


def decode(sae: dict, z: torch.Tensor) -> torch.Tensor:
    return z @ sae["w_dec"].double() + sae["b_dec"].double()


# ---- edits ----

def parse(text: str) -> dict:
    words = text.split()
    block, _, feature = words[0].partition(":")
    e = {"block": block, "feature": int(feature) if feature else None, "op": None, "v": 1.0, "unit": "mean", "mask": None,
         "steps": None, "branch": None, "static": False}
    i = 1
    while i < len(words):
        w = words[i]
        if w == "only":
            e["op"], e["v"], i = "only", float(words[i + 1]), i + 1
        elif w == "from":
            path, _, list_ = words[i + 1].rpartition(":")
            e["op"], e["source"], e["features"], i = "from", path, [int(x) for x in list_.split(",")], i + 1
        elif w in ("rebuild", "zero"):
            e["op"] = w
        elif w == "static":
            e["static"] = True
        elif m := re.fullmatch(r"(unit|branch|steps)=(.*)", w):
            e[m[1]] = m[2]
        elif w[0] == "@":
            e["mask"] = w[1:]
        elif w[0] in "+-":
            e["op"], e["v"] = "add", float(w)
        elif w[0] == "=":
            e["op"], e["v"] = "set", float(w[1:])
        elif w[0] == "x":
            e["op"], e["v"] = e["op"] or "scale", float(w[1:])
        i += 1
    return e


def covered(lo: float, hi: float, n: int) -> torch.Tensor:
    edges = torch.arange(n + 1, dtype=torch.float64) / n
    return ((edges[1:].clamp(max=hi) - edges[:-1].clamp(min=lo)).clamp(min=0)) * n


def mask_grid(mask: str, h: int, w: int, picture: np.ndarray) -> torch.Tensor:
    if mask.endswith(".png"):
        ph, pw = picture.shape
        rows = torch.stack([covered(y / ph, (y + 1) / ph, h) for y in range(ph)], dim=1)  # each cell's shares of pixels
        cols = torch.stack([covered(x / pw, (x + 1) / pw, w) for x in range(pw)], dim=1)
        return rows @ (torch.from_numpy(picture).double() / 255) @ cols.T
    kind, _, numbers = mask.partition(":")
    x0, y0, x1, y1 = (float(v) for v in numbers.split(","))
    if kind == "box":
        return covered(y0, y1, h)[:, None] * covered(x0, x1, w)[None, :]
    n = 400  # an ellipse by counting points, 160,000 a cell
    y = ((torch.arange(h * n) + 0.5) / (h * n) - (y0 + y1) / 2) / ((y1 - y0) / 2)
    x = ((torch.arange(w * n) + 0.5) / (w * n) - (x0 + x1) / 2) / ((x1 - x0) / 2)
    inside = (y[:, None] ** 2 + x[None, :] ** 2 <= 1).double()
    return inside.reshape(h, n, w, n).mean(dim=(1, 3))


class Editor:
    """Hooks on one pipeline: records codes, applies edits."""

    def __init__(self, pipe, twin: str, picture: np.ndarray):
        self.pipe, self.picture = pipe, picture
        self.unet = pipe.unet
        self.saes, self.names = {}, BLOCKS[twin]
        self.edits: list[dict] = []
        self.clean: dict = {}
        self.sources: dict = {}
        self.record: dict | None = None
        self.grid: dict = {}
        self.unet.register_forward_pre_hook(self.count)
        for short, (name, seed) in self.names.items():
            block = self.unet.get_submodule(name)
            self.saes[short] = make_sae(block.proj_out.weight.shape[0], seed)
            block.register_forward_pre_hook(lambda m, i, s=short: self.grid.__setitem__(s, i[0].shape))
            block.proj_out.register_forward_hook(lambda m, i, o, s=short, b=block: self.hook(s, b, o))

    def count(self, module, args) -> None:
        self.step += 1

    def hook(self, short: str, block, out: torch.Tensor) -> torch.Tensor:
        b, c, h, w = self.grid[short]
        linear = out.dim() == 3
        rows = (out if linear else out.permute(0, 2, 3, 1)).reshape(b, h * w, c).double()
        if self.record is not None:
            self.record[short, self.step] = codes(self.saes[short], rows)
        mine = [e for e in self.edits if e["block"] == short and self.in_window(e)]
        if not mine:
            return out
        rows = self.apply(short, rows, h, w, mine)
        rows = rows.float().reshape(out.shape) if linear else rows.float().reshape(b, h, w, c).permute(0, 3, 1, 2)
        return rows.contiguous()

    def in_window(self, e: dict) -> bool:
        if not e["steps"]:
            return True
        first, _, last = e["steps"].partition("-")
        return int(first) <= self.step <= int(last or first)

    def apply(self, short: str, rows: torch.Tensor, h: int, w: int, edits: list[dict]) -> torch.Tensor:
        sae, b = self.saes[short], rows.shape[0]
        z_in = codes(sae, rows)
        base, extra = rows.clone(), torch.zeros_like(rows)
        uncond = torch.zeros(b, dtype=torch.bool)
        if self.guided:
            uncond[: b // 2] = True
        for e in edits:
            z = self.clean[short, self.step] if e["static"] else z_in
            branch = e["branch"] or ("cond" if e["op"] == "only" else "both")
            acts = torch.ones(b, dtype=torch.bool) if branch == "both" else (uncond if branch == "uncond" else ~uncond)
            if not e["mask"]:
                m = torch.ones(b, h * w, dtype=torch.float64)
            elif e["mask"].startswith("map:"):
                feature, _, t = e["mask"][4:].partition(">")
                m = (z[..., int(feature)] > float(t)).double()
            else:
                m = mask_grid(e["mask"], h, w, self.picture).reshape(1, h * w).expand(b, -1)
            sign = torch.where(uncond, -1.0, 1.0).double()[:, None, None]
            on = acts.double()[:, None, None]
            m = m[..., None]
            if e["feature"] is not None:
                d = sae["w_dec"][e["feature"]].double()
                zf = z[..., e["feature"]][..., None]
                u = 1.0 if e["unit"] == "one" else float(sae[e["unit"]][e["feature"]])
            if e["op"] == "add":
                extra += on * sign * e["v"] * u * m * d
            elif e["op"] == "scale":
                extra += on * (e["v"] - 1) * zf * m * d
            elif e["op"] == "set":
                extra += on * (e["v"] * u - zf) * m * d
            elif e["op"] == "from":
                zs = self.sources[e["source"]][short, self.step]
                for f in e["features"]:
                    extra += on * sign * e["v"] * zs[None, :, f, None] * m * sae["w_dec"][f].double()
            elif e["op"] == "only":
                new = on * e["v"] * sae["k"] * u * d
                base = base + m * (new - base)
            elif e["op"] == "rebuild":
                base = base + on * m * (decode(sae, z) - base)
            elif e["op"] == "zero":
                base = base - on * m * base
        return base + extra

    def run(self, settings: dict, edits: list[dict], record: bool = False):
        self.step, self.edits, self.guided = 0, edits, settings["guidance"] > 1
        self.record = {} if record else None
        latents = generate(self.pipe, settings, True).float()
        return latents, self.record


def source_recipe(s: dict) -> dict:
    items = [{"prompt": p, "seed": s["seed"]} for p in s["prompt"]]
    r = {"format": "facet-recipe", "version": 1, "items": items, "index": s.get("index", 0), "joint_noise": True,
         "height": s["size"][0], "width": s["size"][1], "steps": s["steps"], "guidance": s["guidance"]}
    if "negative" in s:
        r["negative"] = s["negative"]
    return r


def make_picture() -> np.ndarray:
    y, x = np.mgrid[0:29, 0:37]
    wave = 0.5 + 0.5 * np.sin(x / 5.0) * np.cos(y / 4.0 + 0.3)
    return np.where((x - 20) ** 2 + (y - 12) ** 2 < 180, np.round(255 * wave), 0).astype(np.uint8)


def cases_of(twin: str, setting: str) -> dict:
    if twin == "b":
        return B_CASES
    few = ("add", "static", "rebuild_masked", "only")
    cases = {k: v for k, v in EVERYWHERE.items() if setting in ("one", "guided") or k in few}
    if setting in ("three", "guided"):
        cases = cases | STEPS
    if setting in ("guided", "pair"):
        cases = cases | HALVES
    return cases | TRANSPORT if setting in SOURCES else cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    picture = make_picture()
    Image.fromarray(picture).save(out / "mask.png", optimize=True)
    for name, s in SOURCES.items():
        (out / f"source-{name}.json").write_text(json.dumps(source_recipe(s), indent=1) + "\n")
    golden, listed, saes = {}, [], {}
    for twin, spec in {"a": A, "b": B}.items():
        with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
            pipe, _ = build(spec, Path(tmp))
            editor = Editor(pipe, twin, picture)
            saes[twin] = {s: {"d": v["d"], "f": v["f"], "k": v["k"], "seed": v["seed"]} for s, v in editor.saes.items()}
            for setting, s in SETTINGS[twin].items():
                clean, editor.clean = editor.run(s, [], record=True)
                golden[f"{twin}/{setting}/clean"] = clean
                if setting in SOURCES and twin == "a":
                    src = SOURCES[setting]
                    _, found = editor.run(src, [], record=True)
                    at = src.get("index", 0) + (len(src["prompt"]) if src["guidance"] > 1 else 0)
                    editor.sources = {f"source-{setting}.json": {k: v[at] for k, v in found.items()}}
                for case, texts in cases_of(twin, setting).items():
                    filled = []
                    for text in texts:
                        block = text.split(":")[0].split()[0]
                        # the features that matter here: strongest in the run without edits, or in the source
                        z = sum(v.sum(dim=(0, 1)) for (b, _), v in editor.clean.items() if b == block)
                        if " from " in text:
                            z = sum(v.sum(dim=0) for (b, _), v in editor.sources[f"source-{setting}.json"].items() if b == block)
                        a, b_, c = (int(i) for i in z.topk(3).indices)
                        filled.append(text.format(a=a, b=b_, c=c, source=f"source-{setting}.json"))
                    latents, _ = editor.run(s, [parse(t) for t in filled])
                    golden[f"{twin}/{setting}/{case}"] = latents
                    effect = float((latents - clean).norm() / clean.norm())
                    assert math.isfinite(effect) and effect > 1e-3, (twin, setting, case, effect)
                    listed.append({"twin": twin, "setting": setting, "case": case, "edits": filled, "effect": round(effect, 4)})
                    print(twin, setting, case, f"{effect:.3f}", filled)
    save_file({k: v.contiguous() for k, v in golden.items()}, out / "edits.safetensors")
    text = json.dumps({"versions": {"torch": torch.__version__, "diffusers": diffusers.__version__}, "saes": saes,
                       "settings": SETTINGS, "cases": listed}, indent=1)
    (out / "edits.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
