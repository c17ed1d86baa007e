"""Writes the demo model's folder: configs, tokenizers, prompts, the world's description, and what is trained of it.

    python tools/train_demo/export.py --work WORK --out models/demo

Weights are written in f16 from the averaged parameters of WORK/vae.pt, WORK/unet.pt and WORK/checker.pt; a part whose
checkpoint is missing gets its config alone.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import checker
import tokens
import torch
import vae as vae_stage
import world
from diffusers import EulerAncestralDiscreteScheduler
from safetensors.torch import save_file

import model as m

TRAIN_PROMPTS, HELD_PROMPTS = 2500, 600


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_prompts(folder: Path) -> None:
    def some(count: int, seed: int, without: set[str]) -> list[str]:
        rng, out = random.Random(seed), []
        while len(out) < count:
            text, _ = world.caption(world.random_scene(rng), rng)
            if text and text not in without:              # a file of lines has no place for the empty caption
                out.append(text)
        return out

    folder.mkdir(parents=True, exist_ok=True)
    train = some(TRAIN_PROMPTS, 11, set())
    held = list(dict.fromkeys(some(4 * HELD_PROMPTS, 12, set(train))))[:HELD_PROMPTS]
    for name, lines in (("train", train), ("heldout", held)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def words_of(factor: str, value: str) -> dict[str, Any]:
    words, phrase = [value], value
    if factor == "shape":
        words.append(world.plural(value))
    if factor == "background":
        phrase = world.BACKGROUNDS[value]
    if factor == "light":
        phrase = f"in {value} light"
    if factor == "number":
        words = phrase = value if value == "two" else "a"
        words = [words]
    silent = world.UNSAID.get(factor) == value and factor != "number"
    return {"name": value, "words": [] if silent else words, "phrase": "" if silent else phrase}


def write_world(path: Path) -> None:
    factors = [{"name": f, "unsaid": world.UNSAID.get(f), "decided_by": "noise" if f in world.BY_NOISE else "unsaid",
                "values": [words_of(f, v) for v in values]} for f, values in world.FACTORS.items()]
    write_json(path, {
        "format": "facet-world-1", "caption": "NUMBER [size] [texture] [colour] SHAPE [background] [light]",
        "any_shape": ["shape", "shapes"], "factors": factors, "picture": world.PX, "latent": world.LAT,
        "colours": {k: list(v) for k, v in world.COLOURS.items()}, "sizes": world.SIZES,
        "two_scale": world.TWO_SCALE, "lights": {k: list(v) for k, v in world.LIGHTS.items()},
        "noise": {"place": {"channel": 0, "sigma": 4.8, "half": 9, "sharpness": 6.0, "spread": 1.35},
                  "functionals": list(world.BY_NOISE), "spot": {"sigma": 3.6, "half": 7}}})


def write_configs(out: Path, scale: float) -> dict[str, torch.nn.Module]:
    """All JSON that diffusers reads; returns the modules to fill."""
    net = m.Model(out, fresh=True)
    vae = vae_stage.new_vae(scale)
    parts = {"unet": net.unet, "vae": vae, "text_encoder": net.te1, "text_encoder_2": net.te2}
    net.unet.save_config(out / "unet")
    vae.save_config(out / "vae")
    for name in ("text_encoder", "text_encoder_2"):
        parts[name].config.architectures = [type(parts[name]).__name__]
        parts[name].config.torch_dtype = torch.float16
        parts[name].config.save_pretrained(out / name)
    EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_spacing="trailing").save_pretrained(out / "scheduler")
    write_json(out / "model_index.json", {
        "_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.35.2", "_name_or_path": "facet-demo-turbo",
        "feature_extractor": [None, None], "force_zeros_for_empty_prompt": False, "image_encoder": [None, None],
        "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})
    return parts


def write_weights(state: dict[str, torch.Tensor], path: Path) -> None:
    half = {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}
    if not all(v.isfinite().all() for v in half.values()):
        raise SystemExit(f"{path}: a weight does not fit f16")
    part = path.with_suffix(".part")
    save_file(half, part, metadata={"format": "pt"})
    part.replace(path)
    print(f"{path}: {path.stat().st_size / 2 ** 20:.2f} MiB")


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--out", type=Path, required=True)
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokens.write(args.out / "tokenizer", tokens.END)
    tokens.write(args.out / "tokenizer_2", "!")
    write_prompts(args.out / "prompts")
    write_world(args.out / "world.json")
    write_json(args.out / "checker" / "checker.json", checker.description())
    ready = {n: torch.load(args.work / f"{n}.pt") for n in ("vae", "unet", "checker") if (args.work / f"{n}.pt").exists()}
    scale = round(ready["vae"]["scale"], 6) if "vae" in ready else 1.0
    parts = write_configs(args.out, scale)
    if "vae" in ready:
        parts["vae"].load_state_dict(ready["vae"]["average"])
        write_weights(parts["vae"].state_dict(), args.out / "vae" / "diffusion_pytorch_model.safetensors")
    if "unet" in ready:
        for name, prefix, file in (("unet", "unet.", "diffusion_pytorch_model"), ("text_encoder", "te1.", "model"),
                                   ("text_encoder_2", "te2.", "model")):
            state = {k[len(prefix):]: v for k, v in ready["unet"]["average"].items() if k.startswith(prefix)}
            parts[name].load_state_dict(state)
            write_weights(parts[name].state_dict(), args.out / name / f"{file}.safetensors")
    if "checker" in ready:
        write_weights(ready["checker"]["average"], args.out / "checker" / "checker.safetensors")


if __name__ == "__main__":
    main()
