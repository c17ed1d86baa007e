"""The road on the demo model: pictures and their recipes, capture, train, encode, features, convert, info.

Run:  FACET=build/facet python -m pytest tests/python/test_cli_road.py

Needs numpy, safetensors and Pillow.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from cli_util import DEMO, PROMPTS, bad, good, need_demo, result, run

np = pytest.importorskip("numpy", reason="numpy compares tensors")
safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors reads what facet writes")
Image = pytest.importorskip("PIL.Image", reason="Pillow reads pictures")

SMALL = ["-W", "128", "-H", "128", "--dtype", "f32"]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as im:
        assert im.mode == "RGB"
        return np.asarray(im).copy()


def temporary_files(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if ".tmp" in p.name]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a store and an SAE, made once."""
    need_demo()
    folder = tmp_path_factory.mktemp("road")
    good(
        "generate",
        "-p",
        "two large striped blue stars at night",
        "--seed",
        "7",
        *SMALL,
        "-o",
        "stars.png",
        cwd=folder,
    )
    good("generate", "-p", "a red circle", "--seed", "8", *SMALL, "-o", "circle.png", cwd=folder)
    good(
        "capture",
        "--prompts",
        PROMPTS,
        "--limit",
        "100",
        "--blocks",
        "down.2.1,up.0.1",
        *SMALL,
        "-o",
        "store",
        cwd=folder,
    )
    for block in ("down.2.1", "up.0.1"):
        good(
            "train",
            "--store",
            "store",
            "--block",
            block,
            "--preset",
            "demo",
            "--expansion-factor",
            "4",
            "--batch-size",
            "256",
            "--steps",
            "40",
            "--hold-out",
            "160",
            "-o",
            f"saes/{block}",
            cwd=folder,
        )
    return folder


def strongest(road: Path, block: str = "up.0.1") -> int:
    look = result("features", "look", "stars.png", "--sae", "saes", "--top", "1", cwd=road)
    return look["blocks"][block][0]["feature"]


# ---- pictures ----


def test_no_model_means_the_demo_model_and_says_so(road: Path) -> None:
    done = good("generate", "-p", "a star", *SMALL, "-o", "demo.png", cwd=road)
    assert f"demo model in {DEMO}" in done.stderr.decode()
    assert done.stdout == b"demo.png\n"
    quiet = good("generate", "-p", "a star", *SMALL, "-o", "quiet.png", "-q", cwd=road)
    assert quiet.stderr == b""
    assert (road / "demo.png").read_bytes() == (road / "quiet.png").read_bytes()


def test_a_picture_is_its_own_recipe(road: Path) -> None:
    good("generate", "--recipe", "stars.png", "-o", "again.png", cwd=road)
    assert (road / "again.png").read_bytes() == (road / "stars.png").read_bytes()
    with Image.open(road / "stars.png") as im:
        parameters, recipe = im.text["parameters"], json.loads(im.text["facet"])
    assert (
        parameters.startswith("two large striped blue stars at night\n")
        and "Seed: 7" in parameters
        and "Size: 128x128" in parameters
    )
    (road / "stars.json").write_text(json.dumps(recipe))
    good("generate", "--recipe", "stars.json", "-o", "third.png", cwd=road)
    assert (pixels(road / "third.png") == pixels(road / "stars.png")).all()
    good("generate", "--recipe", "stars.png", "--seed", "9", "-o", "other.png", cwd=road)
    assert (pixels(road / "other.png") != pixels(road / "stars.png")).any()


def test_batch_names_latents_and_replay(road: Path) -> None:
    said = result(
        "generate",
        "-p",
        "a red circle",
        "--seed",
        "3",
        "-b",
        "3",
        "--steps",
        "2",
        "--guidance",
        "3",
        "-n",
        "",
        *SMALL,
        "--save-latents",
        "b.safetensors",
        "-o",
        "b.png",
        cwd=road,
    )
    assert [p["path"] for p in said["pictures"]] == ["b-1.png", "b-2.png", "b-3.png"] and not (
        road / "b.png"
    ).exists()
    latents = safetensors.load_file(road / "b.safetensors")
    assert (
        list(latents) == ["latents"]
        and latents["latents"].shape == (3, 4, 16, 16)
        and latents["latents"].dtype == np.float32
    )
    good("generate", "--recipe", "b-2.png", "-o", "b2.png", cwd=road)
    assert (pixels(road / "b2.png") == pixels(road / "b-2.png")).all()
    assert (pixels(road / "b-1.png") != pixels(road / "b-2.png")).any()


