"""Checks that no files of the library call each other in a circle, on the built objects.

    python3 tests/checks/circles.py [ROOT]
"""

import pathlib
import sys

from common import ROOT, report
from objects import PROGRAM, homes, read_objects


def read_graph(root: pathlib.Path) -> dict[str, dict[str, str]]:
    """Of each file of the library the files that it takes symbols from, with one such symbol."""
    objects = [o for o in read_objects(root) if o.room not in PROGRAM]
    home = homes(objects)
    graph: dict[str, dict[str, str]] = {o.source: {} for o in objects}
    for o in objects:
        for symbol in sorted(o.takes):
            if symbol in home and home[symbol] is not o:
                graph[o.source].setdefault(home[symbol].source, symbol)
    return graph


def shortest_circle(graph: dict[str, dict[str, str]], start: str) -> list[str]:
    """The shortest way from a file back to itself, its files in order; empty: there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for target in graph[way[-1]]:
            if target == start:
                return way
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def check(root: pathlib.Path) -> list[str]:
    """A line for each circle, by its shortest way; files of a circle that was told are not told again."""
    graph = read_graph(root)
    problems = []
    told: set[str] = set()
    for start in sorted(graph):
        way = [] if start in told else shortest_circle(graph, start)
        if not way:
            continue
        told |= set(way)
        steps = [f"{a} takes {graph[a][b]} from {b}" for a, b in zip(way, way[1:] + way[:1])]
        problems.append(f"circle of {len(way)} files: {', '.join(steps)}")
    return problems


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("circles", check(where)))
