"""How a long calculation tells where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Progress = Callable[[Mapping[str, Any]], None]
"""Called now and then with what has been reached, by name: what a progress message of a worker holds."""
