"""Pictures of facet beside pictures of diffusers, same model, prompt and seed: how far apart they are.

    python tools/compare_diffusers.py --facet build/facet --model models/demo

Runs `facet generate` and StableDiffusionXLPipeline (f32, CPU) for one step, four steps, guidance with a negative prompt, a
batch of three and 320x192, and prints the relative L2 of the final latents and the share of pixel values within 1/255.
Exits 1 when a case is beyond 1e-4 or below 99.9 %. With --dtype bf16 torch's own distance is printed beside facet's.
Needs torch, diffusers and transformers, without ftfy.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors.numpy import load_file

assert importlib.util.find_spec("ftfy") is None, "ftfy changes what the slow CLIPTokenizer does"

CASES = {
    "one step": {"steps": 1, "guidance": 0.0},
    "four steps": {"steps": 4, "guidance": 0.0},
    "guided": {"steps": 2, "guidance": 5.0, "negative": "a blue square"},
    "guided, no negative": {"steps": 2, "guidance": 5.0},
    "batch of three": {"steps": 1, "guidance": 0.0, "batch": 3},
    "320x192": {"steps": 1, "guidance": 0.0, "size": (320, 192)},
}


def ours(facet: Path, model: Path, prompt: str, seed: int, dtype: str, case: dict, folder: Path):
    """Latents and pictures of `facet generate`."""
    batch = case.get("batch", 1)
    command = [facet, "generate", "-m", model, "-p", prompt, "--seed", seed, "--steps", case["steps"], "--guidance"]
    command += [case["guidance"], "--dtype", dtype, "--save-latents", folder / "l.safetensors", "-o", folder / "o.png"]
    command += ["-q", "-b", batch]
    if "negative" in case:
        command += ["-n", case["negative"]]
    if "size" in case:
        command += ["-W", case["size"][0], "-H", case["size"][1]]
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
    names = ["o.png"] if batch == 1 else [f"o-{i + 1}.png" for i in range(batch)]
    pictures = np.stack([np.asarray(Image.open(folder / n).convert("RGB")) for n in names])
    return load_file(folder / "l.safetensors")["latents"], pictures


def theirs(pipe: StableDiffusionXLPipeline, prompt: str, seed: int, case: dict, latent: bool):
    """The same of diffusers; noise is always drawn in f32."""
    batch = case.get("batch", 1)
    size = {"width": case["size"][0], "height": case["size"][1]} if "size" in case else {}
    negative = {"negative_prompt": [case["negative"]] * batch} if "negative" in case else {}
    draw = diffusers.utils.torch_utils.randn_tensor

    def f32_draw(*args, dtype=None, **kwargs):
        return draw(*args, dtype=torch.float32, **kwargs).to(dtype)

    modules = (
        diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl,
        diffusers.schedulers.scheduling_euler_ancestral_discrete,
        diffusers.schedulers.scheduling_euler_discrete,
    )
    for m in modules:
        m.randn_tensor = f32_draw
    result = pipe(
        prompt=[prompt] * batch,
        num_inference_steps=case["steps"],
        guidance_scale=case["guidance"],
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="latent" if latent else "np",
        **size,
        **negative,
    ).images
    for m in modules:
        m.randn_tensor = draw
    return result.float().numpy() if latent else (result * 255).round().astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b.astype(np.float64)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facet", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompt", default="a red circle above a blue square")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    args = parser.parse_args()
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    want = {n: (theirs(pipe, args.prompt, args.seed, c, True), theirs(pipe, args.prompt, args.seed, c, False))
            for n, c in CASES.items()}
    torch_own = dict.fromkeys(CASES, 0.0)
    if args.dtype == "bf16":
        for part in (pipe.unet, pipe.text_encoder, pipe.text_encoder_2):
            part.to(torch.bfloat16)
        torch_own = {n: distance(theirs(pipe, args.prompt, args.seed, c, True), want[n][0]) for n, c in CASES.items()}
    bad = 0
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as tmp:
            latents, pictures = ours(args.facet, args.model, args.prompt, args.seed, args.dtype, case, Path(tmp))
        d = distance(latents, want[name][0])
        close = float((np.abs(pictures.astype(int) - want[name][1].astype(int)) <= 1).mean())
        bound = 1e-4 if args.dtype == "f32" else max(2e-2, 1.2 * torch_own[name])
        wrong = d > bound or (args.dtype == "f32" and close < 0.999)
        bad += wrong
        print(f"{name:20} latents {d:.2e} (bound {bound:.1e}, torch {torch_own[name]:.1e})  within 1/255: {close:.5f}"
              f"{'  WRONG' if wrong else ''}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
