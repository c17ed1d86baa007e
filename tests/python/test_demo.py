"""`facet demo`, end to end on a small pass: folder, summary, page, pictures as recipes, stopping.

Run:  FACET=build/facet python -m pytest tests/python/test_demo.py

Needs Pillow and numpy, and Chromium for the browser's part.

The demo model's weights are used where they are; FACET_DEMO_MODEL names another folder with a
world and a checker.
"""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="numpy compares pictures")
Image = pytest.importorskip("PIL.Image", reason="Pillow reads pictures")

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(os.environ.get("FACET_DEMO_MODEL", ROOT / "models" / "demo"))
BLOCKS = ["down.2.1", "mid.0", "up.0.0", "up.0.1"]
SHARES = ["read_clean", "read_painted", "read_random_direction", "read_random_feature"]
VOID = {"meta", "link", "img", "input", "br"}


def facet() -> str:
    for name in (os.environ.get("FACET"), ROOT / "build" / "facet"):
        if name and Path(name).exists():
            return str(Path(name).resolve())
    pytest.skip("no facet program: build it, or name it in FACET")


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [facet(), *args], check=False, cwd=cwd, capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (MODEL / "unet" / "diffusion_pytorch_model.safetensors").exists():
        pytest.skip(f"no weights in {MODEL}")
    out = tmp_path_factory.mktemp("demo") / "out"
    done = run("demo", "--quick", "-o", str(out), "--model", str(MODEL))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(str(out) in line for line in lines)
    return out


def test_summary(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["blocks"]) == BLOCKS
    for block in summary["blocks"].values():
        assert 0 <= block["dead_share"] <= 1 and block["ev"] <= 1 and 0 < block["l0"] <= block["k"]
        assert 0 <= block["change_rebuilt"] <= 1 and 0 <= block["change_zeroed"] <= 1
        cards = block["cards"]
        assert sum(c["chosen"] for c in cards) <= 6 and sum(not c["chosen"] for c in cards) <= 3
        assert len({c["feature"] for c in cards}) == len(cards)
        for card in cards:
            assert 0 <= card["feature"] < block["features"]
            assert card["chosen"] in (True, False) and (card["word"] or not card["chosen"])
            for key in SHARES:
                assert 0 <= card[key] <= 1
                assert abs(card[key] * card["pairs"] - round(card[key] * card["pairs"])) < 1e-6
        words = [(c["factor"], c["word"]) for c in cards if c["chosen"]]
        assert len(set(words)) == len(words)


