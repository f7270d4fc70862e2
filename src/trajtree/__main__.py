"""`python -m trajtree`."""

from trajtree.cli.start import main

if __name__ == "__main__":  # worker processes import it under another name
    main()
