"""An environment of your own: checked, played, and explored by a scripted policy; the failures stay.

    python examples/own_environment.py

`trajtree run` and `trajtree explore` take it as module:Class or module:DOMAIN (see docs/environments.md).
"""

import random
from dataclasses import replace

import trajtree
from trajtree import Environment, StepResult
from trajtree.envs.check import check_env
from trajtree.envs.replay import replay


class Guess(Environment):
    """Find the number by asking 'higher than N'."""

    name = "guess"
    version = "1"
    instruction = "Find a number from 1 to 8. Reply with 'higher than N' or 'it is N'."

    def reset(self, task: str) -> str:
        """Begin with the number in the task's name."""
        if not task.removeprefix("guess/").isdigit():
            raise KeyError(f"no task {task!r}: tasks are guess/1 to guess/8")
        self.number, self.moves, self.over = int(task.removeprefix("guess/")), 0, False
        return "Which number is it?"

    def step(self, action: str) -> StepResult:
        """Answer a question, or end the episode."""
        if self.over:
            return StepResult("It is over.", 0.0, False, True)
        self.moves += 1
        words, limit = action.split(), self.moves >= 5
        number = int(words[-1]) if words and words[-1].isdecimal() else 0
        if action.startswith("it is"):
            self.over = True
            return StepResult("The end.", float(number == self.number), True, False)
        self.over = limit
        answer = ("yes" if self.number > number else "no") if action.startswith("higher than") else "What?"
        return StepResult(answer, 0.0, False, limit)


check_env(Guess, ["guess/3", "guess/7"], actions=lambda task: ["higher than 4", "it is 3"])

chance = random.Random(0)
runs = []
for sample in range(8):
    halving = chance.random() < 0.6  # the careful agent halves, the other one guesses
    asked = ["higher than 4", "higher than 6", "higher than 5"] if halving else ["higher than 7"]
    guess = 6 if halving else chance.randrange(1, 8)
    played = replay(Guess(), "guess/6", [*asked, f"it is {guess}"], policy="script")
    runs.append(replace(played, sample=sample))
tree = trajtree.build_tree(runs)
print(trajtree.quality(tree))
for pair in trajtree.pairs(tree):
    better, worse = pair.sides(tree)
    print(
        f"{better.steps[pair.depth].action!r} ({pair.chosen_value:.2f}) rather than {worse.steps[pair.depth].action!r}"
    )
