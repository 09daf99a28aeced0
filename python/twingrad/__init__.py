"""TwinGrad: the same networks in PyTorch and Flux.jl, proved equal.

The command `twingrad` is the way in; `twingrad.julia.load()` hands the Julia package to a notebook.
"""

from importlib.metadata import version

from .errors import InputError, SideError
from .format import Case, Result, read_case, read_result

__version__ = version("twingrad")

__all__ = ["Case", "InputError", "Result", "SideError", "__version__", "read_case", "read_result"]
