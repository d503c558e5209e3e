"""`python -m hwnas`: the same as the console script."""

from hwnas.cli import main

if __name__ == "__main__":
    main()
