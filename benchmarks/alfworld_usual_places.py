"""Where things usually are, for ALFWorld's handcoded expert: counted over the starts of the train games.

    python benchmarks/alfworld_usual_places.py > src/trajtree/envs/alfworld/usual_places.json

For each kind of object and of place, the share of such places (over all games that have the object somewhere) in
which one lies at the start. The games are in the folder $TRAJTREE_DATA/alfworld. Rare places (under 1 %) are left out.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict

from trajtree.envs.alfworld.game_files import data_folder
from trajtree.envs.alfworld.packed import lines, parse_game
from trajtree.envs.alfworld.scene import Scene


def main() -> None:
    """Print the table as JSON."""
    holds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    there: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seen = set()
    path = data_folder() / "train.jsonl.xz"
    for number, line in enumerate(lines(path), 1):
        game = parse_game(line, f"{path}, line {number}")
        scene = Scene.parse(game.pddl_problem, game.goal)
        start = tuple((place, ids) for place, ids in sorted(scene.start.inside.items()))
        if start in seen:
            continue
        seen.add(start)
        places = Counter(scene.names[id].split()[0] for id in scene.location)
        kinds = [
            (scene.names[place].split()[0], {scene.names[id].split()[0] for id in ids if id in scene.pickupable})
            for place, ids in start
        ]
        for kind in {kind for _, inside in kinds for kind in inside}:
            there[kind] += places
        for place, inside in kinds:
            for kind in inside:
                holds[kind][place] += 1
    table = {
        kind: {p: round(n / there[kind][p], 2) for p, n in places.most_common() if n >= 0.01 * there[kind][p]}
        for kind, places in sorted(holds.items())
    }
    rows = ",\n".join(f" {json.dumps(kind)}: {json.dumps(places)}" for kind, places in table.items())
    sys.stdout.write(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main()