def test_not_square_standard_streams_and_size_inputs(road: Path) -> None:
    done = good(
        "generate",
        "-p",
        "-",
        "--width=160",
        "--height=96",
        "--dtype",
        "f32",
        "-o",
        "-",
        cwd=road,
        stdin=b"a star\n",
    )
    with Image.open(io.BytesIO(done.stdout)) as im:
        assert im.size == (160, 96) and im.text["parameters"].startswith("a star\n")
    plain = ["generate", "-p", "a star", *SMALL, "--save-latents"]
    good(*plain, "plain.safetensors", cwd=road)
    good(*plain, "same.safetensors", "--original-size", "128x128", "--crop", "0,0", cwd=road)
    good(*plain, "crop.safetensors", "--crop", "64,32", cwd=road)
    one, two, three = (
        safetensors.load_file(road / f"{n}.safetensors")["latents"]
        for n in ("plain", "same", "crop")
    )
    assert (one == two).all() and (one != three).any()


def test_ref_agrees_with_cpu(road: Path) -> None:
    for backend in ("cpu", "ref"):
        good(
            "generate",
            "-p",
            "a star",
            "-W",
            "64",
            "-H",
            "64",
            "--dtype",
            "f32",
            "--backend",
            backend,
            "--save-latents",
            f"{backend}.safetensors",
            "-o",
            f"{backend}.png",
            cwd=road,
        )
    a, b = (safetensors.load_file(road / f"{n}.safetensors")["latents"] for n in ("cpu", "ref"))
    assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b)


def test_long_prompt_is_cut_with_a_warning(road: Path) -> None:
    done = good("generate", "-p", "star " * 30 + "marmalade", *SMALL, "-o", "long.png", cwd=road)
    assert "warning: " in done.stderr.decode() and "marmalade" in done.stderr.decode()


# ---- edits ----


def test_edits_that_change_nothing_and_edits_that_do(road: Path) -> None:
    feature = strongest(road)
    stats = safetensors.load_file(road / "saes/up.0.1/stats.safetensors")
    dead = int(np.argmin(stats["density"]))
    assert stats["density"][dead] == 0
    base = pixels(road / "stars.png")
    for edit in (
        f"up.0.1:{feature} x1",
        f"up.0.1:{feature} +0",
        f"up.0.1:{dead} x0",
        f"up.0.1:{feature} x1 static",
    ):
        good(
            "generate",
            "--recipe",
            "stars.png",
            "--sae",
            "saes",
            "--edit",
            edit,
            "-o",
            "nothing.png",
            cwd=road,
        )
        assert (pixels(road / "nothing.png") == base).all(), edit
    for edit in (
        f"up.0.1:{feature} x0",
        f"up.0.1:{feature} +3 @box:0,0,0.5,0.5",
        "up.0.1 zero",
        "up.0.1 rebuild",
        f"up.0.1:{feature} only 2",
    ):
        good(
            "generate",
            "--recipe",
            "stars.png",
            "--sae",
            "saes",
            "--edit",
            edit,
            "-o",
            "edited.png",
            cwd=road,
        )
        assert (pixels(road / "edited.png") != base).any(), edit
        good("generate", "--recipe", "edited.png", "-o", "replay.png", cwd=road)
        assert (pixels(road / "replay.png") == pixels(road / "edited.png")).all(), edit
    assert f"up.0.1:{feature} only 2" in good("info", "edited.png", cwd=road).stdout.decode()


# ---- capture, train, encode ----


def test_store(road: Path) -> None:
    shards = sorted((road / "store/up.0.1").iterdir())
    tensors = safetensors.load_file(shards[0])
    assert (
        set(tensors) == {"rows", "prompt", "step", "branch", "yx"}
        and tensors["rows"].dtype == np.float16
    )
    info = result("info", "store", cwd=road)
    assert info["kind"] == "store" and {b["name"]: b["rows"] for b in info["blocks"]} == {
        "down.2.1": 1600,
        "up.0.1": 1600,
    }
    before = {p: p.read_bytes() for p in (road / "store").rglob("*") if p.is_file()}
    again = result(
        "capture",
        "--prompts",
        PROMPTS,
        "--limit",
        "100",
        "--blocks",
        "down.2.1,up.0.1",
        *SMALL,
        "-o",
        "store",
        cwd=road,
    )
    assert again["resumed_at"] == 100 and before == {
        p: p.read_bytes() for p in (road / "store").rglob("*") if p.is_file()
    }
    bad(
        "capture",
        "--prompts",
        PROMPTS,
        "--limit",
        "100",
        "--blocks",
        "down.2.1,up.0.1",
        *SMALL,
        "--seed",
        "5",
        "-o",
        "store",
        cwd=road,
        says="store",
    )


