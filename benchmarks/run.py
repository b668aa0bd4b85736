"""What `make bench` runs: the step benchmark on the default model, and the GPU one where there is a GPU."""

from __future__ import annotations

import sys

import gpu
import step
import torch


def main() -> int:
    status = step.main([])
    return status or (gpu.main([]) if torch.cuda.is_available() else 0)


if __name__ == "__main__":
    sys.exit(main())
