"""ALFWorld's household tasks, played natively: no alfworld, no textworld, no compiler.

Users bring the games: import them once with `trajtree data alfworld --from PATH` (`import_data`).
"""

from trajtree.envs.alfworld.domain import DOMAIN, MOVE_DOMAIN, demonstrate, tasks
from trajtree.envs.alfworld.env import ALFWorld, ALFWorldMove, Snapshot
from trajtree.envs.alfworld.expert import solve
from trajtree.envs.alfworld.game_files import data_folder
from trajtree.envs.alfworld.import_games import DataReport, FileReport, import_data
from trajtree.envs.alfworld.packed import TASK_TYPES

__all__ = [
    "DOMAIN",
    "MOVE_DOMAIN",
    "TASK_TYPES",
    "ALFWorld",
    "ALFWorldMove",
    "DataReport",
    "FileReport",
    "Snapshot",
    "data_folder",
    "demonstrate",
    "import_data",
    "solve",
    "tasks",
]
