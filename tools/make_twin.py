"""Makes the random twins of the SDXL topology and what PyTorch and diffusers compute with them.

    python tools/make_twin.py --out tests/golden/twin

Writes for every twin NAME.json (its configs, tokenizers and the list of its weights: shape, scale, offset; the weights
themselves are torch.randn of seed + index, which the tests draw again) and NAME.safetensors (named stages as
[batch, height, width, channels], final latents, pictures). Needs torch, diffusers and transformers, without ftfy.
"""

import argparse
import copy
import importlib.util
import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

try:
    from transformers.models.clip.tokenization_clip import bytes_to_unicode
except ImportError:
    raise SystemExit(f"transformers {transformers.__version__} has no slow CLIPTokenizer any more: take 4.57") from None

assert importlib.util.find_spec("ftfy") is None, "ftfy changes what the slow CLIPTokenizer does"

TEXT = """a photo of a red circle above a blue square on a green background, soft light, two small yellow stars
below the large triangle, the cat's picture isn't there, they're we've i'm we'll he'd a painting of the
sea at night with the moon and the stars over the mountains, portrait of an old man with a hat, striped
texture, dotted texture, bright colours, the left and the right side, one two three four five, cinematic
lighting, highly detailed, a photograph of a dog in the snow"""


def learn_bpe(n_merges: int) -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges in the layout of CLIP's files."""
    symbols = bytes_to_unicode()
    words = Counter("".join(symbols[b] for b in w.encode()) for w in TEXT.replace(",", " ,").split())
    split = {w: tuple(w[:-1]) + (w[-1] + "</w>",) for w in words}
    merges: list[str] = []
    for _ in range(n_merges):
        pairs: Counter = Counter()
        for w, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[w]
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(" ".join(best))
        for w, parts in split.items():
            out: list[str] = []
            i = 0
            while i < len(parts):
                if parts[i : i + 2] == best:
                    out.append("".join(best))
                    i += 2
                else:
                    out.append(parts[i])
                    i += 1
            split[w] = tuple(out)
    base = list(symbols.values())
    vocab = (
        base + [c + "</w>" for c in base] + ["".join(m.split()) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    )
    return {t: i for i, t in enumerate(dict.fromkeys(vocab))}, merges


def tokenizer_files(vocab: dict[str, int], merges: list[str], pad: str, length: int) -> dict:
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]

    def token(text: str, normalized: bool) -> dict:
        return {
            "content": text,
            "lstrip": False,
            "normalized": normalized,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }

    added = {str(start): token("<|startoftext|>", True), str(end): token("<|endoftext|>", True)}
    if pad == "!":
        added = {str(vocab["!"]): token("!", False), **added}
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "bos_token": "<|startoftext|>",
        "do_lower_case": True,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "model_max_length": length,
        "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": "<|endoftext|>",
    }
    return {
        "vocab.json": vocab,
        "merges.txt": "#version: 0.2\n" + "\n".join(merges) + "\n",
        "tokenizer_config.json": config,
    }


def fill(model: torch.nn.Module, seed: int, dtype: torch.dtype) -> tuple[dict, int]:
    """Random weights that keep activations near one; returns the list of tensors and the next seed."""
    tensors = {}
    state = model.state_dict()
    for name, old in state.items():
        if name.endswith("position_ids"):
            continue
        shape = list(old.shape)
        scale, offset = 0.1, 0.0
        if "embedding." in name and name.endswith("embedding.weight"):
            scale = 0.5
        elif len(shape) >= 2:
            scale = 1.0 / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):
            offset = 1.0
        scale = float(np.float32(scale))
        x = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) * scale + offset
        state[name] = x.to(dtype).to(torch.float32)
        tensors[name] = [shape, scale, offset, seed]
        seed += 1
    model.load_state_dict(state)
    return tensors, seed


