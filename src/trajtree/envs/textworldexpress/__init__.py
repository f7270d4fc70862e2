"""TextWorldExpress: eight kinds of short household games, quick and with partial credit."""

from trajtree.envs.textworldexpress.domain import DOMAIN, demonstrate, gold_actions
from trajtree.envs.textworldexpress.env import GAMES, SEEDS, TextWorldExpress, parse_task

__all__ = ["DOMAIN", "GAMES", "SEEDS", "TextWorldExpress", "demonstrate", "gold_actions", "parse_task"]
