"""Every option of `facet train` has an effect, for every architecture, or is refused in a sentence that names it.

Run:  FACET=build/facet python -m pytest tests/python/test_train_options.py

The table below has a row for every option that the program knows (a new one without a row fails). An option that changes the
training must change the weights that are saved; where it has nothing to change, the run must be refused and say why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_util import PROMPTS, bad, good, need_demo, result, tables

np = pytest.importorskip("numpy", reason="numpy makes rows")
safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors changes weights")

ARCHS = ["topk", "batchtopk", "matryoshka", "jumprelu", "relu", "gated"]
WITH_K, PENALISED = ARCHS[:3], ARCHS[3:]
D = 16
BASE = ["--store", "rows.npy", "--preset", "demo", "--n-features", "256", "--batch-size", "64", "--steps", "20", "--dead-rows", "64",
        "--lr", "0.003"]  # fmt: skip
JUMP = ["--init-threshold", "0.05", "--bandwidth", "0.05"]  # else so short a run keeps nothing

# option -> value; architectures that refuse it; what else the run needs for it. Everywhere else it must change the weights.
CHANGES: dict[str, tuple[str | None, list[str], list[str]]] = {
    "preset": ("modern", [], []),
    "arch": ("", [], []),  # each architecture is unlike every other: test_architectures
    "k": ("3", PENALISED, []),
    "auxk": ("5", ["relu"], []),
    "dead-rows": ("640", [], ["--auxk", "8"]),
    "calibration-rows": ("100", [], []),
    "n-features": ("48", [], []),
    "expansion-factor": ("3", [], []),
    "batch-size": ("32", [], []),
    "lr": ("0.002", [], []),
    "eps": ("0.001", [], []),
    "steps": ("19", [], []),
    "engine": ("plain", [], []),  # test_engine
    "aux": ("authors", PENALISED, []),
    "aux-coef": ("0.5", PENALISED, []),
    "loss-scale": ("3", [], []),
    "init-from": ("", [], []),  # test_start
    "order": ("sequential", [], []),
    "shuffle-memory": ("", [], []),  # test_sources
    "seed": ("1", [], []),
    "hold-out": ("300", [], []),
    "sparsity": ("0.1", WITH_K, []),
    "sparsity-warmup": ("20", WITH_K, []),
    "bandwidth": ("0.1", [a for a in ARCHS if a != "jumprelu"], []),
    "init-threshold": ("0.1", [a for a in ARCHS if a != "jumprelu"], []),
    "groups": ("2", [a for a in ARCHS if a != "matryoshka"], []),
    "k-start": ("3", PENALISED, ["--k-warmup", "20"]),
    "k-warmup": ("20", PENALISED, ["--k-start", "3"]),
    "lr-warmup": ("10", [], []),
    "lr-decay": ("cosine", [], []),
    "lr-decay-steps": ("10", [], []),
    "grad-clip": ("0.01", [], []),
    "ema": ("0.9", [], []),
    "untied": (None, [], []),
    "decoder-norm": ("free", [], []),
    "normalize": ("mean-norm", [], []),
}
# What the rows are: test_sources. What computes: test_backend. What is written, said or continued: test_beside,
# test_sweep, test_watch and test_sae_resume.
SOURCES = ["store", "block", "crosscoder", "tensor", "prompts", "limit", "denoising-steps", "at-steps", "guidance", "negative", "branch",
           "prompt-seed", "width", "height", "prompt-batch", "store-dtype", "model", "dtype"]  # fmt: skip
BESIDE = ["output", "checkpoint-every", "keep-checkpoints", "resume", "log", "log-every", "tensorboard", "eval-every", "backend", "json",
          "quiet", "verbose", "threads", "help"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    codes = rng.random((1500, 40)) * (rng.random((1500, 40)) < 0.1)
    np.save(folder / "rows.npy", (codes @ rng.standard_normal((40, D)) + 0.5).astype(np.float32))
    return folder


def weights(place: Path, arch: str, *more: str, name: str = "sae") -> bytes:
    """The bytes of an SAE trained with these options; those of the base that they replace are left out."""
    given = {word for word in more if word.startswith("--")}
    base = [BASE[i : i + 2] for i in range(0, len(BASE), 2)]
    if arch == "jumprelu":
        base += [JUMP[2:]] if "--init-from" in given else [JUMP[:2], JUMP[2:]]
    if "--expansion-factor" in given:
        given.add("--n-features")
    words = [w for pair in base if pair[0] not in given for w in pair]
    good("train", *words, *more, "--arch", arch, "-o", name, cwd=place)
    return (place / name / "sae_weights.safetensors").read_bytes()


def silent(place: Path, arch: str) -> list[str]:
    """A start where half of the features cannot be active, for what concerns dead ones: few die by themselves in so short a run.
    Only those whose activations are positive, and yet not kept, can be reached by the aux loss."""
    name = f"silent-{arch}"
    if not (place / name).exists():
        weights(place, arch, name=name)
        file = place / name / "sae_weights.safetensors"
        tensors = {key: value.copy() for key, value in safetensors.load_file(file).items()}
        tensors["b_mag" if arch == "gated" else "threshold"][::2] = -100 if arch == "gated" else 100
        safetensors.save_file(tensors, file)
    return ["--init-from", name]


def test_every_option_has_a_row() -> None:
    known = next(c for c in tables() if c["name"] == "train")["options"]
    names = {o["name"] for o in known}
    rows = [*CHANGES, *SOURCES, *BESIDE]
    assert len(rows) == len(set(rows))
    assert names == set(rows), names ^ set(rows)


@pytest.mark.parametrize("arch", ARCHS)
def test_changes(place: Path, arch: str) -> None:
    plain: dict[tuple[str, ...], bytes] = {}
    for option, (value, refused, needs) in CHANGES.items():
        if value == "" or option in ("arch", "engine"):
            continue
        words = [f"--{option}", *([value] if value else [])]
        if arch in refused:
            base = [*BASE, *(JUMP if arch == "jumprelu" else [])]
            said = bad("train", *base, *words, *needs, "--arch", arch, "-o", "no", cwd=place)
            word = option.split("-")[0] if option.startswith("k-") or option == "sparsity-warmup" else option
            assert word in said and not (place / "no").exists(), said
            continue
        if arch == "relu" and option == "dead-rows":
            continue  # test_dead_features
        if arch in ("jumprelu", "gated") and option in ("auxk", "dead-rows"):
            needs = [*needs, *silent(place, arch)]
        without = [] if option.startswith("k-") else needs
        if tuple(without) not in plain:
            plain[tuple(without)] = weights(place, arch, *without)
            assert weights(place, arch, *without, name="again") == plain[tuple(without)]
        changed = weights(place, arch, *words, *needs, name=f"{arch}-{option}")
        assert changed != plain[tuple(without)], f"--{option} changes nothing with {arch}"


def test_architectures(place: Path) -> None:
    assert len({weights(place, arch, name=f"arch-{arch}") for arch in ARCHS}) == len(ARCHS)


def test_backend(place: Path) -> None:
    """What computes is what was asked for, in training, statistics and codes; the same to within rounding."""
    for backend in ("cpu", "ref"):
        weights(place, "topk", "--backend", backend, "--engine", "plain", name=f"on-{backend}")
        made = json.loads((place / f"on-{backend}/facet.json").read_text())
        assert made["backend"] == backend and made["training"]["engine"] == "plain"
        good("encode", "--sae", "on-cpu", "--in", "rows.npy", "--out", f"{backend}.safetensors", "--backend", backend, cwd=place)
        good("features", "stats", "--sae", "on-cpu", "--store", "rows.npy", "-o", f"stats-{backend}", "--backend", backend, cwd=place)
    weights(place, "topk", "--backend", "ref", name="auto-ref")
    assert (place / "auto-ref/sae_weights.safetensors").read_bytes() == (place / "on-ref/sae_weights.safetensors").read_bytes()
    for names in (("on-cpu/sae_weights", "on-ref/sae_weights"), ("cpu", "ref"), ("stats-cpu/stats", "stats-ref/stats")):
        a, b = (safetensors.load_file(place / f"{name}.safetensors") for name in names)
        for key in a.keys() - {"indices"}:
            assert np.allclose(a[key], b[key], rtol=1e-3, atol=1e-4), (names, key)


def test_engine(place: Path) -> None:
    """The engine is recorded, and `fast` is refused where it is not to be had."""
    for arch in ARCHS:
        weights(place, arch, "--engine", "plain", name=f"plain-{arch}")
        made = json.loads((place / f"plain-{arch}/facet.json").read_text())["training"]["engine"]
        assert made == "plain"
        if arch != "topk":
            base = [*BASE, *(JUMP if arch == "jumprelu" else [])]
            assert "fast engine" in bad("train", *base, "--arch", arch, "--engine", "fast", "-o", "no", cwd=place)
    weights(place, "topk", "--engine", "fast", name="fast")
    assert json.loads((place / "fast/facet.json").read_text())["training"]["engine"] == "fast"


def test_no_aux_loss(place: Path) -> None:
    for option, value in ("--aux", "clean"), ("--aux-coef", "0.1"):
        said = bad("train", *BASE, option, value, "--auxk", "0", "-o", "no", cwd=place)
        assert f"{option} would change nothing" in said
        for arch in ("jumprelu", "gated")[option == "--aux" :]:  # with an aux loss they have their meaning there too
            more = ["--auxk", "8", *silent(place, arch)]
            assert weights(place, arch, *more) != weights(place, arch, *more, option, value.replace("clean", "authors"))
    bad("train", *BASE, "--aux-coef", "0", "--auxk", "4", "-o", "no", code=2, cwd=place, says="one or the other")
    bad("train", *BASE, "--arch", "relu", "--sparsity", "0", "--sparsity-warmup", "9", "-o", "no", cwd=place, says="--sparsity is 0")


def test_dead_features(place: Path) -> None:
    """With relu, which has no aux loss, --dead-rows says which features are counted as dead."""
    more = ["--arch", "relu", "--sparsity", "30", "--lr", "0.05"]
    words = [w for i in range(0, len(BASE), 2) if BASE[i] not in ("--dead-rows", "--lr") for w in BASE[i : i + 2]]
    dead = [result("train", *words, *more, "--dead-rows", n, "-o", "dead", cwd=place)["train"]["dead"] for n in ("64", "640")]
    assert dead[0] > dead[1]


def test_start(place: Path) -> None:
    """From given weights: what would set others is refused."""
    base = [w for i in range(0, len(BASE), 2) if BASE[i] != "--n-features" for w in BASE[i : i + 2]]
    for arch in ARCHS:
        jump = JUMP if arch == "jumprelu" else []
        first = weights(place, arch, name=f"from-{arch}")
        start = ["train", *base, "--arch", arch, "--init-from", f"from-{arch}"]
        good(*start, *(JUMP[2:] if jump else []), "-o", f"on-{arch}", cwd=place)
        assert (place / f"on-{arch}/sae_weights.safetensors").read_bytes() != first
        for words in (["--untied"], ["--expansion-factor", "4"]):
            bad(*start, *words, "-o", "no", cwd=place, says=f"{words[0]} would change nothing")
        bad(*start, "--loss-scale", "1", "--calibration-rows", "64", "-o", "no", cwd=place, says="--calibration-rows would change")
        bad(*start, "--normalize", "norm", "-o", "no", cwd=place, says="leave out --normalize")
        if jump:
            bad(*start, "--init-threshold", "0.1", "-o", "no", cwd=place, says="--init-threshold would change nothing")


def test_sources(place: Path) -> None:
    """Each option about rows goes with one way to have them."""
    bad("train", *BASE, "--tensor", "x", "-o", "no", cwd=place, says="a .npy file has one, without a name")
    good("capture", "--import", "rows.npy", "--block", "mid.0", "-o", "store", cwd=place)
    store = ["train", "--store", "store", *BASE[2:], "-o", "no"]
    bad(*store, "--tensor", "x", cwd=place, says="a store's rows have their own name")
    bad(*store, "--order", "sequential", "--shuffle-memory", "3", code=2, cwd=place, says="--shuffle-memory is of shuffled rows")
    bad(*store, "--crosscoder", code=2, cwd=place, says="--crosscoder is of several blocks")
    bad(*store, "--block", "up.0.1", cwd=place, says="no block up.0.1")
    values = {"at-steps": "1", "branch": "cond", "model": ".", "negative": "x", "store-dtype": "f16", "dtype": "bf16"}
    for option in SOURCES[5:]:
        bad(*store, f"--{option}", values.get(option, "8"), code=2, cwd=place, says=f"--{option} goes with --prompts")
    more = ["--shuffle-memory", "1"]  # 1500 rows fit any buffer; larger ones are in test_store_order
    good(*store[:-1], "whole", *more, cwd=place)


def test_made_rows(place: Path) -> None:
    """With --prompts each of them changes the rows, so the weights; or is refused."""
    need_demo()
    base = {"prompts": str(PROMPTS), "limit": "12", "width": "64", "height": "64", "block": "up.0.1", "preset": "demo",
            "n-features": "64", "batch-size": "32", "steps": "10"}  # fmt: skip

    def words(**more: str) -> list[str]:
        options = base | {key.replace("_", "-"): value for key, value in more.items()}
        return ["train", *(w for k, v in options.items() for w in (f"--{k}", v))]

    def made(**more: str) -> bytes:
        good(*words(**more), "-o", "made", cwd=place)
        return (place / "made/sae_weights.safetensors").read_bytes()

    one, two = made(), made(denoising_steps="2", guidance="3")
    assert made() == one
    for more in ({"limit": "11"}, {"denoising_steps": "2"}, {"prompt_seed": "5"}, {"width": "128"}, {"height": "128"},
                 {"store_dtype": "i8"}, {"dtype": "bf16"}, {"backend": "ref"}, {"block": "down.2.1"}):  # fmt: skip
        assert made(**more) != one, more
    for more in {"at_steps": "1"}, {"branch": "uncond"}, {"negative": "a red star"}, {"guidance": "4"}:
        assert made(**({"denoising_steps": "2", "guidance": "3"} | more)) != two, more
    bad(*words(negative="a red star"), "-o", "no", cwd=place, says="a negative prompt needs guidance above 1")
    bad(*words(branch="uncond"), "-o", "no", cwd=place, says="needs guidance above 1")
    assert made(prompt_batch="4", order="shuffled") != made(prompt_batch="5", order="shuffled")  # the unit of shuffling


def test_beside(place: Path) -> None:
    """What is written beside the SAE, and how far training says of itself."""
    more = ["--hold-out", "300", "--eval-every", "10", "--log", "log.jsonl", "--log-every", "5", "--tensorboard", "board"]
    said: dict[str, Any] = result("train", *BASE, *more, "-o", "beside", cwd=place)
    lines = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 5, 10, 15, 20]
    assert [line["step"] for line in lines if "held_out/l0" in line] == [10, 20]
    assert list((place / "board").iterdir()) and said["held_out"]["rows"] == 300
    bad("train", *BASE, "--eval-every", "10", "-o", "no", code=2, cwd=place, says="--hold-out N")
