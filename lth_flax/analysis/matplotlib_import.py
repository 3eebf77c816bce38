"""Imports matplotlib whatever MPLBACKEND names and whatever stands in a matplotlibrc.

A notebook sets MPLBACKEND for the processes that it starts; where they do not
know that backend, `import matplotlib` itself fails. Figures here need none: they
are drawn by Agg. The variables stay as they were for whoever else reads them.
"""

import contextlib
import os
import sys

try:
    import matplotlib  # noqa: F401
except (ValueError, OSError, AttributeError):
    for _name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[_name]  # half imported
    _saved = {n: os.environ.pop(n) for n in ("MPLBACKEND", "MATPLOTLIBRC") if n in os.environ}
    os.environ["MATPLOTLIBRC"] = os.devnull  # before that in the user's home
    try:
        with contextlib.chdir(os.path.dirname(__file__)):  # that in the current directory is first
            import matplotlib  # noqa: F401
    finally:
        del os.environ["MATPLOTLIBRC"]
        os.environ.update(_saved)