A = {
    "unet": {
        "sample_size": 16,
        "block_out_channels": [16, 24, 40],
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 1, 2],
        "attention_head_dim": [1, 3, 5],
        "cross_attention_dim": 64,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 6,
        "projection_class_embeddings_input_dim": 20 + 36,
        "in_channels": 4,
        "out_channels": 4,
    },
    "vae": {
        "block_out_channels": [8, 16, 24, 32],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "sample_size": 128,
        "scaling_factor": 0.13025,
    },
    "text": [
        {
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "hidden_act": "quick_gelu",
            "projection_dim": 24,
            "eos": "old",
        },
        {
            "hidden_size": 40,
            "intermediate_size": 72,
            "num_hidden_layers": 2,
            "num_attention_heads": 5,
            "hidden_act": "gelu",
            "projection_dim": 20,
            "eos": "own",
        },
    ],
    "length": 24,
    "scheduler": EulerAncestralDiscreteScheduler,
    "force_zeros": False,
    "dtype": "F32",
    "shards": 1,
    "seed": 1000,
    "scheduler_config": {
        "timestep_spacing": "trailing",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
    },
}
B = {
    "unet": {
        "sample_size": 12,
        "block_out_channels": [16, 32],
        "layers_per_block": [1, 2],
        "norm_num_groups": 4,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "transformer_layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": 56,
        "use_linear_projection": False,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 12 + 24,
        "in_channels": 4,
        "out_channels": 4,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
    },
    "vae": {
        "block_out_channels": [8, 12],
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "sample_size": 24,
        "scaling_factor": 0.5,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "mid_block_add_attention": False,
    },
    "text": [
        {
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "hidden_act": "gelu",
            "projection_dim": 8,
            "eos": "own",
        },
        {
            "hidden_size": 24,
            "intermediate_size": 56,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "hidden_act": "quick_gelu",
            "projection_dim": 12,
            "eos": "old",
        },
    ],
    "length": 16,
    "scheduler": EulerDiscreteScheduler,
    "force_zeros": True,
    "dtype": "F16",
    "shards": 3,
    "seed": 5000,
    "scheduler_config": {
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
    },
}
CASES = {
    "a": {
        "one": {
            "prompt": ["a red circle above the sea"],
            "seed": 7,
            "steps": 1,
            "guidance": 0.0,
            "size": (128, 128),
            "stages": True,
            "decode": True,
            "bf16": True,
        },
        "four": {
            "prompt": ["two blue stars, isn't it"],
            "seed": 11,
            "steps": 4,
            "guidance": 0.0,
            "size": (128, 128),
            "bf16": True,
        },
        "guided": {
            "prompt": ["portrait of an old man"],
            "negative": "a hat, dotted texture",
            "seed": 3,
            "steps": 2,
            "guidance": 5.0,
            "size": (96, 128),
            "decode": True,
            "bf16": True,
        },
        "batch": {
            "prompt": ["a dog", "the moon at night", ""],
            "seed": 5,
            "steps": 2,
            "guidance": 0.0,
            "size": (64, 64),
        },
        "singles": {
            "prompt": ["a dog", "the moon at night", ""],
            "seeds": [5, 6, 7],
            "steps": 2,
            "guidance": 0.0,
            "size": (64, 64),
        },
        "wide": {"prompt": ["mountains"], "seed": 9, "steps": 1, "guidance": 0.0, "size": (192, 320)},
        "odd": {
            "prompt": ["the left and the right side"],
            "seed": 13,
            "steps": 2,
            "guidance": 0.0,
            "size": (88, 72),
            "decode": True,
        },
    },
    "b": {
        "one": {
            "prompt": ["a cat's picture"],
            "prompt_2": ["snow"],
            "seed": 21,
            "steps": 1,
            "guidance": 1.0,
            "size": (24, 24),
            "stages": True,
            "decode": True,
            "bf16": True,
        },
        "zeros": {
            "prompt": ["one two three"],
            "seed": 22,
            "steps": 3,
            "guidance": 3.0,
            "size": (32, 40),
            "decode": True,
            "sizes": {"original_size": (50, 60), "crops_coords_top_left": (3, 5), "target_size": (40, 44)},
        },
        "empty": {
            "prompt": ["one two three"],
            "negative": "",
            "seed": 22,
            "steps": 3,
            "guidance": 3.0,
            "size": (24, 24),
        },
    },
}


