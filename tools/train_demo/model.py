"""The demo model's networks: SDXL's topology, tiny.  No command; the other scripts build and load with it."""

from __future__ import annotations

import json
from pathlib import Path

import common
import tokens
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

CHANNELS = (24, 48, 96)
TEXT_WIDTH = 64
BLOCKS = {
    "down.2.1": "down_blocks.2.attentions.1", "mid.0": "mid_block.attentions.0",
    "up.0.0": "up_blocks.0.attentions.0", "up.0.1": "up_blocks.0.attentions.1",
}
TIME_IDS = torch.tensor([[256.0, 256, 0, 0, 256, 256]])
LAST = 999                                                # the timestep of pure noise
SIGNAL, NOISE = common.signal_rates()


def new_text_encoders(vocab: dict[str, int]) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    shared = {
        "vocab_size": len(vocab), "max_position_embeddings": tokens.LENGTH, "bos_token_id": vocab[tokens.START],
        "eos_token_id": vocab[tokens.END], "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_size": TEXT_WIDTH, "intermediate_size": 2 * TEXT_WIDTH, "projection_dim": TEXT_WIDTH}
    one = CLIPTextModel(CLIPTextConfig(hidden_act="quick_gelu", pad_token_id=vocab[tokens.END], **shared))
    two = CLIPTextModelWithProjection(CLIPTextConfig(hidden_act="gelu", pad_token_id=vocab["!"], **shared))
    return one, two


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32, block_out_channels=CHANNELS, layers_per_block=2, cross_attention_dim=2 * TEXT_WIDTH,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2), attention_head_dim=(1, 1, 2), norm_num_groups=8,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=6 * 16 + TEXT_WIDTH)


class Model(nn.Module):
    """Both text encoders and the U-Net, with one step of v-prediction turned into x0."""

    def __init__(self, folder: Path, fresh: bool) -> None:
        """folder: an exported model; only its tokenizers are read if fresh"""
        super().__init__()
        self.tokenizers = [CLIPTokenizer.from_pretrained(folder / n) for n in ("tokenizer", "tokenizer_2")]
        if fresh:
            vocab = json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
            self.te1, self.te2 = new_text_encoders(vocab)
            self.unet = new_unet()
        else:
            self.te1 = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
            self.te2 = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2").float()
            self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").float()
        self.known: dict[str, tuple[list[int], list[int]]] = {}

    def ids(self, captions: list[str]) -> list[torch.Tensor]:
        new = sorted(set(captions) - self.known.keys())
        if new:
            pair = [t(new, padding="max_length", truncation=True).input_ids for t in self.tokenizers]
            self.known.update(zip(new, zip(*pair)))
        return [torch.tensor([self.known[c][k] for c in captions]) for k in (0, 1)]

    def text(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """-> token context [B,T,128] (penultimate states of both), pooled vector [B,64]"""
        a, b = self.ids(captions)
        one, two = self.te1(a, output_hidden_states=True), self.te2(b, output_hidden_states=True)
        return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds

    def x0(self, x: torch.Tensor, t: torch.Tensor | int, context: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        if isinstance(t, int):
            t = torch.full((len(x),), t)
        extra = {"text_embeds": pooled, "time_ids": TIME_IDS.expand(len(x), 6)}
        v = self.unet(x, t, context, added_cond_kwargs=extra).sample
        return SIGNAL[t].view(-1, 1, 1, 1) * x - NOISE[t].view(-1, 1, 1, 1) * v

    def several(self, x: torch.Tensor, context: torch.Tensor, pooled: torch.Tensor, times: list[int],
                generator: torch.Generator) -> torch.Tensor:
        """Several steps of the ancestral Euler sampler: that from x, then those at `times`."""
        y, before = self.x0(x, LAST, context, pooled), LAST
        for t in times:
            x = renoised(y, x, before, t, generator)
            y, before = self.x0(x, t, context, pooled), t
        return y


def renoised(x0: torch.Tensor, x: torch.Tensor, before: int, t: torch.Tensor | int,
             generator: torch.Generator | None = None) -> torch.Tensor:
    """What the ancestral Euler sampler gives the step t after the step `before` said x0 of x: it keeps sigma / sigma before
    of the noise in x and draws the rest afresh."""
    t = torch.as_tensor(t).expand(len(x)).view(-1, 1, 1, 1)
    kept = (NOISE[t] / SIGNAL[t]) / (NOISE[before] / SIGNAL[before])
    old = (x - SIGNAL[before] * x0) / NOISE[before]
    fresh = torch.randn(x.shape, generator=generator)
    return SIGNAL[t] * x0 + NOISE[t] * (kept * old + (1 - kept ** 2).sqrt() * fresh)


def shut_unwatched(unet: UNet2DConditionModel) -> None:
    """Words enter through the four watched blocks alone: the other cross-attentions' outputs stay zero."""
    for name, module in unet.named_modules():
        if name.endswith(".attn2") and not name.startswith(tuple(b + "." for b in BLOCKS.values())):
            for p in module.to_out[0].parameters():
                p.data.zero_()
                p.requires_grad_(False)


@torch.no_grad()
def low_frequency_start(unet: UNet2DConditionModel, n: int = 4) -> None:
    """The first channels start as the noise's block means at every level, at unit variance, and nothing else writes
    into them at first.  Without it the place of objects is not learned in 40,000 samples."""

    def silent(layer: nn.Module) -> None:
        layer.weight[:n] = 0
        layer.bias[:n] = 0

    silent(unet.conv_in)
    for c in range(n):
        unet.conv_in.weight[c, c] = 4 / 9
    for block in unet.down_blocks:
        for resnet in block.resnets:
            silent(resnet.conv2)
            if resnet.conv_shortcut is not None:
                silent(resnet.conv_shortcut)
                for c in range(n):
                    resnet.conv_shortcut.weight[c, c] = 1
        for attention in getattr(block, "attentions", []):
            silent(attention.proj_out)
        for down in block.downsamplers or []:
            silent(down.conv)
            for c in range(n):
                down.conv.weight[c, c, 1:, 1:] = 1 / 4
    for part in [r.conv2 for r in unet.mid_block.resnets] + [a.proj_out for a in unet.mid_block.attentions]:
        silent(part)
