"""``python -m logitmill``: the same program as ``logitmill``."""

from .plugins.cli.main import main

if __name__ == "__main__":
    main()
