"""facet train SWEEP: several SAEs from one pass over rows, their results, what is refused; and kills at many moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from cli_util import bad, facet, good, result
from safetensors.numpy import load_file

FULL = bool(os.environ.get("FACET_FULL"))
OPTIONS = {"preset": "demo", "batch-size": 64, "steps": 60, "store": "store"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two blocks of unlike width."""
    folder = tmp_path_factory.mktemp("sweep")
    rng = np.random.default_rng(0)
    for name, width in (("up.0.1", 16), ("mid.0", 12)):
        rows = rng.standard_normal((4000, width)) @ rng.standard_normal((width, width))
        np.save(folder / f"{name}.npy", rows.astype(np.float32))
        good("capture", "--import", f"{name}.npy", "--block", name, "-o", "store", cwd=folder)
    return folder


def write(folder: Path, name: str, **members: object) -> str:
    (folder / name).write_text(json.dumps(members))
    return name


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the figures that hold times, and what a kill left of a single file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name != "results.json" and ".tmp-" not in p.name}  # fmt: skip


def test_results(place: Path) -> None:
    sweep = write(
        place,
        "sweep.json",
        blocks=["up.0.1", "mid.0"],
        seeds=[0, 3],
        options={**OPTIONS, "hold_out": 500},
        grid={"k": [2, 4], "lr": [0.01], "expansion-factor": [4]},
        configs=[{"name": "wide", "n-features": 80}],
    )
    said = result("train", sweep, "-o", "saes", cwd=place)
    names = {f"{b}_{c}_seed{s}" for b in ("up.0.1", "mid.0") for c in ("k2", "k4", "wide") for s in (0, 3)}
    assert {p.name for p in (place / "saes").iterdir()} == names | {"results.json", "pareto.svg"}
    saved = json.loads((place / "saes/results.json").read_text())["saes"]
    assert saved == said["saes"] and {s["name"] for s in saved} == names
    for one in saved:
        assert one["held_out"]["rows"] == 500 and 0 < one["held_out"]["ev"] < 1
        assert one["train"]["steps"] == 60 and one["block"] == one["name"].split("_")[0]
        assert one["held_out"]["l0"] <= one["train"]["k"]
    assert next(s for s in saved if s["name"] == "up.0.1_k2_seed0")["options"] == {"k": 2, "lr": 0.01, "expansion-factor": 4}
    # each as if it had been trained alone: same start, same order of rows
    alone = ["--store", "store", "--preset", "demo", "--batch-size", "64", "--steps", "60", "--hold-out", "500"]
    good("train", *alone, "--block", "mid.0", "--k", "4", "--lr", "0.01", "--expansion-factor", "4", "-o", "alone", cwd=place)
    for file in ("sae_weights.safetensors", "stats.safetensors", "cfg.json", "facet.json"):
        assert (place / "alone" / file).read_bytes() == (place / "saes/mid.0_k4_seed0" / file).read_bytes(), file
    plot = xml.etree.ElementTree.parse(place / "saes/pareto.svg")
    assert len([e for e in plot.iter() if e.tag.endswith("circle")]) == 12
    page = (place / "alone/report.html").read_text()
    assert page.count("<svg") == 5 and "http://www.w3.org/2000/svg" in page and "mid.0" in page
    assert "Dead: not active in the last 120000 rows of training; it had fewer, so none can be." in page
    density = load_file(place / "alone/stats.safetensors")["density"]
    assert f"{(density == 0).sum()} of {len(density)} features are active in none of the rows" in page
    one = next(s for s in saved if s["name"] == "mid.0_k4_seed0")
    assert one["never_active"] == (density == 0).sum() > 0
    assert "src=" not in page and "@import" not in page and "<script" not in page
    # a table for people
    text = good("train", sweep, "-o", "again", "--steps", "5", cwd=place).stdout.decode().splitlines()
    assert len(text) == 13 and text[0].split()[:6] == ["SAE", "features", "EV", "L0", "dead", "unused"]
    # finished already; and not with other options
    assert b"finished already" in good("train", sweep, "-o", "saes", "--resume", cwd=place).stdout
    bad("train", sweep, "-o", "saes", "--resume", "--aux-coef", "0.5", cwd=place, says=["other options", "aux_coef"])


