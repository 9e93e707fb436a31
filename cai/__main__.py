"""`python -m cai` and the console script `cai`."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from cai.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
