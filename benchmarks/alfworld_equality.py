"""Does our ALFWorld say what textworld says? Record textworld's transcripts, then play them with ours.

    python benchmarks/alfworld_equality.py plan PLANS.json                         # where trajtree is
    python benchmarks/alfworld_equality.py record TRANSCRIPTS.jsonl.xz PLANS.json  # where alfworld 0.4.2 is
    python benchmarks/alfworld_equality.py compare TRANSCRIPTS.jsonl.xz            # where trajtree is
    python benchmarks/alfworld_equality.py golden TRANSCRIPTS.jsonl.xz --out tests/golden/alfworld

Both read the packed games of the folder $TRAJTREE_DATA/alfworld (train.jsonl.xz, valid_seen.jsonl.xz, alfred.pddl,
alfred.twl2). Every valid_seen game and 200 train games, evenly taken, are played: the expert's actions (those of
our handcoded expert where the game lists none), seeded random admissible actions, as many again with the verb drawn
first, so that rare verbs come up, in train kitchens a round of slicing, cleaning, heating and cooling, and some that
mean nothing. Games of valid_seen are played again in the dialect of alfworld >= 0.4. After every action the
observation, the admissible commands and the won flag are compared.

What was left out: textworld is recorded with the parsers of its grammar and its problems cached, which changes its
speed alone (with --stock it is recorded as it is, some 15 times slower).
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import lzma
import os
import platform
import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

NONSENSE = ("", "dance", "LOOK", "  look  ", "go to nowhere 1", "take 1 from 2", "examine", "put apple 1 in/on")


def games(data: Path, train: int, seen: int) -> list[dict]:
    """All of valid_seen or evenly taken, then the train games, evenly taken."""
    chosen = []
    for name, count in (("valid_seen", seen), ("train", train)):
        with lzma.open(data / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
            lines = file.readlines()
        chosen += [json.loads(line) for line in lines[:: max(1, len(lines) // max(1, count))][:count]]
    return chosen


def speed_up_textworld() -> None:
    """Parse every text once; what textworld says stays the same."""
    import fast_downward
    import textworld.envs.pddl.textgen as textgen

    translate = functools.lru_cache(4)(fast_downward.pddl2sas)
    # The second translation of a problem serves planning only, which is not asked for here.
    fast_downward.pddl2sas = lambda domain, problem, verbose=False, optimize=False: translate(domain, problem, verbose)
    parse = functools.lru_cache(4096)(textgen._parse_and_convert)
    textgen._parse_and_convert = lambda *args, **kwargs: copy.deepcopy(parse(*args, **kwargs))
    textgen.Rule.parse_conjunctive_query = functools.lru_cache(4096)(textgen.Rule.parse_conjunctive_query)
    textgen.copy_context = lambda context: {
        **context,
        "variables": dict(context["variables"]),
        "mapping": dict(context["mapping"]),
    }


class Textworld:
    """One game in textworld, as alfworld plays it."""

    def __init__(self, game: dict, grammar: str, domain: str, folder: Path) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos

        packed = {
            "pddl_domain": domain,
            "grammar": grammar.replace("UNKNOWN GOAL", game["goal"].rstrip(".")),
            "pddl_problem": game["pddl_problem"],
            "solvable": True,
        }
        path = folder / "game.tw-pddl"
        path.write_text(json.dumps(packed), encoding="utf-8")
        infos = textworld.EnvInfos(won=True, admissible_commands=True, feedback=True)
        self.env = textworld.start(str(path), infos, wrappers=[AlfredDemangler, AlfredInfos])

    def reset(self):
        return self.env.reset()

    def step(self, action: str):
        return self.env.step(action)[0]


def balanced(rng: random.Random, commands: list[str]) -> str:
    """A command, its verb drawn first."""
    verb = rng.choice(sorted({command.split()[0] for command in commands}))
    return rng.choice([command for command in commands if command.split()[0] == verb])


def episodes(wanted: str, textworld: Textworld, rng: random.Random, steps: int, plan: list[str], tidying: list[str]):
    """Kind and textworld's transcript of each way in which the game is played."""
    kinds = {
        "expert": lambda number, state: plan[number] if number < len(plan) else None,
        "chores": lambda number, state: tidying[number] if number < len(tidying) else None,
        "random": lambda number, state: rng.choice(state.admissible_commands) if number < steps else None,
        "balanced": lambda number, state: balanced(rng, state.admissible_commands) if number < steps else None,
        "nonsense": lambda number, state: NONSENSE[number] if number < len(NONSENSE) else None,
    }
    for kind, choose in kinds.items():
        if kind not in wanted or (kind == "chores" and not tidying):
            continue
        state = textworld.reset()
        first, played = state, []
        while (action := choose(len(played), state)) is not None:
            state = textworld.step(action)
            played.append([action, state.feedback, state.admissible_commands, state.won])
        yield kind, {"first": first.feedback, "admissible": first.admissible_commands, "steps": played}