def test_finished_alone(place: Path) -> None:
    train = ["train", "--store", "store", "--block", "up.0.1", "--preset", "demo", "--batch-size", "64", "--steps", "20"]
    good(*train, "-o", "done", cwd=place)
    before = contents(place / "done")
    said = result(*train, "-o", "done", "--resume", cwd=place)
    assert said["finished"] is True and contents(place / "done") == before
    bad(*train, "--k", "3", "-o", "done", "--resume", cwd=place, says=["other options", "k 8, now 3"])
    bad(*train, "--order", "sequential", "-o", "done", "--resume", cwd=place, says="other rows")
    assert contents(place / "done") == before
    fresh = good(*train, "-o", "fresh", "--resume", cwd=place)
    assert b"starting from the beginning" in fresh.stderr


def test_authors_config(place: Path) -> None:
    sae = {"d_model": 16, "n_dirs": 32, "k": 3, "auxk": 8, "lr": 0.001, "eps": 6.25e-10,
           "dead_toks_threshold": 5000, "auxk_coef": 0.03125}  # fmt: skip
    config = {
        "sae_configs": [sae, {**sae, "k": 5, "auxk": None}],
        "bs": 64,
        "log_interval": 50,
        "save_interval": 20,
        "paths_to_latents": ["store"],
        "save_path_base": "theirs",
        "block_name": "unet.up_blocks.0.attentions.1",
    }
    (place / "config.json").write_text(json.dumps(config))
    said = result("train", "config.json", "--calibration-rows", "640", "--steps", "30", cwd=place)
    assert [s["name"] for s in said["saes"]] == ["up.0.1_k3_auxk8", "up.0.1_k5_auxk0"]
    assert {s["train"]["k"] for s in said["saes"]} == {3, 5}
    for one in said["saes"]:
        made = json.loads((place / one["sae"] / "facet.json").read_text())["training"]
        assert made["n_features"] == 32 and made["batch_size"] == 64 and made["dead_rows"] == 5000
        assert made["auxk"] == (8 if made["k"] == 3 else 0) and made["preset"] == "unboxing"
    for one in config["sae_configs"]:
        one["d_model"] = 1280
    (place / "config.json").write_text(json.dumps(config))
    bad("train", "config.json", "--steps", "30", "-o", "no", cwd=place, says="d_model")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"grid": {"k": [0]}}, '"k": want a whole number from 1 up, found 0'),
        ({"grid": {"kk": [1]}}, '"kk" is not known; did you mean "k"?'),
        ({"grid": {"k": 3}}, "list of values"),
        ({"grid": {"log": ["x"]}}, "of the whole run"),
        ({"grid": {"batch-size": [32, 64]}}, "one batch size"),
        ({"configs": [{"k": 3}, {"k": 3}]}, "two configurations"),
        ({"configs": [3]}, "objects of options"),
        ({"configs": [{"name": "../up", "k": 3}]}, "without slashes"),
        ({"configs": []}, "not empty"),
        ({"blocks": ["down.2.1"]}, "down.2.1"),
        ({"seeds": ["x"]}, '"seed": want a whole number from 0 up, found "x"'),
        ({"k": 3}, "is not known"),
        ({"configs": [{"k": 1000}]}, "k 1000"),
        ({"options": {"help": True}}, '"help" is of this run of the program'),
        ({"configs": [{"output": "x"}]}, '"output" is of the whole run, or no option'),
        ({"options": {"hold-out": "many"}}, '"hold-out": want a whole number from 0 up, found many'),
        ({"options": {"holdout": 5}}, "did you mean --hold-out"),
    ],
)
def test_bad_sweeps(place: Path, members: dict[str, object], says: str) -> None:
    given = members.pop("options", {})
    write(place, "bad.json", **{"blocks": ["mid.0"], "options": {**OPTIONS, **given}, **members})
    before = {p.name for p in place.iterdir()}
    bad("train", "bad.json", "-o", "no", cwd=place, says=says)
    assert {p.name for p in place.iterdir()} == before


