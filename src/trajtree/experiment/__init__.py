"""The whole experiment: recipe, rows, the plan of its stages, and running them."""
