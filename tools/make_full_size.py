"""Makes a model of SDXL's full size with random weights, in f16, for timing: 7 GB on disk.

    python tools/make_full_size.py OUT

The configs are those of SDXL Turbo; the tokenizers are the twins' small ones; pictures are noise. Needs torch, diffusers and
transformers, without ftfy, and about 8 GB of memory.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel
from make_twin import learn_bpe, tokenizer_files
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.13025,
}
TEXT = [
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
     "hidden_act": "quick_gelu", "projection_dim": 768},
    {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
     "hidden_act": "gelu", "projection_dim": 1280},
]
PARTS = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
}


def write_tokenizers(out: Path) -> None:
    """Both tokenizers, with the pads of SDXL's."""
    vocab, merges = learn_bpe(160)
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        (out / name).mkdir(parents=True, exist_ok=True)
        for file, content in tokenizer_files(vocab, merges, pad, 77).items():
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            (out / name / file).write_text(text, encoding="utf-8")


def main() -> None:
    """One part after the other, so that only one is in memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    write_tokenizers(out)
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, **PARTS}
    (out / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    turbo = EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing")
    turbo.save_pretrained(out / "scheduler")
    for i, (name, kind) in enumerate((("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection))):
        kind(CLIPTextConfig(vocab_size=49408, eos_token_id=2, **TEXT[i])).save_pretrained(out / name)
    AutoencoderKL(**VAE).save_pretrained(out / "vae")
    UNet2DConditionModel(**UNET).save_pretrained(out / "unet")


if __name__ == "__main__":
    main()
