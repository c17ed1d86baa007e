"""The shapes world: scenes, captions, pictures, and how noise decides what a caption leaves open.

Look at it:  python tools/train_demo/world.py --sheet world.png

One-step generation is a regression: whatever the caption leaves open must be a function of the noise, or the model
draws the average of all that is possible.  The rules are here, in numpy alone and without hidden state, so that a
native twin can be tested against them:

* place of the first object: soft-argmax of noise channel 0 after a blur; of the second: soft-argmin;
* background: the mean of channel 0;
* colour, shape, size: channels 1, 2, 3 under a unit-norm Gaussian at the first object's place.
  All four are unit normals, cut into equal bins by the normal distribution;
* texture, number and light have a value that needs no words: plain, one, plain.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path
from statistics import NormalDist

import numpy as np

PX = 256       # picture width
LAT = 32       # latent width

SHAPES = ["circle", "square", "triangle", "star", "ring", "cross"]
COLOURS = {
    "red": (0.86, 0.13, 0.13), "orange": (0.97, 0.55, 0.08), "yellow": (0.98, 0.88, 0.15),
    "green": (0.15, 0.62, 0.22), "blue": (0.13, 0.33, 0.88), "purple": (0.56, 0.18, 0.72),
    "white": (0.98, 0.98, 0.98),
}
TEXTURES = ["plain", "striped", "dotted"]
SIZES = {"small": 0.20, "large": 0.32}     # radius in picture widths
NUMBERS = ["one", "two"]
BACKGROUNDS = {
    "grey": "on grey", "pink": "on pink", "night": "at night", "sunset": "at sunset",
    "meadow": "in a meadow", "ocean": "by the ocean",
}
LIGHTS = {"plain": (1.0, 1.0, 1.0), "dim": (0.55, 0.55, 0.55), "warm": (1.08, 0.92, 0.68)}

FACTORS: dict[str, list[str]] = {
    "shape": SHAPES, "colour": list(COLOURS), "texture": TEXTURES, "size": list(SIZES),
    "number": NUMBERS, "background": list(BACKGROUNDS), "light": list(LIGHTS),
}
UNSAID = {"texture": "plain", "number": "one", "light": "plain"}     # values that need no words
BY_NOISE = ("background", "colour", "shape", "size")                 # in the order of the functionals
TWO_SCALE = 0.8                                                      # two objects are drawn a little smaller

Scene = dict[str, str]

# ---- noise ---------------------------------------------------------------------------------------------------------

_SIGMA, _HALF = 4.8, 9           # blur of channel 0; it is separable, so it is two small matrices
_SPREAD = 1.35                   # soft-argmax shrinks towards the middle; this spreads the places again
_SHARP = 6.0                     # soft enough that near-ties make no ghosts
_SPOT_SIGMA, _SPOT = 3.6, 7      # the Gaussian under the object


def _blur_matrix() -> np.ndarray:
    tap = np.exp(-0.5 * (np.arange(-_HALF, _HALF + 1) / _SIGMA) ** 2)
    tap /= math.sqrt((tap ** 2).sum())                    # unit variance out for unit variance in
    rows = LAT - 2 * _HALF
    out = np.zeros((rows, LAT), np.float32)
    for i in range(rows):
        out[i, i:i + 2 * _HALF + 1] = tap
    return out


_BLUR = _blur_matrix()
_spot = np.exp(-0.5 * (np.arange(-_SPOT, _SPOT + 1) / _SPOT_SIGMA) ** 2)
SPOT = np.outer(_spot, _spot).astype(np.float32)
SPOT /= np.sqrt((SPOT ** 2).sum())


def places(noise: np.ndarray) -> np.ndarray:
    """noise [B,4,32,32] (or its channel 0, [B,1,32,32]) -> centres of first and second object, [B,2,2] as (x, y) in [0,1]"""
    level = _BLUR @ noise[:, 0] @ _BLUR.T                  # [B,14,14], centred on latent pixels 9..22
    n = level.shape[1]
    cells = np.arange(n, dtype=np.float32)
    out = np.empty((len(noise), 2, 2), np.float32)
    for k, sign in enumerate((1.0, -1.0)):
        p = sign * _SHARP * level.reshape(len(noise), -1)
        p = np.exp(p - p.max(1, keepdims=True))
        p = (p / p.sum(1, keepdims=True)).reshape(-1, n, n)
        out[:, k, 0] = p.sum(1) @ cells
        out[:, k, 1] = p.sum(2) @ cells
    return (out - (n - 1) / 2) / LAT * _SPREAD + 0.5


def _corner(at: np.ndarray) -> np.ndarray:
    """top left latent pixel of the 15x15 spot at centres [B,2]"""
    return np.clip(np.rint(at * LAT), _SPOT, LAT - _SPOT - 1).astype(int) - _SPOT


def functionals(noise: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[B,4] unit normals in the order of BY_NOISE; at [B,2] is the first object's place"""
    out = np.empty((len(noise), 4), np.float32)
    out[:, 0] = noise[:, 0].mean((1, 2)) * LAT
    side = 2 * _SPOT + 1
    for i, (x, y) in enumerate(_corner(at)):
        out[i, 1:] = (noise[i, 1:, y:y + side, x:x + side] * SPOT).sum((1, 2))
    return out