def test_bad_files(place: Path) -> None:
    (place / "broken.json").write_text('{"grid": {')
    bad("train", "broken.json", "--store", "store", "-o", "no", cwd=place, says="broken.json")
    bad("train", "none.json", "--store", "store", "-o", "no", cwd=place, says="none.json")


def test_lost_one(place: Path) -> None:
    sweep = write(place, "lost.json", blocks=["mid.0"], options=OPTIONS,
                  configs=[{"name": "mad", "lr": 10, "loss-scale": 1e30}, {"name": "sane"}])  # fmt: skip
    said = result("train", sweep, "-o", "some", cwd=place)
    mad, sane = said["saes"]
    if "lost" in mad:
        assert not (place / "some/mid.0_mad").exists()
    assert "lost" not in sane and (place / "some/mid.0_sane/cfg.json").exists()


def kill_after(words: list[str], folder: Path, seconds: float) -> bool:
    """Whether the run was still going when it was killed."""
    process = subprocess.Popen([facet(), *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={"OMP_WAIT_POLICY": "passive", **os.environ})  # fmt: skip
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        pass
    killed = process.poll() is None
    process.kill()
    process.wait()
    return killed


def test_resume_takes_only_its_own_sweep(place: Path) -> None:
    sweep = {"blocks": ["mid.0"], "seeds": [0, 1], "options": {**OPTIONS, "steps": 100000}, "grid": {"k": [2, 4]}}
    words = ["train", write(place, "own.json", **sweep), "-t", "1", "--checkpoint-every", "20", "-o", "own"]
    folder = place / "own.checkpoint"
    process = subprocess.Popen([facet(), *words], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(folder.glob("*.safetensors")):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    before = contents(folder)
    assert before
    for change, says in (
        ({"grid": {"k": [2, 4, 6]}}, "was made with 4 SAEs, now there are 6"),
        ({"grid": {"k": [2, 5]}}, "other options for mid.0_k5_seed0 (k 4, now 5)"),
        ({"seeds": [0, 2]}, "other options for mid.0_k2_seed2 (seed 1, now 2)"),
        ({"blocks": ["up.0.1"]}, "other options"),
        ({"blocks": ["mid.0", "up.0.1"], "seeds": [0]}, "other options"),
    ):
        write(place, "own.json", **{**sweep, **change})
        bad(*words, "--resume", cwd=place, says=says)
    for path in folder.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    write(place, "own.json", **sweep)
    bad(*words, "--resume", cwd=place, says="no other checkpoint is there: remove the folder to start again")


def test_kill_at_any_moment(place: Path) -> None:
    """kill -9 while it starts, trains, writes checkpoints, measures and saves: the end has the same bytes."""
    write(place, "kill.json", seeds=[0, 1], options={**OPTIONS, "steps": 150}, grid={"k": [2, 5]})
    words = ["train", "kill.json", "-t", "1", "--checkpoint-every", "7", "--hold-out", "300", "--log-every", "20"]
    begun = time.monotonic()
    good(*words, "-o", "whole", cwd=place)
    took = time.monotonic() - begun
    dice, kills = random.Random(1), 0
    for _ in range(60 if FULL else 6):
        words_again = [*words, "--resume", "-o", "killed"]
        if not kill_after(words_again, place, dice.uniform(0.02, 0.6) * took):
            assert contents(place / "killed") == contents(place / "whole")
            for name in contents(place / "killed"):
                (place / "killed" / name).unlink()
            (place / "killed/results.json").unlink(missing_ok=True)
        else:
            kills += 1
    assert kills > 2
    good(*words, "--resume", "-o", "killed", cwd=place)
    assert contents(place / "killed") == contents(place / "whole")
    assert not (place / "killed.checkpoint").exists()
