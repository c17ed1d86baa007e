"""Trains the text encoders and the U-Net to draw the world in one step.

    python tools/train_demo/unet.py --work WORK --minutes 120                       # resumes WORK/unet.pt
    python tools/train_demo/unet.py --work WORK --minutes 60 --from models/demo     # goes on from landed weights

Reads WORK/pool and WORK/vae.pt and models/demo/tokenizer; writes WORK/unet.pt and WORK/unet.png.

Four things besides the plain regression on x0, all for the sake of truth (the reasons stand in the model card):
words enter through the watched blocks alone; each of these blocks is taught its own kinds of words, by captions
whose other words are about something else; the pooled vector is mostly that of no caption or of another one; and
small heads on the 8x8 stages, gone before the end, say what is to be drawn where and what the noise decides.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import codes
import common
import numpy as np
import pool as pool_stage
import team
import torch
import torch.nn.functional as F
import world
from PIL import Image
from torch import nn

import model as m

KINDS = {"down.2.1": ("number", "background"), "mid.0": ("shape", "size"), "up.0.0": ("texture",),
         "up.0.1": ("colour", "light")}
NAMES = list(world.FACTORS)
SEES = {"background": "rest", "light": "all", "number": "all"}      # cells a factor is asked of; others: the objects
ASKED = {f: 0.6 for f in world.BY_NOISE}                # where words leave a factor open, the picture's own loss says little
LOCAL = world.BY_NOISE[1:]                              # read under the object: colour, shape, size
VALUED = 3.0                                          # weight of the local functionals' own values, asked of each head
DROP = 0.45                                           # share of a factor's names that captions leave out
PAIRS = 0.4                                           # share of later steps' samples that are sure to show two objects
FIRST = 0.4                                           # share of samples at the first step
OWN = 0.9                                             # share of those at t = 749 that go on from what the net draws first
BACK = 3.0                                            # how much their error counts where it teaches that first step
STAGES = (("down.2.1",), ("down.2.1", "mid.0"), tuple(KINDS))       # blocks whose words each head can know
SHEET = ["a large red circle on grey", "a small blue star at night", "a striped green triangle in a meadow",
         "two yellow rings at sunset", "a large dotted purple square by the ocean", "a white cross on pink in warm light",
         "two small orange stars by the ocean in dim light", "a shape at night", ""]


class Heads(nn.Module):
    """Deep supervision on the outputs of down.2.1, mid and up.0; never saved into the model."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        width = 1 + sum(map(len, world.FACTORS.values()))
        self.heads = nn.ModuleList(nn.Sequential(nn.Conv2d(m.CHANNELS[2], 64, 1), nn.GELU(), nn.Conv2d(64, width, 1))
                                   for _ in STAGES)
        self.values = nn.ModuleList(nn.Sequential(nn.Conv2d(m.CHANNELS[2], 64, 1), nn.GELU(), nn.Conv2d(64, len(LOCAL), 1))
                                    for _ in STAGES)
        self.seen: dict[int, torch.Tensor] = {}
        for k, part in enumerate((unet.down_blocks[2].attentions[1], unet.mid_block, unet.up_blocks[0].attentions[2])):
            part.register_forward_hook(self._keeper(k))

    def _keeper(self, k: int) -> Any:
        def keep(_: nn.Module, __: Any, out: Any) -> None:
            self.seen[k] = out[0] if isinstance(out, tuple) else getattr(out, "sample", out)
        return keep

    def loss(self, mask: torch.Tensor, labels: torch.Tensor, local: torch.Tensor,
             rules: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """mask [B,1,8,8], labels [B,7], local functionals [B,3], rules [B]: whether the noise follows
        them -> loss, share of cells read right by the last head"""
        total, right = torch.zeros(()), {}
        cells = {"rest": 1 - mask[:, 0], "all": torch.ones_like(mask[:, 0])}
        for k, head in enumerate(self.heads):
            out = head(self.seen[k].float())
            off = ((self.values[k](self.seen[k].float()) - local[:, :, None, None]) ** 2).mean(1, keepdim=True)
            here = mask * rules[:, None, None, None]
            total = total + VALUED * (off * here).sum() / here.sum().clamp(min=1)
            right[f"value{k}"] = ((off * here).sum() / here.sum().clamp(min=1)).item()
            total = total + 0.5 / len(STAGES) * F.binary_cross_entropy_with_logits(out[:, :1], mask)
            known, first = {f for b in STAGES[k] for f in KINDS[b]}, 1
            for c, (factor, values) in enumerate(world.FACTORS.items()):
                logits, first = out[:, first:first + len(values)], first + len(values)
                if factor not in known:
                    continue
                weight = cells.get(SEES.get(factor, ""), mask[:, 0])
                want = labels[:, c, None, None].expand(-1, 8, 8)
                total = total + ASKED.get(factor, 0.03) * (F.cross_entropy(logits, want, reduction="none") * weight).sum() / weight.sum()
                right[factor] = (((logits.argmax(1) == want) * weight).sum() / weight.sum()).item()
        return total, right


class NoWords:
    """Attention processor of the shut cross-attentions: the zero that they would compute."""

    def __call__(self, attn: nn.Module, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


class PlainAttention:
    """The same attention as the default one's, in plain products: its backward pass is faster for heads this small."""

    def __call__(self, attn: nn.Module, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None,
                 *_: Any, **__: Any) -> torch.Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(p(x)) for p, x in ((attn.to_q, hidden_states), (attn.to_k, source),
                                                            (attn.to_v, source)))
        weight = ((q * attn.scale) @ k.transpose(1, 2)).softmax(-1, dtype=q.dtype)
        return attn.to_out[0](attn.batch_to_head_dim(weight @ v))


class OwnWords:
    """Gives each watched block a context of its own while `contexts` holds one."""

    def __init__(self, unet: nn.Module) -> None:
        self.contexts: dict[str, torch.Tensor] = {}
        for block, path in m.BLOCKS.items():
            unet.get_submodule(path).register_forward_pre_hook(self._giver(block), with_kwargs=True)

    def _giver(self, block: str) -> Any:
        def give(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            if block in self.contexts:
                kwargs["encoder_hidden_states"] = self.contexts[block]
            return args, kwargs
        return give


class Batches:
    def __init__(self, pool: pool_stage.Pool, held: set[str], seed: int) -> None:
        self.pool, self.held = pool, held
        self.rng, self.gen = random.Random(seed), np.random.default_rng(seed)
        self.pairs = np.array([i for i, s in enumerate(pool.scenes) if s["number"] == "two"])

    def caption(self, scene: world.Scene) -> tuple[str, set[str]]:
        while True:
            text, named = world.caption(scene, self.rng, DROP)
            if text not in self.held or len(world.said(scene, named)) < 4:
                return text, named

    def other_words(self, scene: world.Scene, named: set[str], own: tuple[str, ...]) -> str:
        """A caption that says the same about the block's own kinds, and says about the others what it likes."""
        other = world.random_scene(self.rng)
        _, also = world.caption(other, self.rng)
        return world.caption_of({f: (scene if f in own else other)[f] for f in NAMES},
                                {f for f in NAMES if f in (named if f in own else also)})

    def plan(self, scene: world.Scene, text: str, named: set[str]) -> tuple[codes.Plan, world.Scene, str, set[str]]:
        """What is done to this sample, and the caption that then goes with its picture."""
        (mode, factor), before = codes.draw(self.rng), (scene, text, named)
        values, unsaid = world.FACTORS[factor], world.UNSAID.get(factor)
        plan = codes.Plan(mode, NAMES.index(factor), values.index(scene[factor]))
        if mode == codes.NUDGE:
            return plan, scene, text, named
        if mode == codes.NONE or (mode == codes.PAINT) == (scene[factor] == unsaid) and unsaid:
            return codes.Plan(), scene, text, named
        if mode == codes.PAINT:                           # the caption is silent about what the picture shows
            scene, named = {**scene, factor: unsaid or scene[factor]}, named if unsaid else named - {factor}
        else:                                             # the caption tells another value than the picture shows
            other = self.rng.choice([v for v in values if v != scene[factor]])
            plan.value = values.index(other)
            scene, named = {**scene, factor: other}, named | {factor}
        text = world.caption_of(scene, named)
        if text in self.held:
            return codes.Plan(), *before
        return plan, scene, text, named

    def draw(self, n: int, own_share: float, first: list[bool],
             ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str], dict[str, list[str]], list[codes.Plan]]:
        """first: samples at the first step -> noise, its local functionals [n,3], scenes' numbers, captions,
        captions of each block, what is done to each sample"""
        index = self.gen.integers(len(self.pool.scenes), size=n)
        pairs = ~np.array(first) & (self.gen.random(n) < PAIRS)          # of later steps: there it is pairs that move
        index[pairs] = self.gen.choice(self.pairs, size=int(pairs.sum()))
        noise = pool_stage.renew(self.pool.smooth[index], self.gen)
        want = np.full((n, len(world.BY_NOISE)), np.nan, np.float32)
        want[:, 0] = self.gen.standard_normal(n)
        captions, by_block, plans = [], {b: [] for b in KINDS}, []
        for i, j in enumerate(index):
            shown = scene = self.pool.scenes[j]
            text, named = self.caption(scene)
            plan, by_noise = codes.Plan(), set(world.BY_NOISE) - named
            if first[i]:
                plan, scene, text, named = self.plan(scene, text, named)
                by_noise -= {NAMES[plan.factor]} if plan.mode == codes.PAINT else set()
                by_noise |= {NAMES[plan.factor]} & set(world.BY_NOISE) if plan.mode == codes.ERASE else set()
            plans.append(plan)
            captions.append(text)
            for k, factor in enumerate(world.BY_NOISE):
                if factor in by_noise:
                    values = world.FACTORS[factor]
                    want[i, k] = world.draw_in_bin(values.index(shown[factor]), len(values), self.rng)
            split = self.rng.random() < own_share
            for block, own in KINDS.items():
                by_block[block].append(self.other_words(scene, named, own) if split else text)
        at = world.places(noise)[:, 0]
        noise = world.set_functionals(noise, at, want)
        values = world.functionals(noise, at)[:, 1:]
        return torch.from_numpy(noise), torch.from_numpy(values), torch.from_numpy(index), captions, by_block, plans


def later(n: int) -> torch.Tensor:
    """timesteps of later steps: most of them those of four trailing steps, and of these most the first, whose fresh noise
    would move the objects; the others anywhere. Only the first goes on from what the net itself has drawn: the others
    would learn from pictures gone astray to smear (6 to 8 % unreadable, 1 % when they go on from the truth)."""
    usual = torch.tensor([749, 499, 249])[torch.multinomial(torch.tensor([2.0, 1.0, 1.0]), n, replacement=True)]
    return torch.where(torch.rand(n) < 0.9, usual, torch.randint(0, 1000, (n,)))


def loss_of(error: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return ((1 + 3 * mask) * (error ** 2 + 0.3 * error.abs())).sum()


@torch.no_grad()
def sheet(net: m.Model, vae: nn.Module, scale: float, path: Path) -> None:
    rows, gen = [], torch.Generator().manual_seed(77)
    context, pooled = net.text(SHEET)
    for _ in range(3):
        y = net.x0(torch.randn(len(SHEET), 4, 32, 32, generator=gen), m.LAST, context, pooled)
        rows.append(torch.cat(list(vae.decode(y / scale).sample.clamp(-1, 1)), 2))
    picture = ((torch.cat(rows, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(picture).resize((len(SHEET) * 176, 3 * 176), Image.Resampling.LANCZOS).save(path)


def parse() -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--model", type=Path, default=Path("models/demo"), help="folder with the tokenizers and prompts")
    ap.add_argument("--from", dest="start", type=Path, help="exported model to go on from, if WORK has no checkpoint")
    ap.add_argument("--minutes", type=float, default=120, help="length of the whole schedule, resumed parts included")
    ap.add_argument("--spent", type=float, default=0, help="minutes of it that count as over at least: the rate begins lower")
    ap.add_argument("--batch", type=int, default=48, help="of all processes together")
    ap.add_argument("--lr", type=float, default=1.2e-3, help="of AdamW: vectors, embeddings, first and last layers")
    ap.add_argument("--muon-lr", type=float, default=3e-3, help="of Muon: matrices and kernels")
    ap.add_argument("--heads-until", type=float, default=0.45, help="share of the time after which the heads are gone")
    ap.add_argument("--codes", type=float, default=0.02, help="weight of the cosine loss on what the blocks write")
    ap.add_argument("--own-share", type=float, default=0.5, help="samples whose blocks read captions of their own")
    ap.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    return ap.parse_args()


def build(args: argparse.Namespace) -> tuple[m.Model, common.Average, Heads, codes.Codes, OwnWords, list[nn.Parameter]]:
    """The networks, the same in every process, their average, and the parameters that are trained."""
    torch.manual_seed(0)
    net = m.Model(args.start or args.model, fresh=args.start is None)
    if args.start is None:
        m.low_frequency_start(net.unet)
    m.shut_unwatched(net.unet)
    net.unet.set_attn_processor({
        n: NoWords() if ".attn2." in n and not n.startswith(tuple(m.BLOCKS.values())) else PlainAttention()
        for n in net.unet.attn_processors})
    average = common.Average(net, 0.998)                  # copied before there are hooks
    heads, code, words = Heads(net.unet), codes.Codes(net.unet, KINDS), OwnWords(net.unet)
    return net, average, heads, code, words, [p for part in (net, heads, code) for p in part.parameters() if p.requires_grad]


def by_adam(net: m.Model) -> set[int]:
    """ids of the parameters that are no matrices between hidden layers"""
    ends = [net.unet.conv_in, net.unet.conv_out, net.te1.text_model.embeddings, net.te2.text_model.embeddings]
    return {id(p) for part in ends for p in part.parameters()}


def train(rank: int, flat: team.Flat, args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    stop, path = common.Stop(), args.work / "unet.pt"
    net, average, heads, code, words, params = build(args)
    step, spent = 0, 0.0
    if path.exists():
        saved = torch.load(path)
        step, spent = saved["step"], saved["spent"]
        average.module.load_state_dict(saved["average"])
        if "codes" in saved:
            code.load_state_dict(saved["codes"])
    spent = max(spent, args.spent)
    code.gen.manual_seed(step + 1_000_003 * rank)
    flat.adopt(params, rank)
    opt = team.Optimizer(flat, rank)
    pool = pool_stage.Pool(args.work / "pool")
    held = set((args.model / "prompts" / "heldout.txt").read_text(encoding="utf-8").splitlines())
    batches = Batches(pool, held, seed=step + 1_000_003 * rank)
    torch.manual_seed(step + 1_000_003 * rank)
    random.seed(step + 1_000_003 * rank)
    vae, scale = pool_stage.load_vae(args.work)
    masks8 = F.avg_pool2d(pool.masks[:, None].float() / 255, 4)
    n, first, begun = args.batch // args.workers, step, time.time()
    seen, smooth = begun, {}
    if rank == 0:
        print(f"{len(pool.scenes)} scenes, from step {step}, {spent:.1f} min", flush=True)

    def keep() -> None:
        sheet(average.module, vae, scale, args.work / "unet.png")
        common.save_atomic({"net": net.state_dict(), "average": average.module.state_dict(), "heads": heads.state_dict(),
                            "codes": code.state_dict(), "flat": flat.state(), "step": step, "spent": spent}, path)

    while True:
        if rank == 0:
            now = time.time()
            spent, seen = spent + min(now - seen, 20) / 60, now     # a stopped process (SIGSTOP) spends nothing
            flat.news[0], flat.news[1] = spent, float(stop.asked or spent >= args.minutes)
        flat.wait()
        spent = float(flat.news[0])
        if flat.news[1]:
            break
        done = spent / args.minutes
        rate = min(1, (step - first + 1) / (100 if first == 0 else 25)) * max(0.01, min(1.0, 1.6 * (1 - done)))
        fade = max(0.0, 1 - done / max(args.heads_until, 1e-9))
        t = torch.where(torch.rand(n) < FIRST, m.LAST, later(n))
        noise, values, index, captions, by_block, code.plans = batches.draw(
            n, 1.0 if done < 0.5 else args.own_share, (t == m.LAST).tolist())
        x0, mask = pool.latents[index].float(), pool.masks[index][:, None].float() / 255
        last, own = t == m.LAST, (t == 749) & (torch.rand(n) < (OWN if done >= 0.5 else 0))     # first it learns to draw
        texts = sorted({c for b in by_block.values() for c in b} | set(captions) | {""})
        row = {c: i for i, c in enumerate(texts)}
        chance = [random.random() for _ in captions]
        with torch.autocast("cpu", torch.bfloat16):
            states, pools = net.text(texts)
            rows, drawn = torch.tensor([row[c] for c in captions]), x0.clone()
            if own.any():
                plans, words.contexts, code.plans = code.plans, {}, []
                drawn[own] = net.x0(noise[own], m.LAST, states[rows[own]], pools[rows[own]]).float()
                code.plans = plans
            shown = drawn.detach() + BACK * (drawn - drawn.detach())
            x = torch.where(last[:, None, None, None], noise, m.renoised(shown, noise, m.LAST, t))
            words.contexts = {b: states[[row[c] for c in by_block[b]]] for b in KINDS}
            pooled = pools[[row[""] if r < 0.5 else row[captions[i if r < 0.75 else i - 1]] for i, r in enumerate(chance)]]
            y = net.x0(x, t, states[rows], pooled).float()
        error, first_error = y - x0, (drawn - x0)[own]
        picture = (loss_of(error, mask) + loss_of(first_error, mask[own])) / x0.numel()
        clean = last & torch.tensor([p.mode == codes.NONE for p in code.plans])
        extra, right = code.loss(masks8[index], pool.labels[index], clean)
        loss = picture + args.codes * extra
        if fade > 0:
            extra, also = heads.loss(masks8[index], pool.labels[index], values, clean.float())
            loss, right = loss + fade * extra, right | also
        loss.backward()
        step += 1
        opt.step(step - first, args.lr * rate, args.muon_lr * rate)
        if rank != 0:
            continue
        average.update(net, step)
        e2, kind = (error.detach() ** 2), torch.tensor([p.mode for p in code.plans])
        here = {"mse": e2[clean].mean().item() if clean.any() else 0.0}
        for name, pick in (("object", clean), ("later", ~last), ("painted", kind == codes.PAINT),
                           ("erased", kind == codes.ERASE), ("nudged", kind == codes.NUDGE)):
            here[name] = ((e2 * mask)[pick].sum() / mask[pick].sum().clamp(min=1) / 4).item() if pick.any() else 0.0
        here |= right
        smooth = {k: v if k not in smooth else 0.97 * smooth[k] + 0.03 * v for k, v in here.items()}
        if step % 50 == 0:
            losses = " ".join(f"{k} {v:.3f}" for k, v in smooth.items())
            print(f"{step} {spent:.1f} min {(step - first) * args.batch / (time.time() - begun):.0f}/s {losses}", flush=True)
        if step % 250 == 0:
            keep()
    if rank == 0:
        keep()


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    net, _, heads, code, _, params = build(args)
    path = args.work / "unet.pt"
    saved = torch.load(path) if path.exists() else {}
    if saved:
        net.load_state_dict(saved["net"])
        heads.load_state_dict(saved["heads"], strict=False)
        if "codes" in saved:
            code.load_state_dict(saved["codes"])
    adam = by_adam(net) | {id(p) for p in code.parameters()}
    flat = team.Flat(params, lambda p: p.ndim > 1 and id(p) not in adam, args.workers)
    if "flat" in saved:
        flat.load(saved["flat"])
    del net, heads, code, params, saved
    team.launch(train, flat, args)


if __name__ == "__main__":
    main()
