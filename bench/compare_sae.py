"""Compares facet's training step of a TopK autoencoder with PyTorch's, on the same sizes, step by step in turn.

    python bench/compare_sae.py --facet build/facet --k 10 --features 5120 --width 1280 --batch 4096 --dead-share 0 \
        --engines facet,authors,bag-bf16 --runs 7 --json compare.json

Engines: facet (the fast step), facet-plain (f32 throughout), authors (the operations of the paper's loop in PyTorch, f32: decoding
through a sparse matrix, the aux term and the explained variance in every step), bag-bf16 (decoding through embedding_bag under bf16
autocast, no aux term: the fastest PyTorch form we know). Beside them `product`: the encoder product alone, bf16 by oneDNN.

Each engine is a process of its own that waits until it is asked for a step; one round asks every engine once, so a machine that slows
down slows down all of them. The first rounds warm up and are not counted. FILE: a list of {k, features, width, batch, dead_share,
engine, rows_per_s, seconds: [...]}; rows_per_s from the median. Needs torch, and `ninja bench/bench_sae` in facet's build folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WARM_UP = 2
AUXK = 256


# ---- PyTorch's side: one process an engine, a word a line ----


def make_step(a: argparse.Namespace, engine: str):
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    rows, width, features = a.batch, a.width, a.features
    x = torch.randn(rows, 64) @ torch.randn(64, width) * 0.125 + torch.randn(rows, width)
    bound = width**-0.5
    start = torch.empty(features, width).uniform_(-bound, bound)
    dead = int(a.dead_share * features)
    decoder = torch.nn.Parameter(F.normalize(start, dim=1))  # row f is feature f's direction
    start[:dead] *= 0.01
    encoder = torch.nn.Parameter(start)
    pre_bias = torch.nn.Parameter(torch.zeros(width))
    latent_bias = torch.nn.Parameter(torch.zeros(features))
    silent = torch.zeros(features, dtype=torch.long)
    limit = 10_000_000 // rows
    adam = torch.optim.Adam([encoder, decoder, pre_bias, latent_bias], lr=1e-9, eps=6.25e-10, fused=True)

    def decode_sparse(index, value):
        row = torch.arange(rows).repeat_interleave(index.shape[1])
        codes = torch.sparse_coo_tensor(
            torch.stack([row, index.flatten()]), value.flatten(), (rows, features), check_invariants=False
        )
        return torch.sparse.mm(codes, decoder) + pre_bias

    def authors():
        latents = F.linear(x - pre_bias, encoder, latent_bias)
        value, index = latents.topk(a.k, dim=-1)
        fired = torch.zeros_like(silent).scatter_add_(0, index.flatten(), (value > 1e-3).long().flatten())
        silent.mul_(1 - fired.clamp(max=1)).add_(1)
        masked = latents * (silent > limit)  # only dead ones may be chosen
        aux_value, aux_index = masked.topk(AUXK, dim=-1)
        out = decode_sparse(index, value.relu())
        missing = x - out.detach() + pre_bias.detach()
        aux_out = decode_sparse(aux_index, aux_value.relu())
        guess = ((missing.mean(dim=0) - missing) ** 2).mean()
        aux = (((aux_out - missing) ** 2).mean() / guess).nan_to_num(0)
        loss = ((out - x) ** 2).mean() + aux / 32
        with torch.no_grad():  # logged in every step
            (1 - (x - out).var(dim=0) / (x.var(dim=0) + 1e-8)).mean().item()
        return loss

    def bag():
        with torch.autocast("cpu", torch.bfloat16):
            value, index = F.linear(x - pre_bias, encoder, latent_bias).topk(a.k, dim=-1)
        weight = value.relu().float()
        out = F.embedding_bag(index, decoder, per_sample_weights=weight, mode="sum") + pre_bias
        return ((out - x) ** 2).mean()

    forward = {"authors": authors, "bag-bf16": bag}[engine]

    def step():
        silent.zero_()
        silent[:dead] = limit * 1000
        begin = time.perf_counter()
        loss = forward()
        loss.backward()
        with torch.no_grad():
            decoder.data /= decoder.data.norm(dim=1, keepdim=True)
            decoder.grad -= (decoder.grad * decoder.data).sum(dim=1, keepdim=True) * decoder.data
        adam.step()
        adam.zero_grad()
        loss.item()
        return time.perf_counter() - begin

    return step


def serve(a: argparse.Namespace) -> None:
    step = make_step(a, a.serve)
    for word in sys.stdin:
        if word.strip() != "step":
            break
        print(f"{step():.6f}", flush=True)


# ---- who asks ----


def start_engine(a: argparse.Namespace, engine: str) -> subprocess.Popen:
    if engine in ("facet", "facet-plain"):
        program = Path(a.facet).resolve().parent / "bench" / "bench_sae"
        if not program.exists():
            raise SystemExit(f"{program} is not there: ninja -C {program.parent.parent} bench/bench_sae")
        kind = "fast" if engine == "facet" else "plain"
        command = [str(program), str(a.k), str(a.features), str(a.width), str(a.batch), str(a.dead_share), kind]
    else:
        command = [sys.executable, __file__, "--serve", engine]
        for name in ("k", "features", "width", "batch", "dead_share"):
            command += [f"--{name.replace('_', '-')}", str(getattr(a, name))]
    # a thread that waits sleeps: no engine takes processor time while another one is asked
    env = dict(os.environ, OMP_WAIT_POLICY="passive")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def ask(engine: subprocess.Popen, word: str) -> float:
    engine.stdin.write(word + "\n")
    engine.stdin.flush()
    answer = engine.stdout.readline().split()
    if not answer:
        raise SystemExit(f"{engine.args[0]} ended without an answer")
    return float(answer[0])


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--facet", default="build/facet", help="facet's program in its build folder")
    ap.add_argument("--k", type=int, default=10)
    ap.add_argument("--features", type=int, default=5120)
    ap.add_argument("--width", type=int, default=1280)
    ap.add_argument("--batch", type=int, default=4096)
    ap.add_argument("--dead-share", type=float, default=0)
    ap.add_argument("--engines", default="facet,authors,bag-bf16")
    ap.add_argument("--runs", type=int, default=7)
    ap.add_argument("--json", help="where the figures go; they are added to those of other sizes that are there")
    ap.add_argument("--serve", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.serve:
        return serve(a)
    names = a.engines.split(",")
    for name in names:
        if name not in ("facet", "facet-plain", "authors", "bag-bf16"):
            ap.error(f"engine {name}: want facet, facet-plain, authors or bag-bf16")
    engines = {name: start_engine(a, name) for name in names}
    seconds = {name: [] for name in names}
    seconds["product"] = []
    facet = engines.get("facet", engines.get("facet-plain"))
    for run in range(WARM_UP + a.runs):
        for name in names:
            took = ask(engines[name], "step")
            if run >= WARM_UP:
                seconds[name].append(took)
        if facet:
            took = ask(facet, "product")
            if run >= WARM_UP:
                seconds["product"].append(took)
    memory = ask(facet, "memory") if facet else 0
    for engine in engines.values():
        engine.stdin.close()
        engine.wait()
    sizes = {"k": a.k, "features": a.features, "width": a.width, "batch": a.batch, "dead_share": a.dead_share}
    median = {name: statistics.median(s) for name, s in seconds.items() if s}
    result = [
        dict(sizes, engine=name, rows_per_s=round(a.batch / median[name]), seconds=[round(s, 6) for s in seconds[name]])
        for name in median
    ]
    first = names[0]
    print(f"k {a.k}, {a.features} features, width {a.width}, batch {a.batch}, dead share {a.dead_share:g}")
    for name, took in median.items():
        times = f"{took / median[first]:7.2f} x {first}'s time" if name != first else ""
        print(f"  {name:12} {1000 * took:9.1f} ms {a.batch / took:9.0f} rows/s {times}")
    if "product" in median:
        print(f"  {first}'s step takes {median[first] / median['product']:.2f} products; {memory / 1e6:.0f} MB at most")
    if a.json:
        path = Path(a.json)
        old = json.loads(path.read_text()) if path.exists() else []
        old = [r for r in old if any(r[key] != value for key, value in sizes.items()) or r["engine"] not in median]
        path.write_text(json.dumps(old + result, indent=1) + "\n")


if __name__ == "__main__":
    main()
