"""`python -m cai` and the console script `cai`."""

import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # torch reads it when it is imported; what its C++ side has to say is not for our users.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from cai.cli import run

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        from cai.training.torchrun import member

        sys.exit(member(run))
    sys.exit(run())


if __name__ == "__main__":
    main()