def chores(game: dict) -> list[str]:
    """Commands that slice, clean, heat and cool things in every combination, examining each; none without a knife."""
    from trajtree.envs.alfworld.game import Game
    from trajtree.envs.alfworld.scene import Scene

    scene = Scene.parse(game["pddl_problem"], game["goal"])
    play, names, said = Game(scene), scene.names, []

    def do(command: str) -> None:
        if command in play.commands():
            play.perform(command)
            said.append(command)

    def visit(receptacle: str) -> None:
        do(f"go to {names[receptacle]}")
        do(f"open {names[receptacle]}")

    def fetch(thing: str) -> None:
        for receptacle in [place for place, inside in play.state.inside.items() if thing in inside]:
            visit(receptacle)
            do(f"take {names[thing]} from {names[receptacle]}")

    def drop() -> None:
        for receptacle in scene.location:
            if (held := play.state.held) and scene.receptacle_type[receptacle] in scene.fits[held]:
                visit(receptacle)
                do(f"put {names[held]} in/on {names[receptacle]}")
                do("look")

    knives = sorted(scene.knives & scene.pickupable)
    food = sorted(scene.sliceable & scene.heatable)[:8]
    if not knives or len(food) < 3:
        return []
    fetch(knives[0])
    for thing in food[::2]:
        for receptacle in [place for place, inside in play.state.inside.items() if thing in inside]:
            visit(receptacle)
            do(f"slice {names[thing]} with {names[knives[0]]}")
    drop()
    orders = ("clean heat cool", "heat clean", "cool clean", "cool heat", "cool", "heat cool", "", "clean")
    for thing, order in zip(food, orders, strict=False):
        fetch(thing)
        do(f"examine {names[thing]}")
        for verb in order.split():
            machine = {"clean": "sinkbasintype", "heat": "microwavetype", "cool": "fridgetype"}[verb]
            for receptacle in [place for place, kind in scene.receptacle_type.items() if kind == machine][:1]:
                visit(receptacle)
                do(f"{verb} {names[thing]} with {names[receptacle]}")
                do(f"examine {names[thing]}")
        drop()
    return said


def plan(options: argparse.Namespace) -> None:
    """Write the handcoded expert's actions for the games that list none."""
    from trajtree.envs.alfworld import ALFWorld, solve

    data, env = Path(os.environ["TRAJTREE_DATA"]) / "alfworld", ALFWorld(max_steps=100)
    chosen = [game for game in games(data, options.train, options.seen) if "gt_actions" not in game]
    plans = {game["id"]: solve(env, f"{game['task_type']}/{game['id'].rsplit('/', 1)[1]}") for game in chosen}
    for game in games(data, options.train, options.seen):
        if game["split"] == "train" and len(done := chores(game)) > 0:
            plans[f"chores {game['id']}"] = done
    Path(options.transcripts).write_text(json.dumps(plans), encoding="utf-8")


def record(options: argparse.Namespace) -> None:
    """Write textworld's transcripts."""
    import alfworld

    data = Path(os.environ["TRAJTREE_DATA"]) / "alfworld"
    chosen = games(data, options.train, options.seen)
    chosen = sample(chosen) if options.sample else chosen[slice(*options.range)]
    plans = json.loads(Path(options.plans).read_text(encoding="utf-8"))
    if not options.stock:
        speed_up_textworld()
    newer = Path(alfworld.__file__).parent / "data"
    dialects = {"put": data, "move": newer}
    texts = {name: [(at / f).read_text() for f in ("alfred.twl2", "alfred.pddl")] for name, at in dialects.items()}
    with lzma.open(options.transcripts, "wt", encoding="utf-8") as out, tempfile.TemporaryDirectory() as folder:
        for number, game in enumerate(chosen):
            for dialect, (grammar, domain) in texts.items():
                if dialect not in options.dialects or (dialect == "move" and game["split"] == "train"):
                    continue
                tidying = plans.get(f"chores {game['id']}", [])
                if options.kinds == "chores" and not tidying:
                    continue
                env = Textworld(game, grammar, domain, Path(folder))
                plan = game.get("gt_actions") or plans[game["id"]]
                if dialect == "move":
                    plan = [re.sub(r"^put (.+) in/on (.+)$", r"move \1 to \2", action) for action in plan]
                rng = random.Random(f"{game['id']} {dialect}")
                for kind, transcript in episodes(options.kinds, env, rng, options.steps, plan, tidying):
                    line = {"game": game["id"], "dialect": dialect, "kind": kind, **transcript}
                    out.write(json.dumps(line) + "\n")
            print(number, game["id"], file=sys.stderr, flush=True)


def sample(chosen: list[dict]) -> list[dict]:
    """Of each split the first game of every type."""
    firsts: dict[tuple[str, str], dict] = {}
    for game in chosen:
        firsts.setdefault((game["split"], game["task_type"]), game)
    return list(firsts.values())


