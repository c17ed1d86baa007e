"""What the documentation says is there: the tour lists the files, commands in it exist with their options.

Run:  FACET=build/facet python -m pytest tests/python/test_docs.py
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest
from cli_util import ROOT, good

PAGES = ["README.md", "docs/from-python.md", "docs/with-real-weights.md"]


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every facet command in a shell block."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["facet"]:
                    found.append((page, words[1:]))
    return found


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, dict[str, object]]]:
    every = json.loads(good("help", "--json").stdout)["commands"]
    return {c["name"]: {o["name"]: o for o in c["options"]} for c in every}


def test_pages_show_commands() -> None:
    assert len(commands()) >= 12


@pytest.mark.parametrize("page,words", commands())
def test_commands_exist(
    page: str, words: list[str], table: dict[str, dict[str, dict[str, object]]]
) -> None:
    name = " ".join(words[:2]) if " ".join(words[:2]) in table else words[0]
    assert name in table, f"{page}: facet {' '.join(words)}"
    options = table[name]
    letters = {o["letter"]: o for o in options.values() if o.get("letter")}
    rest = words[len(name.split()) :]
    given = set()
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            continue
        option = options.get(word[2:]) if word.startswith("--") else letters.get(word[1:])
        assert option, f"{page}: facet {name} has no {word}"
        given.add(option["name"])
        if option["kind"] != "flag":
            assert rest, f"{page}: {word} wants a value"
            rest.pop(0)
    missing = [o for o, v in options.items() if v["required"] and o not in given]
    assert not missing, f"{page}: facet {name} lacks {missing}"


def test_tour_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "tour.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, "ARCHITECTURE.md", "CONTRIBUTING.md"]:
        text = (ROOT / page).read_text()
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in link:
                assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"
