"""Where what is made once is kept: `$DUOTRACK_CACHE`, else `duotrack` in `$XDG_CACHE_HOME` or `~/.cache`."""

import os
from pathlib import Path


def chosen_folder() -> Path:
    """Where graphs and kernels are to be kept, whether or not that can be written.

    Raises:
        RuntimeError: nothing says where, and there is no home folder.
    """
    if chosen := os.environ.get("DUOTRACK_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duotrack"