def golden(options: argparse.Namespace) -> None:
    """Keep a small sample for the tests: of each split the first game of every type, with its transcripts."""
    data, out = Path(os.environ["TRAJTREE_DATA"]) / "alfworld", Path(options.out)
    kept_games = sample(games(data, options.train, options.seen))
    ids = {game["id"] for game in kept_games}
    for split in ("train", "valid_seen"):
        with lzma.open(out / f"{split}.jsonl.xz", "wt", preset=9, encoding="utf-8") as file:
            file.writelines(json.dumps(game) + "\n" for game in kept_games if game["split"] == split)
    with lzma.open(out / "transcripts.jsonl.xz", "wt", preset=9, encoding="utf-8") as kept:
        for path in options.transcripts.split(","):
            with lzma.open(path, "rt", encoding="utf-8") as file:
                kept.writelines(line for line in file if json.loads(line)["game"] in ids)


def difference(told: dict, number: int, action: str | None, ours: tuple, expected: tuple) -> dict:
    """Where an episode first differs, and in what."""
    found = {"game": told["game"], "dialect": told["dialect"], "kind": told["kind"], "action": number, "said": action}
    if ours[0] != expected[0]:
        found["observation"] = [ours[0], expected[0]]
    if ours[1] != expected[1]:
        found["commands"] = [sorted(set(ours[1]) - set(expected[1])), sorted(set(expected[1]) - set(ours[1]))]
    if ours[2] != expected[2]:
        found["won"] = [ours[2], expected[2]]
    return found


def compare(options: argparse.Namespace) -> None:
    """Play the transcripts with ours and count the differences."""
    from trajtree.envs.alfworld.game import Game
    from trajtree.envs.alfworld.scene import Scene

    data = Path(os.environ["TRAJTREE_DATA"]) / "alfworld"
    known = {game["id"]: game for game in games(data, options.train, options.seen)}
    counts: Counter[str] = Counter()
    played: set[tuple[str, str]] = set()
    differences = []
    for path in options.transcripts.split(","):
        for line in lzma.decompress(Path(path).read_bytes()).splitlines():
            told = json.loads(line)
            packed = known[told["game"]]
            split, dialect, kind = packed["split"], told["dialect"], told["kind"]
            played.add((split + " " + dialect, told["game"]))
            scene = Scene.parse(packed["pddl_problem"], packed["goal"], told["game"])
            game = Game(scene, dialect)
            theirs = [(told["first"], told["admissible"], False), *(tuple(step[1:]) for step in told["steps"])]
            actions = [None, *(step[0] for step in told["steps"])]
            for number, (action, expected) in enumerate(zip(actions, theirs, strict=True)):
                observation = game.opening() if action is None else game.perform(action)
                ours = (observation, game.commands(), game.won)
                counts[f"{split} {dialect} {kind} states"] += 1
                if ours != expected:
                    differences.append(difference(told, number, action, ours, expected))
                    break
            counts[f"{split} {dialect} {kind} won"] += any(won for _, _, won in theirs)
    result = {
        "what": "observation, admissible commands and won flag after every action, ours against textworld's",
        "command": "alfworld_equality.py plan P.json; record T.jsonl.xz P.json; compare T.jsonl.xz",
        "original": options.versions,
        "python": platform.python_version(),
        "games": dict(Counter(key for key, _ in sorted(played))),
        "states compared": sum(count for key, count in counts.items() if key.endswith("states")),
        "states": {key: count for key, count in sorted(counts.items()) if key.endswith("states")},
        "episodes won": {key: count for key, count in sorted(counts.items()) if key.endswith("won")},
        "episodes that differ": len(differences),
        "differences": differences,
    }
    text = json.dumps({**result, "differences": differences[:20]}, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    print(text[:20_000])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["plan", "record", "compare", "golden"])
    parser.add_argument("transcripts", help="the file that is written, or (one or more, comma between) read")
    parser.add_argument("plans", nargs="?", help="with record, what plan wrote")
    parser.add_argument("--train", type=int, default=200, help="train games")
    parser.add_argument("--seen", type=int, default=140, help="valid_seen games")
    parser.add_argument("--steps", type=int, default=50, help="random actions of an episode")
    parser.add_argument(
        "--range", type=int, nargs=2, default=(0, None), help="record the games from FIRST to before LAST"
    )
    parser.add_argument("--sample", action="store_true", help="record the first game of every type and split only")
    parser.add_argument("--kinds", default="expert,chores,random,balanced,nonsense", help="which episodes to record")
    parser.add_argument("--dialects", default="put,move", help="which to record")
    parser.add_argument("--stock", action="store_true", help="record without the cached parser")
    parser.add_argument("--out", help="where compare writes its result, or golden its files")
    parser.add_argument("--versions", default="textworld 1.7.0, alfworld 0.4.2", help="what was recorded")
    options = parser.parse_args()
    {"plan": plan, "record": record, "golden": golden, "compare": compare}[options.part](options)


if __name__ == "__main__":
    main()
