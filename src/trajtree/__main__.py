"""`python -m trajtree`."""

from trajtree.cli.main import main

main()
