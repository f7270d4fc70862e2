"""`python -m trajtree`."""

from trajtree.cli import main

main()
