"""The shop: products, search and goals, opened once per process and shared by all environments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from trajtree.envs import user_data
from trajtree.envs.webshop.goals import PRICE_SEED, Draft, Goal, Kind, goals_of
from trajtree.envs.webshop.product_file import ProductFile
from trajtree.envs.webshop.products import Product
from trajtree.envs.webshop.ranking import Search
from trajtree.envs.webshop.sources import SMALL, Files, find_files, stock
from trajtree.errors import DataError
from trajtree.store.files import digest_of_files
from trajtree.store.lines import read_jsonl

FORMAT = 1
"""Version of the imported folder."""

HUMAN_FROM = 1000
"""Number of human goals from which they are the shop's default goals, as in the full set of WebShop's paper."""

KINDS: tuple[Kind, ...] = ("synthetic", "human")


def data_folder() -> Path:
    """The folder that products are read from and imported to."""
    return user_data.data_folder("webshop")


class Shop:
    """A catalogue of products with a search, and the goals made from it.

    Attributes:
        products: all products; on disk if they were imported.
        goals: goals by kind; a goal's index is its number.
        show_attributes: whether item pages show the hidden attributes (not by default, as in the original).
    """

    def __init__(
        self,
        products: Sequence[Product],
        search: Search,
        goals: dict[Kind, tuple[Goal, ...]],
        *,
        show_attributes: bool = False,
    ) -> None:
        self.products = products
        self.goals = goals
        self.show_attributes = show_attributes
        self._found = lru_cache(maxsize=1024)(search.best)

    def product(self, index: int) -> Product:
        """The product with this index."""
        return self.products[index]

    def search(self, query: str) -> tuple[int, ...]:
        """Indices of at most 50 products found, best first."""
        return self._found(query)

    @property
    def kind(self) -> Kind:
        """The kind of goals that tasks are made of by default."""
        return "human" if len(self.goals["human"]) >= HUMAN_FROM else "synthetic"

    def goal(self, task: str) -> Goal:
        """The goal of a task such as "synthetic/17".

        Raises:
            KeyError: the task does not exist; the message says which tasks exist.
        """
        name, _, number = task.partition("/")
        for kind, goals in self.goals.items():
            if name == kind and number.isascii() and number.isdigit() and int(number) < len(goals):
                return goals[int(number)]
        ranges = ", ".join(f"{kind}/0 to {kind}/{len(goals) - 1}" for kind, goals in self.goals.items() if goals)
        raise KeyError(f"{task!r} is not a task of this shop: it has {ranges or 'none'}")

    @classmethod
    def read(cls, files: Files) -> Shop:
        """The shop of product files, in memory (0.3 s for 1,000 products).

        Raises:
            DataError: a file is invalid.
        """
        prices = Random(PRICE_SEED)
        stocked = list(stock(files, prices, None))
        products = [one.product for one in stocked]
        drafts: dict[Kind, list[Draft]] = {
            "synthetic": [one.synthetic for one in stocked if one.synthetic],
            "human": [draft for one in stocked for draft in one.human],
        }
        search = Search.over(product.document() for product in products)
        return cls(products, search, _goals(drafts, prices.getstate(), products))

    @classmethod
    def load(cls, folder: Path) -> Shop:
        """The shop that was imported to `folder`; products and index stay on disk.

        Raises:
            DataError: the folder is damaged or of another version.
        """
        manifest = _manifest(folder / "manifest.json")
        products = ProductFile(folder / "products.jsonl")
        if len(products) != manifest["products"]:
            raise DataError(f"{folder}: has {len(products)} products, not {manifest['products']}: import again")
        drafts: dict[Kind, list[Draft]] = {kind: _drafts(folder / f"{kind}.jsonl") for kind in KINDS}
        version, words, gauss = manifest["price_state"]
        goals = _goals(drafts, (version, tuple(words), gauss), products)
        return cls(products, Search.load(folder / "index"), goals)


def open_shop(folder: Path | None = None) -> Shop:
    """The shop in `folder` (`data_folder()` if None): imported products, or small product files read in place.

    Raises:
        DataError: there are no products; the message says how to import them.
    """
    return _opened((folder or data_folder()).resolve())


def data_digest() -> str:
    """Hash of the product files, whether they were imported or are read in place.

    Raises:
        DataError: there are no products; the message says how to import them.
    """
    folder = data_folder().resolve()
    if (manifest := folder / "manifest.json").is_file():
        return digest_of_files([manifest])
    return digest_of_files(_in_place(folder).all)


@lru_cache(maxsize=4)
def _opened(folder: Path) -> Shop:
    if (folder / "manifest.json").is_file():
        return Shop.load(folder)
    return Shop.read(_in_place(folder))


def _in_place(folder: Path) -> Files:
    how = "import your product files with: trajtree data webshop --from PATH"
    if not folder.is_dir():
        raise DataError(f"{folder}: there are no WebShop products; {how}")
    files = find_files(folder)
    if files.size > SMALL:
        raise DataError(f"{files.products}: too large to be read in place; {how}")
    return files


def _goals(
    drafts: dict[Kind, list[Draft]], state: tuple[Any, ...], products: Sequence[Product]
) -> dict[Kind, tuple[Goal, ...]]:
    goals: dict[Kind, tuple[Goal, ...]] = {}
    for kind in KINDS:
        prices = Random()
        prices.setstate(state)
        goals[kind] = goals_of(drafts[kind], kind, prices, products.__getitem__)
    return goals


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): import the products again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path}: was written by another version of trajtree: import the products again")
    return manifest


def _drafts(path: Path) -> list[Draft]:
    return [Draft.from_row(row) for row in read_jsonl(path)]


__all__ = ["FORMAT", "KINDS", "Shop", "data_digest", "data_folder", "open_shop"]