def test_prompt_files_and_steps(road: Path) -> None:
    (road / "p.txt").write_text("a star\n\na red circle\n")
    (road / "p.jsonl").write_text('{"prompt": "a star"}\n{"prompt": "a red circle"}\n')
    (road / "p.csv").write_text('id,prompt\n1,a star\n2,"a red circle"\n')
    rows = []
    for name in ("p.txt", "p.jsonl", "p.csv"):
        good(
            "capture",
            "--prompts",
            name,
            "--blocks",
            "up.0.1",
            "--steps",
            "3",
            "--at-steps",
            "1,3",
            "--guidance",
            "2",
            "--branch",
            "both",
            "--store-dtype",
            "f32",
            "--what",
            "in",
            *SMALL,
            "-o",
            f"s-{name}",
            cwd=road,
        )
        rows.append(safetensors.load_file(next((road / f"s-{name}/up.0.1").iterdir())))
    assert all((r["rows"] == rows[0]["rows"]).all() for r in rows)
    assert rows[0]["rows"].dtype == np.float32 and len(rows[0]["rows"]) == 2 * 2 * 2 * 16
    order = np.stack([rows[0][k].astype(np.int64) for k in ("prompt", "step", "branch")], 1)
    order = np.concatenate([order, rows[0]["yx"].astype(np.int64)], 1)
    assert (
        (order == order[np.lexsort(order.T[::-1])]).all()
        and set(order[:, 1]) == {1, 3}
        and set(order[:, 2]) == {0, 1}
    )


