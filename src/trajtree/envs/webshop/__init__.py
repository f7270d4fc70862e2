"""WebShop: shopping for what an instruction asks for, among products that the user brings.

The text environment of Yao et al. 2022 (github.com/princeton-nlp/WebShop) as a small state machine: the same pages,
goals and score, without the web server, the Java search and the tagger. The package contains no product data.
"""

from trajtree.envs.webshop.domain import DOMAIN, SHORT
from trajtree.envs.webshop.env import Actions, ShortWebShop, Snapshot, WebShop
from trajtree.envs.webshop.goals import Goal
from trajtree.envs.webshop.import_products import DataReport, import_data
from trajtree.envs.webshop.reward import Reward, reward
from trajtree.envs.webshop.shop import Shop, data_folder, open_shop

__all__ = [
    "DOMAIN",
    "SHORT",
    "Actions",
    "DataReport",
    "Goal",
    "Reward",
    "Shop",
    "ShortWebShop",
    "Snapshot",
    "WebShop",
    "data_folder",
    "import_data",
    "open_shop",
    "reward",
]