def test_from_python(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of docs/from-python.md run as they stand, and what diffusers then draws is facet's picture."""
    torch = pytest.importorskip("torch", reason="the page is about torch")
    pipelines = pytest.importorskip("diffusers", reason="the page compares with diffusers")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "from-python.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    recipe, stats = names["recipe"], names["stats"]
    same = ["generate", "--model", str(MODEL), "-p", recipe["prompt"], "--seed", str(recipe["seed"])]
    same += ["--dtype", "f32", "-q", "-o"]

    def near(theirs: object, *more: str) -> np.ndarray:
        done = run(*same, "ours.png", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        ours = np.asarray(Image.open(tmp_path / "ours.png")).astype(int)
        assert (abs(ours - np.asarray(theirs).astype(int)) <= 1).mean() >= 0.999  # observed: 1
        return ours

    clean = near(names["same_in_diffusers"](str(MODEL)))
    pipe = pipelines.StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    feature = int(stats["mean"].argmax())
    names["paint"](pipe, feature, 4.0)
    theirs = pipe(
        recipe["prompt"],
        num_inference_steps=recipe["steps"],
        guidance_scale=0.0,
        height=recipe["height"],
        width=recipe["width"],
        generator=torch.Generator("cpu").manual_seed(recipe["seed"]),
    ).images[0]
    painted = near(theirs, "--sae", "out/demo/saes", "--edit", f"up.0.1:{feature} +4")
    assert abs(painted - clean).mean() > 1  # the edit does something


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced; collects what is loaded, linked and named."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images_without_alt = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in a:
            self.ids.append(a["id"] or "")
        if tag == "img":
            self.sources.append(a.get("src") or "")
            self.images_without_alt += "alt" not in a
        if tag in ("a", "link"):
            self.links.append(a.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


@pytest.fixture(scope="module")
def page(folder: Path) -> tuple[str, Page]:
    text = (folder / "index.html").read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(text)
    assert parsed.open == []
    return text, parsed


def test_page_is_whole(folder: Path, page: tuple[str, Page]) -> None:
    text, parsed = page
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert parsed.images_without_alt == 0
    for source in parsed.sources:
        assert source.startswith("data:image/png;base64,") or (folder / source).is_file(), source
    for link in parsed.links:
        assert link.startswith(("#", "data:")) or (folder / link).is_file(), link
        assert not link.startswith("#") or link[1:] in parsed.ids
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "@import" not in text and "url(" not in text


def test_page_says_what_it_must(page: tuple[str, Page]) -> None:
    text, _ = page
    for part in ("interpretable", "causal", "specialised", "paper"):
        assert f'<section id="{part}">' in text
    for block in BLOCKS:
        assert text.count(f'data-name="{block}"') == 2
    assert "The rule." in text and "random direction" in text and "drawn at random" in text
    assert "nan" not in re.sub(r"[A-Za-z]*nan[A-Za-z]+|[A-Za-z]+nan[A-Za-z]*", "", text)


def test_three_kinds_of_prompts_share_nothing(folder: Path) -> None:
    train = json.loads((folder / "store" / "store.json").read_text(encoding="utf-8"))["prompts"]
    held = json.loads((folder / "store-heldout" / "store.json").read_text(encoding="utf-8"))[
        "prompts"
    ]
    choose, show = held[: len(held) // 2], held[len(held) // 2 :]
    sets = [
        ({p["text"] for p in part}, {p["seed"] for p in part})
        for part in (train, choose, show)
    ]
    for i in range(3):
        for j in range(i):
            assert not sets[i][0] & sets[j][0] and not sets[i][1] & sets[j][1]


@pytest.mark.parametrize(
    "pattern", ["show-*", "*-icon-0", "*-painted-0", "*-direction-0", "*-zeroed-0"]
)
def test_pictures_replay(folder: Path, tmp_path: Path, pattern: str) -> None:
    picture = min((folder / "pictures").glob(pattern + ".png"))
    recipe = json.loads(Image.open(picture).text["facet"])
    assert recipe["format"] == "facet-recipe"
    again = tmp_path / "again.png"
    done = run("generate", "--recipe", str(picture), "-o", str(again))
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.array_equal(np.asarray(Image.open(again)), np.asarray(Image.open(picture)))


def test_pictures_replay_where_the_folder_was_moved(folder: Path, tmp_path: Path) -> None:
    for kind in ("saes", "controls"):
        shutil.copytree(folder / kind, tmp_path / "moved" / kind)
    (tmp_path / "moved/pictures").mkdir()
    for pattern, kind in (("*-painted-0", "saes"), ("*-direction-0", "controls")):
        picture = min((folder / "pictures").glob(pattern + ".png"))
        recipe = json.loads(Image.open(picture).text["facet"])
        assert [s["path"] for s in recipe["saes"]] == [f"../{kind}/{recipe['saes'][0]['block']}"]
        shutil.copy(picture, tmp_path / "moved/pictures/p.png")
        done = run("generate", "--recipe", "moved/pictures/p.png", "-o", "again.png", cwd=tmp_path)
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr[-2000:]
        again, was = (np.asarray(Image.open(p)) for p in (tmp_path / "again.png", picture))
        assert np.array_equal(again, was)


def test_saes_and_controls_are_saelens_folders(folder: Path) -> None:
    for kind in ("saes", "controls"):
        for block in BLOCKS:
            assert (folder / kind / block / "cfg.json").is_file()
            assert (folder / kind / block / "sae_weights.safetensors").is_file()


def stop_when(ready: Callable[[], bool], out: Path, *options: str) -> None:
    """Starts the demo, interrupts it as soon as that is there, and sees that it says so."""
    command = [facet(), "demo", "--quick", "-o", str(out), "--model", str(MODEL), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(3000):
        if ready() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert ready() and process.returncode == 130


def test_pictures_do_not_depend_on_threads(folder: Path, tmp_path: Path) -> None:
    """One thread draws each picture; those without an edit do not depend on SAEs, whose rows and training may differ."""
    out = tmp_path / "one"
    names = [f"empty-{i}.png" for i in range(3)] + [f"show-{i}.png" for i in range(3)]
    stop_when(lambda: all((out / "pictures" / n).exists() for n in names), out, "--threads", "1")
    for name in names:
        first, second = (np.asarray(Image.open(f / "pictures" / name)) for f in (folder, out))
        assert (first == second).all(), name


def test_stopped_leaves_no_page_and_again_is_the_same(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    stop_when(lambda: (out / "saes").is_dir() and any((out / "saes").iterdir()), out)
    assert not (out / "index.html").exists() and not (out / "summary.json").exists()
    done = run("demo", "--quick", "-o", str(out), "--model", str(MODEL))
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (
        json.loads((f / "summary.json").read_text(encoding="utf-8")) for f in (folder, out)
    )
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_refusals(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    done = run("demo", "-o", str(file))
    assert done.returncode in (1, 2) and "file" in done.stderr
    done = run("demo", "-o", str(tmp_path / "out"), "--model", str(tmp_path / "nowhere"))
    assert done.returncode == 1 and "nowhere" in done.stderr
    done = run("demo", "--seed", "many")
    assert done.returncode == 2 and "seed" in done.stderr


def test_browser_is_quiet(folder: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        pytest.skip("no Chromium")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--v=0",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=4000",
            "--dump-dom",
            f"file://{folder / 'index.html'}",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert "CONSOLE" not in done.stderr, [
        line for line in done.stderr.splitlines() if "CONSOLE" in line
    ]
    assert done.stdout.count('role="tab"') == 8  # the script ran
    assert done.stdout.count("hidden=") == 6
