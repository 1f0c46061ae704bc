"""`python -m tsdlab.cli`, which torchrun needs."""

from tsdlab.cli import main

if __name__ == "__main__":
    main()
