"""The shapes world keeps its word: noise, captions and pictures say the same.

Run:  python -m pytest tests/python/test_world.py     (numpy; torch for what touches the pool and the checker)
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="numpy draws the world")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "train_demo"))
import world


def noises(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 4, world.LAT, world.LAT), np.float32)


def test_noise_decides_evenly() -> None:
    noise = noises(4000, 1)
    value = world.functionals(noise, world.places(noise)[:, 0])
    assert np.abs(value.mean(0)).max() < 0.06 and np.abs(value.std(0) - 1).max() < 0.05
    for k, factor in enumerate(world.BY_NOISE):
        n = len(world.FACTORS[factor])
        share = np.bincount([world.bin_of(float(v), n) for v in value[:, k]], minlength=n) / len(value)
        assert np.abs(share - 1 / n).max() < 0.03, factor


def test_set_values_are_read_back_and_places_stay() -> None:
    rng, noise = random.Random(2), noises(200, 2)
    at = world.places(noise)
    want = np.full((200, 4), np.nan, np.float32)
    scenes = []
    for i in range(200):
        scene = world.random_scene(rng)
        _, named = world.caption(scene, rng)
        scenes.append((scene, named))
        for k, factor in enumerate(world.BY_NOISE):
            if factor not in named:
                values = world.FACTORS[factor]
                want[i, k] = world.draw_in_bin(values.index(scene[factor]), len(values), rng)
    moved = world.set_functionals(noise, at[:, 0], want)
    assert np.abs(world.places(moved) - at).max() < 1e-4
    for i, (scene, named) in enumerate(scenes):
        got, centres = world.decide(moved[i], scene, named)
        assert got == scene
        assert len(centres) == (2 if scene["number"] == "two" else 1)


def test_values_left_alone_stay_unit_normal() -> None:
    noise = noises(3000, 3)
    at = world.places(noise)[:, 0]
    want = np.full((3000, 4), np.nan, np.float32)
    want[:, 1] = 2.0
    value = world.functionals(world.set_functionals(noise, at, want), at)
    assert np.abs(value[:, 1] - 2).max() < 1e-3
    assert np.abs(value[:, [0, 2, 3]].std(0) - 1).max() < 0.06


def test_captions_say_what_they_name() -> None:
    rng = random.Random(4)
    for _ in range(2000):
        scene = world.random_scene(rng)
        text, named = world.caption(scene, rng)
        got, settled = world.read_caption(text)
        assert settled == named, text
        assert all(got[f] == scene[f] for f in named), text
    assert world.read_caption("") == (world.UNSAID, set(world.UNSAID))


def test_caption_grammar() -> None:
    scene = {"shape": "cross", "colour": "blue", "texture": "striped", "size": "large", "number": "two",
             "background": "night", "light": "dim"}
    assert world.caption_of(scene, set(world.FACTORS)) == "two large striped blue crosses at night in dim light"
    assert world.caption_of(scene, set()) == "two striped shapes in dim light"
    one = scene | {"number": "one", "texture": "plain", "light": "plain"}
    assert world.caption_of(one, {"shape"}) == "a cross"


def flat(scene: world.Scene) -> world.Scene:
    return scene | {"texture": "plain", "light": "plain", "number": "one"}


def test_colour_stands_at_the_centre() -> None:
    for shape in ("circle", "square", "triangle", "star", "cross"):
        for colour, value in world.COLOURS.items():
            scene = flat({"shape": shape, "colour": colour, "size": "small", "background": "grey"})
            image, _ = world.render(scene, [(0.5, 0.5)])
            assert np.allclose(image[128, 128], value, atol=1e-6), (shape, colour)


def test_size_and_number_are_the_covered_area() -> None:
    def area(**change: str) -> float:
        scene = {"shape": "circle", "colour": "red", "texture": "plain", "size": "small", "number": "one",
                 "background": "pink", "light": "plain"} | change
        return float(world.render(scene, [(0.3, 0.3), (0.7, 0.7)][:1 + (scene["number"] == "two")])[1].mean())

    outline = 0.012
    assert math.isclose(area(), math.pi * (0.95 * 0.20 + outline) ** 2, rel_tol=0.02)
    assert math.isclose(area(size="large"), math.pi * (0.95 * 0.32 + outline) ** 2, rel_tol=0.03)
    assert math.isclose(area(number="two"), 2 * math.pi * (0.95 * 0.16 + outline) ** 2, rel_tol=0.02)


def test_light_scales_the_finished_picture() -> None:
    scene = {"shape": "star", "colour": "green", "texture": "dotted", "size": "large", "number": "one",
             "background": "meadow", "light": "plain"}
    plain, _ = world.render(scene, [(0.4, 0.5)])
    for light, gain in world.LIGHTS.items():
        lit, _ = world.render(scene | {"light": light}, [(0.4, 0.5)])
        assert np.allclose(lit, np.clip(plain * np.float32(gain), 0, 1), atol=1e-6), light


def test_texture_has_its_two_colours() -> None:
    for texture, least, most in (("plain", 0.0, 0.0), ("striped", 0.35, 0.65), ("dotted", 0.15, 0.45)):
        scene = flat({"shape": "square", "colour": "red", "size": "large", "background": "pink"}) | {"texture": texture}
        image, _ = world.render(scene, [(0.5, 0.5)])
        dark = (image[80:176, 80:176, 0] < 0.5).mean()
        assert least <= dark <= most, (texture, dark)


def test_objects_stand_at_their_places() -> None:
    scene = flat({"shape": "circle", "colour": "white", "size": "small", "background": "night"})
    _, cover = world.render(scene, [(0.35, 0.6)])
    y, x = np.mgrid[:world.PX, :world.PX]
    assert abs((cover * x).sum() / cover.sum() / world.PX - 0.35) < 0.005
    assert abs((cover * y).sum() / cover.sum() / world.PX - 0.60) < 0.005


def test_backgrounds_are_all_different_and_fixed() -> None:
    scene = flat({"shape": "circle", "colour": "red", "size": "small", "background": ""})
    pictures = [world.render(scene | {"background": b}, [(0.5, 0.5)])[0] for b in world.BACKGROUNDS]
    again = world.render(scene | {"background": "night"}, [(0.5, 0.5)])[0]
    assert np.array_equal(pictures[list(world.BACKGROUNDS).index("night")], again)
    for i, a in enumerate(pictures):
        assert all(np.abs(a - b).mean() > 0.03 for b in pictures[:i])


def test_published_files_match_the_rules() -> None:
    demo = ROOT / "models" / "demo"
    factors = json.loads((demo / "world.json").read_text(encoding="utf-8"))["factors"]
    assert {f["name"]: [v["name"] for v in f["values"]] for f in factors} == world.FACTORS
    held = (demo / "prompts" / "heldout.txt").read_text(encoding="utf-8").splitlines()
    train = (demo / "prompts" / "train.txt").read_text(encoding="utf-8").splitlines()
    assert len(held) == 600 and 2000 <= len(train) <= 3000 and not set(held) & set(train)
    for text in held + train:
        scene, named = world.read_caption(text)
        assert world.caption_of({f: "?" for f in world.FACTORS} | scene, named) == text


def test_renewed_noise_keeps_its_places() -> None:
    pytest.importorskip("torch", reason="the pool is a torch script")
    pytest.importorskip("diffusers", reason="the pool is a diffusers script")
    import pool
    noise = noises(300, 5)
    smooth = pool.BASIS @ noise[:, 0] @ pool.BASIS.T
    fresh = pool.renew(smooth, np.random.default_rng(6))
    assert np.abs(world.places(fresh) - world.places(noise)).max() < 0.01
    assert np.abs(fresh.std((0, 2, 3)) - 1).max() < 0.02
    assert np.abs((fresh[:, 0] * noise[:, 0]).mean()) < 0.25      # most of channel 0 is new


def test_checker_matches_its_description() -> None:
    torch = pytest.importorskip("torch", reason="the checker is a torch script")
    pytest.importorskip("diffusers", reason="the checker's training uses the VAE")
    import checker
    text = json.loads((ROOT / "models" / "demo" / "checker" / "checker.json").read_text(encoding="utf-8"))
    assert text == json.loads(json.dumps(checker.description()))
    assert checker.Checker()(torch.zeros(1, 3, 256, 256)).shape[1] == sum(h["size"] for h in text["heads"])