def set_functionals(noise: np.ndarray, at: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Shifts the functionals to `want` [B,4]; NaN leaves one as it is.  Shifting channel 0's mean moves no place,
    and the rest of the noise is independent of a functional, so the joint distribution stays exact."""
    shift = np.where(np.isnan(want), 0, want - functionals(noise, at)).astype(np.float32)
    noise = noise.copy()
    noise[:, 0] += shift[:, 0, None, None] / LAT
    side = 2 * _SPOT + 1
    for i, (x, y) in enumerate(_corner(at)):
        noise[i, 1:, y:y + side, x:x + side] += shift[i, 1:, None, None] * SPOT
    return noise


def bin_of(value: float, n: int) -> int:
    """which of n equally likely bins a unit normal falls into"""
    return min(n - 1, int(0.5 * (1 + math.erf(value / math.sqrt(2))) * n))


def draw_in_bin(index: int, n: int, rng: random.Random) -> float:
    p = (index + rng.random()) / n
    return NormalDist().inv_cdf(min(max(p, 1e-5), 1 - 1e-5))


def decide(noise: np.ndarray, scene: Scene, named: set[str]) -> tuple[Scene, list[tuple[float, float]]]:
    """What the picture of one noise [4,32,32] must show: named factors from the scene, the rest by the rules."""
    at = places(noise[None])[0]
    value = functionals(noise[None], at[:1])[0]
    out = {f: scene[f] if f in named else UNSAID.get(f, "") for f in FACTORS}
    for k, factor in enumerate(BY_NOISE):
        if factor not in named:
            out[factor] = FACTORS[factor][bin_of(float(value[k]), len(FACTORS[factor]))]
    count = 2 if out["number"] == "two" else 1
    return out, [(float(x), float(y)) for x, y in at[:count]]


# ---- captions ------------------------------------------------------------------------------------------------------

def random_scene(rng: random.Random) -> Scene:
    return {
        "shape": rng.choice(SHAPES), "colour": rng.choice(list(COLOURS)),
        "texture": rng.choice(("plain", "striped", "dotted")), "size": rng.choice(list(SIZES)),
        "number": "two" if rng.random() < 0.3 else "one", "background": rng.choice(list(BACKGROUNDS)),
        "light": rng.choice(("plain", "plain", "dim", "warm")),
    }


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def caption_of(scene: Scene, named: set[str]) -> str:
    """The caption that names these factors.  Values of UNSAID need no words, the others of their factors always
    get them, so the set needs only BY_NOISE factors."""
    two = scene["number"] == "two"
    words = ["two" if two else "a"]
    if "size" in named:
        words.append(scene["size"])
    if scene["texture"] != "plain":
        words.append(scene["texture"])
    if "colour" in named:
        words.append(scene["colour"])
    noun = scene["shape"] if "shape" in named else "shape"
    words.append(plural(noun) if two else noun)
    if "background" in named:
        words.append(BACKGROUNDS[scene["background"]])
    if scene["light"] != "plain":
        words.append(f"in {scene['light']} light")
    return " ".join(words)


def caption(scene: Scene, rng: random.Random, drop: float = 0.2) -> tuple[str, set[str]]:
    """A random caption of the scene and the factors that its words settle (one, plain, plain included)."""
    unsaid = all(scene[f] == v for f, v in UNSAID.items())
    if unsaid and rng.random() < 0.12:                    # about 1 caption in 50
        return "", set(UNSAID)
    named = {f for f in BY_NOISE if rng.random() >= drop}
    return caption_of(scene, named), named | set(UNSAID)


def read_caption(text: str) -> tuple[Scene, set[str]]:
    """A caption of this grammar -> the values that it settles (what needs no words included), and their factors."""
    scene: Scene = {}
    for word in text.split():
        for factor, values in FACTORS.items():
            for value in values:
                if word in (value, plural(value)) and value != UNSAID.get(factor):
                    scene[factor] = value
    scene = {**UNSAID, **scene}
    return scene, set(scene)


def said(scene: Scene, named: set[str]) -> set[str]:
    """factors that a word of the caption speaks of ('a' speaks of the number)"""
    return {f for f in named if f == "number" or scene[f] != UNSAID.get(f)}


# ---- pictures ------------------------------------------------------------------------------------------------------

_Y, _X = np.meshgrid((np.arange(PX) + 0.5) / PX, (np.arange(PX) + 0.5) / PX, indexing="ij")
_Y, _X = _Y.astype(np.float32), _X.astype(np.float32)


def _soft(distance: np.ndarray) -> np.ndarray:
    """signed distance in picture widths -> coverage, one pixel wide"""
    return np.clip(0.5 - distance * PX, 0, 1)


def _mix(image: np.ndarray, colour: tuple[float, ...] | np.ndarray, cover: np.ndarray) -> np.ndarray:
    return image * (1 - cover[..., None]) + np.asarray(colour, np.float32) * cover[..., None]


def _fade(top: tuple[float, ...], bottom: tuple[float, ...], t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)[..., None]
    return np.asarray(top, np.float32) * (1 - t) + np.asarray(bottom, np.float32) * t


def _disc(x: float, y: float, r: float) -> np.ndarray:
    return _soft(np.hypot(_X - x, _Y - y) - r)


def _background(name: str) -> np.ndarray:
    """Nothing here is random: what neither caption nor noise tells would be drawn as a blur."""
    if name == "grey":
        return _fade((0.58, 0.58, 0.60), (0.50, 0.50, 0.52), _Y)
    if name == "pink":
        return _fade((0.99, 0.82, 0.86), (0.96, 0.74, 0.80), _Y)
    if name == "night":
        im = _fade((0.03, 0.04, 0.16), (0.10, 0.12, 0.32), _Y)
        for i in range(20):                               # an additive recurrence: even, and needs no generator
            im = _mix(im, (0.95, 0.95, 0.85), _disc((0.3 + 0.7549 * i) % 1, (0.6 + 0.5698 * i) % 1, 0.009))
        moon = _disc(0.87, 0.13, 0.080) * (1 - _disc(0.835, 0.11, 0.068))
        return _mix(im, (0.96, 0.94, 0.78), moon)
    if name == "sunset":
        im = _fade((0.45, 0.20, 0.50), (1.0, 0.62, 0.25), _Y / 0.78)
        im = _mix(im, (1.0, 0.88, 0.45), _disc(0.5, 0.78, 0.17))
        return _mix(im, (0.22, 0.10, 0.18), _soft(0.78 - _Y))
    if name == "meadow":
        im = _fade((0.45, 0.72, 0.97), (0.82, 0.92, 1.0), _Y / 0.6)
        im = _mix(im, (0.42, 0.74, 0.30), _soft(0.62 + 0.05 * np.sin(5 * _X + 1) - _Y))
        for x, y, c in ((0.10, 0.80, (1.0, 0.9, 0.2)), (0.30, 0.93, (1.0, 0.5, 0.6)), (0.50, 0.84, (1.0, 1.0, 1.0)),
                        (0.72, 0.94, (1.0, 0.9, 0.2)), (0.90, 0.80, (1.0, 0.5, 0.6))):
            im = _mix(im, c, _disc(x, y, 0.026))
        return im
    im = _fade((0.75, 0.88, 0.95), (0.90, 0.95, 0.97), _Y / 0.5)
    im = im * (1 - _soft(0.5 - _Y)[..., None]) \
        + _fade((0.10, 0.55, 0.68), (0.04, 0.30, 0.50), (_Y - 0.5) / 0.5) * _soft(0.5 - _Y)[..., None]
    for k in range(5):
        wave = np.abs(_Y - (0.58 + 0.09 * k) - 0.012 * np.sin(22 * _X + 2 * k)) - 0.005
        im = _mix(im, (0.75, 0.92, 0.95), _soft(wave) * 0.85)
    return im


_BACKGROUND = {b: _background(b).astype(np.float32) for b in BACKGROUNDS}


def shape_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """signed distance-like value, in radii, of points relative to the centre (y down)"""
    if shape == "circle":
        return np.hypot(x, y) - 0.95
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.70) - 0.28
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.82
    if shape == "cross":
        return np.minimum(np.maximum(np.abs(x) - 0.34, np.abs(y) - 0.98), np.maximum(np.abs(y) - 0.34, np.abs(x) - 0.98))
    if shape == "triangle":
        y = y - 0.13
        return np.maximum(np.abs(x) * 0.866 - y * 0.5, y) - 0.55
    if shape == "star":                                   # fold into one tip, then the line from tip to inner corner
        n = math.pi / 5
        a = (np.arctan2(x, -y) + n) % (2 * n) - n
        r = np.hypot(x, y)
        px, py = r * np.cos(a), r * np.abs(np.sin(a))
        tip, inner_x, inner_y = 1.1, 0.5 * math.cos(n), 0.5 * math.sin(n)
        dx, dy = inner_x - tip, inner_y
        return ((px - tip) * dy - py * dx) / math.hypot(dx, dy)
    raise ValueError(f"no such shape: {shape}")


def radius_of(scene: Scene) -> float:
    return SIZES[scene["size"]] * (TWO_SCALE if scene["number"] == "two" else 1.0)


def _texture(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coverage of the darker second colour; x, y in picture widths.  The patterns lie still in the picture, one period
    a map cell of the watched blocks: anchored at the objects they would need their centres to two pixels, which one
    step does not learn in 50,000 samples."""
    pitch = 1 / 8
    if name == "striped":
        return _soft((np.abs((x + y) / pitch % 1 - 0.5) - 0.25) * pitch / math.sqrt(2))
    if name == "dotted":                                  # at the middles and the corners of the cells
        u, v = (np.abs(c / pitch % 1 - 0.5) * pitch for c in (x, y))
        return _soft(np.minimum(np.hypot(u, v), np.hypot(u - pitch / 2, v - pitch / 2)) - 0.027)
    return np.zeros_like(x)


def render(scene: Scene, at: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """-> picture [256,256,3] in [0,1], coverage of the objects [256,256]"""
    im, cover = _BACKGROUND[scene["background"]].copy(), np.zeros((PX, PX), np.float32)
    r = radius_of(scene)
    base = np.asarray(COLOURS[scene["colour"]], np.float32)
    second = base * (0.45 if scene["colour"] == "white" else 0.35)
    reach = int(1.2 * r * PX) + 4                         # nothing is drawn beyond: render only this box
    for cx, cy in at:
        x0, y0 = max(0, int(cx * PX) - reach), max(0, int(cy * PX) - reach)
        box = np.s_[y0:min(PX, int(cy * PX) + reach), x0:min(PX, int(cx * PX) + reach)]
        x, y = _X[box] - np.float32(cx), _Y[box] - np.float32(cy)
        d = shape_distance(scene["shape"], x / r, y / r) * r
        rim = _soft(d - 0.012)                            # a dark outline keeps a small VAE's pictures crisp
        t = _texture(scene["texture"], _X[box], _Y[box])[..., None]
        patch = _mix(im[box], (0.06, 0.05, 0.08), rim)
        inside = _soft(d)[..., None]
        im[box] = patch * (1 - inside) + (base * (1 - t) + second * t) * inside
        cover[box] = np.maximum(cover[box], rim)
    return np.clip(im * np.asarray(LIGHTS[scene["light"]], np.float32), 0, 1), cover


def main() -> None:
    from PIL import Image
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--sheet", type=Path, required=True, help="PNG to write: 40 pictures")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    rng, noise = random.Random(args.seed), np.random.default_rng(args.seed)
    sheet = Image.new("RGB", (160 * 8, 160 * 5))
    for i in range(40):
        scene = random_scene(rng)
        text, named = caption(scene, rng)
        scene, at = decide(noise.standard_normal((4, LAT, LAT), np.float32), scene, named)
        im, _ = render(scene, at)
        tile = Image.fromarray((im * 255).round().astype(np.uint8)).resize((160, 160), Image.Resampling.LANCZOS)
        sheet.paste(tile, (160 * (i % 8), 160 * (i // 8)))
        print(text or "(empty)")
    sheet.save(args.sheet)


if __name__ == "__main__":
    main()
