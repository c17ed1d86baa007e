"""Names that would overwrite, words that are not UTF-8, streams that are none, pictures of other models, and recipes that travel.

Run:  FACET=build/facet python -m pytest tests/python/test_cli_care.py

Needs numpy, safetensors and Pillow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_util import DEMO, bad, facet, good, need_demo, result, run

np = pytest.importorskip("numpy", reason="numpy makes rows")
safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors reads what facet writes")
Image = pytest.importorskip("PIL.Image", reason="Pillow reads pictures")

SMALL = ["-W", "64", "-H", "64", "--dtype", "f32", "-t", "1"]


def train(folder: Path, out: str, seed: int) -> None:
    """An SAE of the demo model's width, on random rows."""
    rows = np.random.default_rng(seed).standard_normal((600, 96)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    good("capture", "--import", "rows.npy", "--block", "up.0.1", "-o", f"{out}-rows", cwd=folder)
    good(
        *["train", "--store", f"{out}-rows", "--preset", "demo", "--batch-size", "200"],
        *["--steps", "5", "-o", out],
        cwd=folder,
    )


@pytest.fixture(scope="module")
def care(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_demo()
    folder = tmp_path_factory.mktemp("care")
    train(folder, "saes/up.0.1", 0)
    for name, seed in (("a", "1"), ("b", "2")):
        good("generate", "-p", "a star", "--seed", seed, *SMALL, "-o", f"{name}.png", cwd=folder)
    good(
        *["generate", "--recipe", "a.png", "--sae", "saes", "--edit", "up.0.1:3 +2 unit=one"],
        *["-t", "1", "-o", "edited.png"],
        cwd=folder,
    )
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as im:
        return np.asarray(im.convert("RGB")).copy()


def recipe(path: Path) -> dict:
    with Image.open(path) as im:
        return json.loads(im.text["facet"])


def log(*args: str | Path, **more: object) -> str:
    return good(*args, **more).stderr.decode()


# ---- names ----


def test_nothing_is_written_over_what_is_read(care: Path) -> None:
    before = {p.name: p.read_bytes() for p in care.iterdir() if p.is_file()}
    contrast = ["features", "contrast", "a.png", "b.png", "--sae", "saes"]
    for out in ("a.png", "./b.png", str(care / "a.png"), "new.png", "new.JPG"):
        bad(*contrast, "-o", out, code=2, says=f"--output {out}", cwd=care)
    (care / "a.json").write_text(json.dumps(recipe(care / "a.png")))
    for a, b in (("a.json", "b.png"), ("b.png", "a.json")):
        bad(
            *["features", "contrast", a, b, "--sae", "saes", "-o", "../" + care.name + "/a.json"],
            code=2,
            says="would be overwritten",
            cwd=care,
        )
    same = ["generate", "-p", "x", *SMALL, "-o", "same", "--save-latents"]
    bad(*same, "./same", code=2, says="--save-latents ./same is the picture", cwd=care)
    bad(*same, "l.png", code=2, says="latents are no picture", cwd=care)
    again = ["generate", "--recipe", "a.json", "-o", "n.png", "--save-latents"]
    bad(*again, "a.json", code=2, says="is the recipe", cwd=care)
    (care / "recipe").write_bytes((care / "a.json").read_bytes())
    bad("generate", "--recipe", "recipe", "-o", "recipe", code=2, says="is the recipe", cwd=care)
    for name in ("x.jpg", "x.WebP", "x.json", "x.safetensors"):
        bad("generate", "-p", "x", *SMALL, "-o", name, code=2, says="name it .png", cwd=care)
        bad(
            *["features", "icon", "up.0.1:1", "--sae", "saes", "-o", name],
            code=2,
            says="name it .png",
            cwd=care,
        )
        assert not (care / name).exists()
    good("features", "look", "a.png", "--sae", "saes", "-t", "1", "-o", "look", cwd=care)
    bad(
        *["features", "look", "look/picture.png", "--sae", "saes", "-o", "look"],
        code=2,
        says="the picture to look at",
        cwd=care,
    )
    assert before == {n: (care / n).read_bytes() for n in before}


def test_streams_only_where_they_are_meant(care: Path) -> None:
    for words in (
        ["capture", "--prompts", "p.txt", "-o", "-"],
        ["capture", "--import", "-", "-o", "s"],
        ["train", "--store", "saes/up.0.1-rows", "-o", "-"],
        ["train", "--store", "saes/up.0.1-rows", "-o", "t", "--log", "-"],
        ["encode", "--sae", "saes/up.0.1", "--in", "-", "--out", "c.safetensors"],
        ["features", "top", "--feature", "up.0.1:1", "--prompts", "p.txt", "-o", "-"],
        ["features", "look", "a.png", "-o", "-"],
        ["features", "contrast", "a.png", "b.png", "-o", "-"],
        ["features", "contrast", "-", "b.png"],
        ["generate", "-p", "x", "--save-latents", "-"],
        ["convert", "-", "--to", "saelens", "-o", "c"],
        ["demo", "-o", "-"],
        ["info", "-"],
    ):
        bad(*words, code=2, says="-", cwd=care)
    bad("generate", "-p", "-", "--recipe", "-", code=2, says="both read", cwd=care)
    assert not (care / "-").exists()
    picture = (care / "a.png").read_bytes()
    good("generate", "--recipe", "-", "-o", "streamed.png", "-t", "1", cwd=care, stdin=picture)
    assert (pixels(care / "streamed.png") == pixels(care / "a.png")).all()
    good("features", "look", "-", "--sae", "saes", "-t", "1", cwd=care, stdin=picture)


def raw(*words: bytes | str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    line = [facet().encode(), *(w if isinstance(w, bytes) else w.encode() for w in words)]
    return subprocess.run(line, check=False, cwd=cwd, input=stdin, capture_output=True, timeout=600)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate", "-p", b"caf\xe9", "-o", "u.png"], "--prompt: not UTF-8"),
        (["generate", "-p", "x", b"--negative=\xff", "-o", "u.png"], "--negative: not UTF-8"),
        (["generate", "-p", "x", "--json", "-o", b"u\xff.png"], "--output: not UTF-8"),
        (["generate", "-p", "x", "--edit", b"up.0.1 zero @\xff.png"], "--edit: not UTF-8"),
        (["generate", "-p", "x", "--sae", b"\xc3"], "--sae: not UTF-8"),
        (["features", "look", b"\xed\xa0\x80.png", "--sae", "saes"], "PICTURE: not UTF-8"),
        (["info", b"\xff", "--json"], "PATH: not UTF-8"),
        (["generate", "-p", "x", b"--\xff", "--json"], "an option's name is not UTF-8"),
        (["generate", "-p", "x", b"-\xff", "--json"], "an option's letter is not ASCII"),
    ],
)
def test_what_is_not_utf8_is_said_before_the_work(
    care: Path, words: list[bytes | str], says: str
) -> None:
    done = raw(*words, cwd=care)
    assert done.returncode == 2 and f"facet: {says}" in done.stderr.decode("utf-8"), done
    if "--json" in words:
        assert json.loads(done.stdout)["error"] == says
    assert not [n for n in os.listdir(os.fsencode(care)) if n.startswith(b"u")]


def test_a_prompt_from_a_stream_is_utf8(care: Path) -> None:
    done = raw("generate", "-p", "-", "-o", "u.png", cwd=care, stdin=b"\xff")
    assert done.returncode == 2 and b"--prompt -: not UTF-8" in done.stderr
    good("generate", "-p", "- ä 猫", *SMALL, "-o", "ümlaut.png", cwd=care)
    assert recipe(care / "ümlaut.png")["prompt"] == "- ä 猫"


def test_malformed_features_are_wrong_use(care: Path) -> None:
    for name in ("up.0.1", "up.0.1:", ":3", "up.0.1:x"):
        nowhere = ["-m", "no/such/model", "--sae", "saes"]
        bad("features", "icon", name, *nowhere, code=2, says=name, cwd=care)
        bad(
            *["features", "top", "--feature", name, "--prompts", "p.txt", *nowhere],
            code=2,
            says=name,
            cwd=care,
        )


def test_a_mask_with_a_space_in_its_name(care: Path) -> None:
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(care / "my mask.png")
    for edit in ('up.0.1 zero @"my mask.png"', "up.0.1 zero"):
        good("generate", "-p", "x", *SMALL, "--edit", edit, "-o", f"m{len(edit)}.png", cwd=care)
    one, two = (pixels(p) for p in sorted(care.glob("m[0-9]*.png")))
    assert (one == two).all()
    assert '@"my mask.png"' in good("generate", "--help").stdout.decode().replace("\n", " ")


# ---- recipes that travel, and whose they are ----


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_a_photograph_is_a_mask(care: Path, tmp_path: Path, suffix: str) -> None:
    """A grey JPEG has no chroma to interpolate, so Pillow and facet read the same greys in it."""
    ramp = np.add.outer(np.arange(64), 3 * np.arange(64)).clip(0, 255).astype(np.uint8)
    photo = tmp_path / f"mask.{suffix}"
    Image.fromarray(ramp).save(photo, "JPEG", quality=80)
    Image.open(photo).save(tmp_path / "same.png")
    made = []
    for mask in (photo, tmp_path / "same.png"):
        out = tmp_path / f"out-{mask.suffix[1:]}.png"
        good("generate", "-p", "a star", *SMALL, "--edit", f"up.0.1 zero @{mask}", "-o", out)
        made.append(pixels(out))
    assert np.array_equal(*made)
    # the recipe holds the mask itself
    out = tmp_path / f"out-{suffix}.png"
    photo.unlink()
    good("generate", "--recipe", out, "-o", tmp_path / "again.png")
    assert np.array_equal(pixels(tmp_path / "again.png"), made[0])


def test_what_a_jpeg_is_and_what_it_is_not(care: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.full((24, 40, 3), 90, np.uint8)).save(photo)
    told = result("info", photo)
    assert (told["kind"], told["width"], told["height"]) == ("jpeg", 40, 24)
    bad("generate", "--recipe", photo, "-o", tmp_path / "x.png", says=["photo.jpg", "a JPEG carries no recipe"])
    photo.write_bytes(photo.read_bytes()[:200])
    bad("info", photo, says=["photo.jpg", "damaged"])


def test_an_edited_picture_is_made_again_from_any_folder(care: Path, tmp_path: Path) -> None:
    assert recipe(care / "edited.png")["saes"][0]["path"] == str(care.resolve() / "saes/up.0.1")
    shutil.copy(care / "edited.png", tmp_path / "far.png")
    good("generate", "--recipe", "far.png", "-o", "again.png", cwd=tmp_path)
    assert (pixels(tmp_path / "again.png") == pixels(care / "edited.png")).all()
    made = recipe(care / "edited.png")
    made["saes"][0]["path"] = "moved/up.0.1"
    (tmp_path / "r").mkdir()
    (tmp_path / "r/moved.json").write_text(json.dumps(made))
    bad(
        *["generate", "--recipe", "r/moved.json", "-o", "no.png"],
        says=["is not at moved/up.0.1 nor at r/moved/up.0.1", "--sae up.0.1=DIR"],
        cwd=tmp_path,
    )
    shutil.copytree(care / "saes/up.0.1", tmp_path / "r/moved/up.0.1")
    good("generate", "--recipe", "r/moved.json", "-o", "again.png", cwd=tmp_path)
    assert (pixels(tmp_path / "again.png") == pixels(care / "edited.png")).all()
    base = ["features", "contrast", "r/moved.json", care / "b.png", "--top", "1"]
    good(*base, cwd=tmp_path)  # A's own SAE, from beside A


def test_look_and_contrast_say_whose_picture_it_is(care: Path) -> None:
    looked = log("features", "look", "edited.png", "-t", "1", cwd=care)
    assert "warning" not in looked and "running in" not in looked
    made = recipe(care / "edited.png")
    made["model"]["hash"] = "0" * 64
    made["sampler"] = "OtherScheduler"
    made["saes"][0]["hash"] = "1" * 64
    made["dtype"] = "bf16"
    (care / "other.json").write_text(json.dumps(made))
    for words in (["look", "other.json"], ["contrast", "other.json", "a.png"]):
        said = log("features", *words, "--sae", "saes", "-t", "1", cwd=care)
        warning = next(line for line in said.splitlines() if line.startswith("warning: "))
        assert warning.startswith("warning: other.json: it was made with other parts")
        for part in ("the model's hash was 0000", "the sampler was Other", "up.0.1 was 1111"):
            assert part in warning
        assert "plan" not in warning
    said = log("features", "look", "other.json", "-t", "1", cwd=care)
    assert "running in f32; the picture was made in bf16 (--dtype bf16 runs it so again)" in said
    said = log("features", "look", "other.json", "--dtype", "bf16", "-t", "1", cwd=care)
    assert "running in" not in said


def test_a_transport_needs_runs_that_fit(care: Path) -> None:
    good("generate", "-p", "x", "-W", "128", *SMALL[2:], "-o", "wide.png", cwd=care)
    good("generate", "-p", "x", *SMALL, "--steps", "2", "-o", "two.png", cwd=care)
    made = recipe(care / "b.png")
    made["model"]["hash"] = "0" * 64
    (care / "foreign.json").write_text(json.dumps(made))
    for name, says in (
        ("wide.png", "same size"),
        ("two.png", "same steps"),
        ("foreign.json", "one model"),
    ):
        words = ["features", "contrast", "a.png", name, "--sae", "saes", "-t", "1"]
        bad(*words, "-o", "t.json", says=says, cwd=care)
        assert not (care / "t.json").exists()
        good(*words, cwd=care)  # the table alone compares them all the same


def test_an_sae_of_another_block(care: Path) -> None:
    sae = ["--sae", "up.0.0=saes/up.0.1", "-t", "1"]
    (care / "p.txt").write_text("a star\n")
    for words in (
        ["generate", "-p", "x", *SMALL[:-2], "-o", "s.png"],
        ["features", "look", "a.png"],
        ["features", "top", "--feature", "up.0.0:1", "--prompts", "p.txt", *SMALL[:-2]],
        ["features", "icon", "up.0.0:1", *SMALL[:-2], "--unit", "one", "-o", "i.png"],
        ["features", "contrast", "a.png", "b.png"],
    ):
        said = log(*words, *sae, cwd=care)
        assert "was made for block up.0.1, and is used for up.0.0" in said, words
        assert "was made for block" not in log(
            "features", "look", "a.png", "--sae", "saes", cwd=care
        )


# ---- seeds, steps, texts ----


def test_top_takes_the_prompts_own_seeds(care: Path) -> None:
    (care / "seeds.jsonl").write_text(
        '{"prompt": "a star"}\n{"prompt": "a star", "seed": 77}\n{"prompt": "a star"}\n'
    )
    (care / "seeds.csv").write_text("prompt,seed\na star,\na star,77\na star,\n")
    good("generate", "-p", "a star", "--seed", "77", *SMALL, "-o", "77.png", cwd=care)
    look = result("features", "look", "77.png", "--sae", "saes", "--top", "1", "-t", "1", cwd=care)
    feature = f"up.0.1:{look['blocks']['up.0.1'][0]['feature']}"
    for name in ("seeds.jsonl", "seeds.csv"):
        said = result(
            *["features", "top", "--feature", feature, "--seed", "5"],
            *["--prompts", name, "--sae", "saes", *SMALL, "-o", "top"],
            cwd=care,
        )
        found = {e["number"]: e for f in said["features"] for e in f["examples"]}
        assert 1 in found and all(e["seed"] == {0: 5, 1: 77, 2: 7}[n] for n, e in found.items())
        for e in found.values():
            made = recipe(care / "top" / e["picture"])
            item = made["items"][made["index"]] if "items" in made else made
            assert item["seed"] == e["seed"]
            good("generate", "--recipe", f"top/{e['picture']}", "-o", "t.png", cwd=care)
            assert (pixels(care / "t.png") == pixels(care / "top" / e["picture"])).all()


def test_icons_and_looks_carry_their_recipe(care: Path) -> None:
    good(
        *["features", "icon", "up.0.1:1", "--sae", "saes", "--unit", "one", *SMALL],
        *["--seed", "4", "-o", "icon.png"],
        cwd=care,
    )
    good("generate", "--recipe", "icon.png", "-o", "first.png", cwd=care)
    assert (pixels(care / "first.png") == pixels(care / "icon.png")[8:72, 8:72]).all()
    good("features", "look", "edited.png", "-t", "1", "-o", "look-edited", cwd=care)
    good("generate", "--recipe", "look-edited/picture.png", "-o", "clean.png", cwd=care)
    assert (pixels(care / "clean.png") == pixels(care / "edited.png")).all()


def test_steps_that_are_one_more(care: Path) -> None:
    """61 steps with trailing spacing are 62 timesteps in diffusers; the last one is a step like the others."""
    assert recipe(care / "a.png")["sampler"] == "EulerAncestralDiscreteScheduler"
    base = ["generate", "-p", "a star", *SMALL, "--steps", "61"]
    said = log(*base, "-o", "plain.png", cwd=care)
    assert "61 steps with trailing spacing are 62, as in diffusers" in said
    assert recipe(care / "plain.png")["steps"] == 61
    good(*base, "--edit", "up.0.1 zero steps=1-62", "-o", "span.png", cwd=care)
    good(*base, "--edit", "up.0.1 zero", "-o", "all.png", cwd=care)
    good(*base, "--edit", "up.0.1 zero steps=1-61", "-o", "most.png", cwd=care)
    assert (pixels(care / "span.png") == pixels(care / "all.png")).all()
    good("generate", "--recipe", "all.png", "-o", "again.png", cwd=care)
    assert (pixels(care / "again.png") == pixels(care / "all.png")).all()
    bad(*base, "--edit", "up.0.1 zero steps=63", "-o", "no.png", says="62 steps", cwd=care)
    (care / "p.txt").write_text("a star\n")
    capture = ["capture", "--prompts", "p.txt", "--blocks", "up.0.1", *SMALL, "--steps", "61"]
    assert "61 steps with trailing spacing are 62" in log(*capture, "-o", "steps", cwd=care)
    rows = safetensors.load_file(next((care / "steps/up.0.1").iterdir()))
    assert sorted(set(rows["step"].tolist())) == list(range(1, 63))
    good(*capture, "--at-steps", "62", "-o", "last", cwd=care)
    bad(*capture, "--at-steps", "63", "-o", "none", code=2, says="--at-steps", cwd=care)


def test_empty_second_texts_are_the_first(care: Path) -> None:
    base = ["generate", "-p", "a star", "-n", "a circle", "--guidance", "3", *SMALL]
    good(*base, "-o", "one.png", cwd=care)
    good(*base, "--prompt-2", "", "--negative-2", "", "-o", "empty.png", cwd=care)
    assert (pixels(care / "one.png") == pixels(care / "empty.png")).all()
    good(*base, "--prompt-2", "a moon", "-o", "moon.png", cwd=care)
    assert (pixels(care / "one.png") != pixels(care / "moon.png")).any()


def test_a_long_prompt_is_quoted_once_and_briefly(care: Path) -> None:
    (care / "long.txt").write_text("star " * 2000 + "\n")
    prompt = ["-p", "star " * 2000, *SMALL, "-o", "long.png"]
    for words in (
        ["generate", *prompt],
        ["capture", "--prompts", "long.txt", "--blocks", "up.0.1", *SMALL, "-o", "long-store"],
    ):
        said = [line for line in log(*words, cwd=care).splitlines() if "cut" in line]
        assert len(said) == 1 and len(said[0]) < 250 and said[0].endswith('..."'), said
    assert len(result("generate", *prompt, cwd=care)["warning"]) < 250


def test_recipes_that_the_command_line_could_not_ask_for(care: Path) -> None:
    for key, value in (
        ("dtype", "f17"),
        ("steps", 1001),
        ("guidance", 101),
        ("width", 8200),
        ("height", 100),
    ):
        text = json.dumps({"format": "facet-recipe", "prompt": "x", key: value})
        (care / "r.json").write_text(text)
        says = f'r.json: "{key}": want'
        bad("generate", "--recipe", "r.json", "-o", "no.png", says=says, cwd=care)
    auto = {"format": "facet-recipe", "prompt": "x", "dtype": "auto", "width": 64, "height": 64}
    (care / "r.json").write_text(json.dumps({**auto, "sampler": "OtherScheduler"}))
    said = log("generate", "--recipe", "r.json", "-o", "auto.png", cwd=care)
    assert "the sampler was OtherScheduler" in said and "number type" not in said


def test_two_scales_of_one_feature(care: Path) -> None:
    base = ["generate", "-p", "x", *SMALL, "--sae", "saes", "-o", "no.png"]
    bad(
        *[*base, "--edit", "up.0.1:1 x0", "--edit", "up.0.1:1 x2"],
        says="contradict each other",
        cwd=care,
    )
    assert run("info", DEMO).returncode == 0