def build(spec: dict, folder: Path) -> tuple[StableDiffusionXLPipeline, dict]:
    seed, files, weights = spec["seed"], {}, {}
    dtype = {"F32": torch.float32, "F16": torch.float16}[spec["dtype"]]
    vocab, merges = learn_bpe(160)
    for i, pad in enumerate(["<|endoftext|>", "!"]):
        name = "tokenizer" if i == 0 else "tokenizer_2"
        for file, content in tokenizer_files(vocab, merges, pad, spec["length"]).items():
            files[f"{name}/{file}"] = content
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (folder / path).write_text(text, encoding="utf-8")
    tokenizers = [CLIPTokenizer.from_pretrained(folder / n) for n in ("tokenizer", "tokenizer_2")]
    encoders = []
    for i, t in enumerate(spec["text"]):
        t = dict(t)
        eos = 2 if t.pop("eos") == "old" else vocab["<|endoftext|>"]
        config = CLIPTextConfig(
            **t,
            vocab_size=len(vocab),
            max_position_embeddings=spec["length"],
            eos_token_id=eos,
            bos_token_id=vocab["<|startoftext|>"],
            pad_token_id=1,
        )
        encoders.append((CLIPTextModel, CLIPTextModelWithProjection)[i](config).eval())
    unet = UNet2DConditionModel(**spec["unet"]).eval()
    vae = AutoencoderKL(**spec["vae"]).eval()
    scheduler = spec["scheduler"](**spec["scheduler_config"])
    parts = {"text_encoder": encoders[0], "text_encoder_2": encoders[1], "unet": unet, "vae": vae}
    for name, model in parts.items():
        tensors, seed = fill(model, seed, dtype)
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        weights[name] = {
            "stem": stem,
            "dtype": spec["dtype"],
            "shards": spec["shards"] if name == "unet" else 1,
            "tensors": tensors,
        }
        config = json.loads(model.to_json_string()) if name in ("unet", "vae") else model.config.to_dict()
        if not name.startswith("text"):
            config = {k: v for k, v in config.items() if not k.startswith("_")} | {"_class_name": type(model).__name__}
        else:
            keep = [
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "hidden_act",
                "projection_dim",
                "vocab_size",
                "max_position_embeddings",
                "eos_token_id",
                "bos_token_id",
                "pad_token_id",
                "layer_norm_eps",
                "model_type",
                "attention_dropout",
                "initializer_factor",
                "initializer_range",
            ]
            config = {"architectures": [type(model).__name__]} | {k: config[k] for k in keep}
        files[f"{name}/config.json"] = config
    files["scheduler/scheduler_config.json"] = {
        k: v for k, v in dict(scheduler.config).items() if not k.startswith("_use")
    } | {"_class_name": type(scheduler).__name__}
    library = {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
    files["model_index.json"] = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": spec["force_zeros"],
    } | library
    pipe = StableDiffusionXLPipeline(
        vae,
        encoders[0],
        encoders[1],
        tokenizers[0],
        tokenizers[1],
        unet,
        scheduler,
        force_zeros_for_empty_prompt=spec["force_zeros"],
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {"seed": spec["seed"], "files": files, "weights": weights}


def nhwc(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).contiguous() if x.dim() == 4 else x.contiguous()


INNER = "down_blocks.%d.attentions.0"


def watch(unet: torch.nn.Module, out: dict, inner: str) -> list:
    """Hooks that keep what every named stage writes (the first call only), with blocks' inputs and deltas."""
    handles = []

    def keep(name: str, x) -> None:
        x = x[0] if isinstance(x, tuple) else getattr(x, "sample", x)
        out.setdefault(name, nhwc(x.detach().float().clone()))

    def add(name: str, module: torch.nn.Module) -> None:
        handles.append(module.register_forward_hook(lambda m, i, o: keep(f"unet.{name}:out", o)))

    named = ("conv_in", "time_embedding", "add_embedding", "conv_norm_out", "conv_out")
    kinds = ("ResnetBlock2D", "Transformer2DModel", "Downsample2D", "Upsample2D")
    for name, module in unet.named_modules():
        kind = type(module).__name__
        inside = name.startswith(inner + ".") and kind not in ("ModuleList", "Dropout")
        if name in named or kind in kinds or inside:
            add(name, module)
        if kind == "Transformer2DModel":
            handles.append(module.register_forward_pre_hook(lambda m, i, n=name: keep(f"unet.{n}:in", i[0])))

            def delta(m, i, o, n=name, block=module):
                x = o
                if block.use_linear_projection:
                    h = out[f"unet.{n}:in"]
                    x = x.reshape(h.shape)
                    out.setdefault(f"unet.{n}:delta", x.detach().clone())
                else:
                    keep(f"unet.{n}:delta", x)

            handles.append(module.proj_out.register_forward_hook(delta))
    return handles


def generate(pipe: StableDiffusionXLPipeline, case: dict, latent: bool):
    if "seeds" in case:
        generator = [torch.Generator("cpu").manual_seed(s) for s in case["seeds"]]
    else:
        generator = torch.Generator("cpu").manual_seed(case["seed"])
    height, width = case["size"]
    negative = case.get("negative")
    return pipe(
        prompt=case["prompt"],
        prompt_2=case.get("prompt_2"),
        negative_prompt=None if negative is None else [negative] * len(case["prompt"]),
        height=height,
        width=width,
        num_inference_steps=case["steps"],
        guidance_scale=case["guidance"],
        generator=generator,
        output_type="latent" if latent else "np",
        **case.get("sizes", {}),
    ).images


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def bf16_distance(pipe: StableDiffusionXLPipeline, case: dict, latents: torch.Tensor) -> float:
    """How far torch's own bf16 run (f32 noise) is from its f32 run."""
    parts = (pipe.unet, pipe.text_encoder, pipe.text_encoder_2)
    kept = [copy.deepcopy(p.state_dict()) for p in parts]
    for part in parts:
        part.to(torch.bfloat16)
    height, width = case["size"]
    shape = (len(case["prompt"]), 4, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)
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
    found = distance(generate(pipe, case, True).float(), latents)
    assert latents.shape == shape
    for m in modules:
        m.randn_tensor = draw
    for part, state in zip(parts, kept):
        part.to(torch.float32)
        part.load_state_dict(state)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for twin, spec in {"a": A, "b": B}.items():
        with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
            pipe, description = build(spec, Path(tmp))
            golden: dict[str, torch.Tensor] = {}
            cases = {}
            for name, case in CASES[twin].items():
                stages: dict[str, torch.Tensor] = {}
                inner = INNER % (1 if twin == "a" else 0)
                handles = watch(pipe.unet, stages, inner) if case.get("stages") else []
                latents = generate(pipe, case, True)
                for h in handles:
                    h.remove()
                golden |= {f"{name}/{k}": v for k, v in stages.items()}
                golden[f"{name}/latents"] = latents.float().contiguous()
                entry = {k: v for k, v in case.items() if k not in ("stages", "bf16")}
                entry["stages"] = bool(case.get("stages"))
                if case.get("decode"):
                    pictures = generate(pipe, case, False)
                    golden[f"{name}/pixels"] = torch.from_numpy((pictures * 255).round().astype(np.uint8)).contiguous()
                if case.get("stages"):
                    embeds = pipe.encode_prompt(
                        prompt=case["prompt"],
                        prompt_2=case.get("prompt_2"),
                        device="cpu",
                        do_classifier_free_guidance=False,
                    )
                    golden[f"{name}/text"], golden[f"{name}/pooled"] = embeds[0].float(), embeds[2].float()
                    picture = torch.randn(1, 3, 32, 48, generator=torch.Generator("cpu").manual_seed(1)).clamp(-1, 1)
                    picture = (picture / 2 + 0.5).mul(255).round()
                    golden[f"{name}/encode_pixels"] = picture.permute(0, 2, 3, 1).to(torch.uint8).contiguous()
                    mean = pipe.vae.encode(picture / 255 * 2 - 1).latent_dist.mean
                    golden[f"{name}/encoded"] = (mean * pipe.vae.config.scaling_factor).float().contiguous()
                if case.get("bf16"):
                    entry["bf16_distance"] = bf16_distance(pipe, case, latents)
                cases[name] = entry
                print(twin, name, tuple(latents.shape), float(latents.std()), entry.get("bf16_distance"))
            description["cases"] = cases
            description["versions"] = {
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
            }
            save_file(golden, out / f"{twin}.safetensors")
            text = json.dumps(description, ensure_ascii=False, separators=(",", ":"))
            (out / f"{twin}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