def test_import_train_from_it(road: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(road / "a.npy", rng.standard_normal((600, 24)).astype(np.float32))
    safetensors.save_file(
        {"x": rng.standard_normal((400, 24)).astype(np.float32)}, road / "b.safetensors"
    )
    good(
        "capture",
        "--import",
        "a.npy",
        "--import",
        "b.safetensors",
        "--block",
        "mine",
        "-o",
        "imported",
        cwd=road,
    )
    assert result("info", "imported", cwd=road)["blocks"][0] == {
        "name": "mine",
        "d": 24,
        "rows": 1000,
        "grid_h": 0,
        "grid_w": 0,
    }
    train = ["train", "--store", "imported", "--batch-size", "100", "--steps", "25", "--k", "4"]
    train += ["--n-features", "48", "--auxk", "0", "--calibration-rows", "200", "--lr", "1e-3"]
    train += ["--seed", "3", "--order", "sequential"]
    said = result(*train, "--log", "t.jsonl", "--log-every", "5", "-o", "mine", cwd=road)
    assert (
        said["train"]["steps"] == 25
        and said["train"]["n_features"] == 48
        and said["train"]["k"] == 4
    )
    lines = [json.loads(line) for line in (road / "t.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 5, 10, 15, 20, 25]
    losses = [line["losses/overall_loss"] for line in lines]
    assert losses[-1] < losses[0] and lines[-1]["details/n_training_samples"] == 2500
    good(*train, "-o", "twice", cwd=road)
    assert (road / "twice/sae_weights.safetensors").read_bytes() == (
        road / "mine/sae_weights.safetensors"
    ).read_bytes()


def test_sae_folder(road: Path) -> None:
    folder = road / "saes/up.0.1"
    assert {p.name for p in folder.iterdir()} == {
        "cfg.json",
        "facet.json",
        "report.html",
        "sae_weights.safetensors",
        "stats.safetensors",
    }
    assert not list(road.rglob("*.checkpoint")) and not temporary_files(road)
    weights = safetensors.load_file(folder / "sae_weights.safetensors")
    assert {k: v.shape for k, v in weights.items()} == {
        "W_enc": (96, 384),
        "b_enc": (384,),
        "W_dec": (384, 96),
        "b_dec": (96,),
    }
    norms = np.linalg.norm(weights["W_dec"], axis=1)
    assert np.allclose(norms, 1, atol=5e-3), (
        "unit length before the last step's update, as in the method"
    )


def test_encode_equals_the_formula(road: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((7, 96)).astype(np.float32)
    safetensors.save_file({"other": rows[:3], "x": rows}, road / "rows.safetensors")
    bad(
        "encode",
        "--sae",
        "saes/up.0.1",
        "--in",
        "rows.safetensors",
        "--out",
        "c.safetensors",
        cwd=road,
        says="--tensor",
    )
    good(
        "encode",
        "--sae",
        "saes/up.0.1",
        "--in",
        "rows.safetensors",
        "--tensor",
        "x",
        "--out",
        "c.safetensors",
        cwd=road,
    )
    codes = safetensors.load_file(road / "c.safetensors")
    w = {
        k: v.astype(np.float64)
        for k, v in safetensors.load_file(road / "saes/up.0.1/sae_weights.safetensors").items()
    }
    z = np.maximum((rows - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)
    order = np.argsort(-z, axis=1, kind="stable")[:, :8]
    assert (
        codes["indices"].dtype == np.int32
        and codes["indices"].shape == (7, 8)
        and (codes["indices"] == order).all()
    )
    assert np.allclose(codes["values"], np.take_along_axis(z, order, 1), rtol=1e-4, atol=1e-5)


def test_convert_there_and_back(road: Path) -> None:
    good("convert", "saes/up.0.1", "--to", "sdxl-unbox", "-o", "theirs", cwd=road)
    assert {p.name for p in (road / "theirs").iterdir()} == {
        "config.json",
        "facet.json",
        "state_dict.pth",
        "mean.pt",
        "std.pt",
    }
    good("convert", "theirs", "--to", "saelens", "-o", "back", cwd=road)
    assert (road / "back/sae_weights.safetensors").read_bytes() == (
        road / "saes/up.0.1/sae_weights.safetensors"
    ).read_bytes()
    said = result("info", "theirs", cwd=road)["saes"][0]
    assert said["n_features"] == 384 and said["block"] == "up.0.1"
    # theirs holds mean and std, no density and max: so does what is made of it, and + counts in means
    stats = safetensors.load_file(road / "back/stats.safetensors")
    assert set(stats) == {"mean", "std"}
    for sae in ("back", "saes/up.0.1"):
        edit = f"up.0.1:{strongest(road)} +3"
        out = f"{Path(sae).name}-plus.png"
        good("generate", "-p", "a red circle", "--sae", sae, "--edit", edit, *SMALL, "-o", out, cwd=road)
    assert (pixels(road / "back-plus.png") == pixels(road / "up.0.1-plus.png")).all()


def test_block_of_an_sae(road: Path) -> None:
    rows = np.zeros((2, 96), np.float32)
    np.save(road / "two.npy", rows)
    encode = ["encode", "--in", "two.npy", "--out", "two.safetensors", "--sae"]
    other = ["saes/up.0.1", "--block", "mid.0"]
    bad(*encode, *other, cwd=road, says=["saes/up.0.1", "up.0.1, not of mid.0"])
    bad("convert", *other, "--to", "saelens", "-o", "no", cwd=road, says="up.0.1, not of mid.0")
    assert not (road / "two.safetensors").exists() and not (road / "no").exists()
    good(*encode, "saes/up.0.1", "--block", "unet.up_blocks.0.attentions.1", cwd=road)
    # one that does not say its block takes the name that is given
    shutil.copytree(road / "saes/up.0.1", road / "nameless")
    (road / "nameless/facet.json").unlink()
    cfg = json.loads((road / "nameless/cfg.json").read_text())
    cfg["metadata"]["hook_name"] = None
    (road / "nameless/cfg.json").write_text(json.dumps(cfg))
    good("convert", "nameless", "--block", "mid.0", "--to", "saelens", "-o", "named", cwd=road)
    assert result("info", "named", cwd=road)["saes"][0]["block"] == "mid.0"


# ---- features ----


def test_look_top_icon(road: Path) -> None:
    said = result(
        "features", "look", "stars.png", "--sae", "saes", "--top", "3", "-o", "look", cwd=road
    )
    assert list(said["blocks"]) == ["down.2.1", "up.0.1"] and len(said["blocks"]["up.0.1"]) == 3
    first = said["blocks"]["up.0.1"][0]
    assert np.array(first["map"]).shape == (4, 4) and np.isclose(
        np.mean(first["map"]), first["mean"], rtol=1e-4
    )
    assert pixels(road / "look" / first["overlay"]).shape == (128, 128, 3)
    assert (pixels(road / "look/picture.png") == pixels(road / "stars.png")).all()
    name = f"up.0.1:{first['feature']}"
    top = result(
        "features",
        "top",
        "--feature",
        name,
        "--prompts",
        "p20.txt",
        "--sae",
        "saes",
        "--top",
        "4",
        *SMALL,
        "-o",
        "top",
        cwd=prompts20(road),
    )
    means = [e["mean"] for e in top["features"][0]["examples"]]
    assert means == sorted(means, reverse=True) and 1 <= len(means) <= 4
    assert (road / "top" / f"up.0.1-{first['feature']}.png").exists()
    good("features", "icon", name, "--sae", "saes", *SMALL, "-o", "icon.png", cwd=road)
    assert pixels(road / "icon.png").shape == (2 * 128 + 3 * 8, 3 * 128 + 4 * 8, 3)


def prompts20(road: Path) -> Path:
    (road / "p20.txt").write_text("\n".join(PROMPTS.read_text().splitlines()[:20]) + "\n")
    return road


def test_contrast_and_transport(road: Path) -> None:
    said = result(
        "features",
        "contrast",
        "stars.png",
        "circle.png",
        "--sae",
        "saes",
        "--top",
        "5",
        "-o",
        "transport.json",
        cwd=road,
    )
    scores = [r["score"] for r in said["rows"]]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0 > scores[-1]
    same = result("features", "contrast", "stars.png", "stars.png", "--sae", "saes", cwd=road)
    assert all(r["score"] == 0 for r in same["rows"])
    good("generate", "--recipe", "transport.json", "-o", "transport.png", cwd=road)
    assert (pixels(road / "transport.png") != pixels(road / "circle.png")).any()
    masked = result(
        "features",
        "contrast",
        "stars.png",
        "circle.png",
        "--sae",
        "saes",
        "--mask-a",
        "@box:0,0,0.5,0.5",
        cwd=road,
    )
    assert masked["rows"][0]["score"] != scores[0]


def test_stats_equal_numpy(road: Path) -> None:
    good("convert", "saes/down.2.1", "--to", "saelens", "-o", "measured", cwd=road)
    (road / "measured/stats.safetensors").unlink()
    before = {p.name: p.stat().st_ino for p in (road / "measured").iterdir()}
    good("features", "stats", "--sae", "measured", "--store", "store", cwd=road)
    after = {p.name: p.stat().st_ino for p in (road / "measured").iterdir()}
    assert set(after) == {*before, "stats.safetensors"} and before.items() <= after.items()
    stats = safetensors.load_file(road / "measured/stats.safetensors")
    shards = [safetensors.load_file(p) for p in sorted((road / "store/down.2.1").iterdir())]
    safetensors.save_file(
        {"rows": np.concatenate([s["rows"] for s in shards])}, road / "all.safetensors"
    )
    good(
        "encode",
        "--sae",
        "measured",
        "--in",
        "all.safetensors",
        "--out",
        "all-codes.safetensors",
        cwd=road,
    )
    codes = safetensors.load_file(road / "all-codes.safetensors")
    z = np.zeros((1600, 384))
    np.put_along_axis(z, codes["indices"].astype(np.int64), codes["values"].astype(np.float64), 1)
    assert np.allclose(stats["density"], (z > 0).mean(0), atol=1e-6)
    assert np.allclose(stats["max"], z.max(0), rtol=1e-5)
    live = (z > 0).sum(0) > 1
    mean = z.sum(0)[live] / (z > 0).sum(0)[live]
    assert np.allclose(stats["mean"][live], mean, rtol=1e-4)


# ---- info, doctor ----


def test_info_and_doctor(road: Path) -> None:
    model = result("info", DEMO)
    assert (
        model["kind"] == "model"
        and model["is_demo"]
        and "down.2.1" in [b["short_name"] for b in model["blocks"]]
    )
    assert (
        result("info", "saes", cwd=road)["kind"] == "sae"
        and len(result("info", "saes", cwd=road)["saes"]) == 2
    )
    assert result("info", "stars.png", cwd=road)["recipe"]
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(road / "plain.png")
    assert result("info", "plain.png", cwd=road)["kind"] == "png"
    doctor = result("doctor", "--dtype", "f32")
    assert (
        doctor["model"]["precision"] == "f32"
        and "jansson" in doctor["libraries"]
        and doctor["threads"] >= 1
    )
    assert run("doctor", env={"FACET_MODELS": "/nonexistent"}).returncode == 0, (
        "the other places are looked into"
    )
    assert run("doctor", "--model", road / "store").returncode == 1
