"""The laws, one subject a file. Importing this package fills the table, in the order in which they are tried."""

from __future__ import annotations

# isort: off
from . import contract  # first: where a stage does not run, nothing else is worth trying
from . import writing
from . import purity  # before those that compare two calls: where one call is unlike the next, all of them fail
from . import rows
from . import removal
from . import traits
from . import columns
from . import planning
from . import heads
from . import devices
from . import values
from . import draws
from . import kinds
# isort: on

__all__ = [
    "columns",
    "contract",
    "devices",
    "draws",
    "heads",
    "kinds",
    "planning",
    "purity",
    "removal",
    "rows",
    "traits",
    "values",
    "writing",
]
