"""The runs that `trajtree demo` shows: a clumsy scripted agent does three chores in a kitchen of our own making.

    python benchmarks/demo_runs.py --out src/trajtree/cli/demo_runs.jsonl

Each chore is a small set of rules; the agent often does what helps next, and otherwise anything that it can do. The
choices are seeded, so the same command writes the same file. The rows are chat messages with a score, as other tools
log them.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """What an action does where it is possible.

    Attributes:
        action, thought: what the agent writes.
        needs, lacks: facts that must hold, and that must not.
        adds: facts that hold afterwards.
        seen: what the kitchen answers.
        gain: what it adds to the score.
        ends: whether the episode is over.
        helps: whether a careful agent would do it.
    """

    action: str
    thought: str
    needs: frozenset[str]
    lacks: frozenset[str]
    adds: frozenset[str]
    seen: str
    gain: float = 0.0
    ends: bool = False
    helps: bool = True


def _rule(
    action: str,
    thought: str,
    needs: str,
    lacks: str,
    adds: str,
    seen: str,
    gain: float = 0.0,
    *,
    ends: bool = False,
    helps: bool = True,
) -> Rule:
    words = (frozenset(text.split()) for text in (needs, lacks, adds))
    return Rule(action, thought, *words, seen, gain, ends, helps)


CHORES: dict[str, tuple[str, tuple[Rule, ...]]] = {
    "make-tea": (
        "You are in a kitchen. Make a cup of tea and serve it. There are a kettle, a tap, a stove, a cup and tea bags.",
        (
            _rule("fill kettle", "Tea begins with water.", "", "water", "water", "The kettle is full of cold water."),
            _rule("heat kettle", "The water must boil.", "water", "hot", "hot", "The water boils.", 0.25),
            _rule(
                *("heat kettle", "I put the kettle on.", "", "water", "", "The empty kettle glows and cracks."),
                ends=True,
                helps=False,
            ),
            _rule("put tea bag in cup", "The bag goes in first.", "", "bag", "bag", "A tea bag is in the cup."),
            _rule("pour water into cup", "Now the water.", "hot bag", "tea", "tea", "The tea draws.", 0.25),
            _rule(
                *("pour water into cup", "I pour.", "water", "hot tea", "cold tea", "The cup holds cold water."),
                helps=False,
            ),
            _rule("serve cup", "It is ready.", "tea hot", "cold", "", "Thank you, just right.", 0.5, ends=True),
            _rule("serve cup", "I serve it.", "", "hot", "", "That is no tea.", ends=True, helps=False),
            _rule("serve cup", "It is ready.", "cold hot", "", "", "This cup is cold.", ends=True, helps=False),
            _rule("look", "What is here?", "", "looked", "looked", "Kettle, tap, stove, cup, tea bags.", helps=False),
        ),
    ),
    "water-the-fern": (
        "You are in a kitchen. Water the fern. There are a can and a tap here; plants stand in the hall.",
        (
            _rule("take can", "I need the can.", "", "can", "can", "You hold the can. It is empty."),
            _rule("fill can", "Now fill it.", "can", "water hall", "water", "The can is full.", 0.25),
            _rule("go to hall", "The plants are there.", "water", "hall", "hall", "A fern and a cactus.", 0.25),
            _rule("go to hall", "To the plants.", "", "water hall", "hall", "A fern and a cactus.", helps=False),
            _rule("go to kitchen", "I forgot the water.", "hall", "water", "back", "You are in the kitchen again."),
            _rule("water fern", "This is the fern.", "water hall", "", "", "The fern looks better.", 0.5, ends=True),
            _rule(
                *("water cactus", "This one is dry.", "water hall", "", "", "The cactus did not need that."),
                ends=True,
                helps=False,
            ),
            _rule("wait", "Let me think.", "", "waited", "waited", "Time passes.", helps=False),
        ),
    ),
    "post-the-letter": (
        "You are at a desk. Post the letter. There are a letter, stamps and a pen; the post box is outside.",
        (
            _rule("take letter", "First the letter.", "", "letter", "letter", "You hold the letter."),
            _rule("write address", "It needs an address.", "letter", "address", "address", "It says Elm Road 4.", 0.25),
            _rule("put stamp on letter", "And a stamp.", "letter", "stamp", "stamp", "The stamp sticks.", 0.25),
            _rule(
                *("post letter", "Off it goes.", "letter address stamp", "", "", "The letter is on its way.", 0.5),
                ends=True,
            ),
            _rule(
                *("post letter", "Off it goes.", "letter", "stamp", "", "It will come back: no stamp."),
                ends=True,
                helps=False,
            ),
            _rule(
                *("post letter", "Off it goes.", "letter stamp", "address", "", "Nobody knows where it should go."),
                ends=True,
                helps=False,
            ),
            _rule("read letter", "What does it say?", "letter", "read", "read", "Dear aunt, ...", helps=False),
        ),
    ),
}
"""What is asked, and the rules, by task."""

SYSTEM = "Answer with 'Thought:' and one line, then 'Action:' and one action."
RUNS, STEPS, CARE = 6, 8, 0.4
"""Runs per task, the step limit, and how often the agent does something that helps."""


def episode(task: str, sample: int) -> dict[str, object]:
    """One run of the agent as a row of chat messages."""
    asked, rules = CHORES[task]
    chance = random.Random(f"{task} {sample}")
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
    facts: frozenset[str] = frozenset()
    score = 0.0
    for _ in range(STEPS):
        possible = [rule for rule in rules if rule.needs <= facts and not rule.lacks & facts]
        helping = [rule for rule in possible if rule.helps] or possible
        rule = helping[0] if chance.random() < CARE else chance.choice(possible)
        said = f"Thought: {rule.thought}\nAction: {rule.action}"
        messages.append({"role": "assistant", "content": said})
        score += rule.gain
        facts |= rule.adds
        if rule.action == "go to kitchen":
            facts -= {"hall", "back"}
        messages.append({"role": "user", "content": rule.seen})
        if rule.ends:
            break
    return {"task": task, "score": score, "truncated": not rule.ends, "messages": messages}


def main() -> None:
    """Write the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [episode(task, sample) for task in CHORES for sample in range(RUNS)]
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
