"""What each model is made of: its settings, and the names, types and shapes of its arrays.

The same folder on the Julia side is `julia/src/specs/`. Nothing here computes; the harness checks files with it
without loading a framework.
"""

from .arrays import Array, Arrays, ArraySpec, ModelConfig, ModelSpec, check_arrays
from .control_net import ControlNetConfig
from .gpt import GPTConfig
from .mlp import MLPConfig
from .resnet import ResNetConfig
from .table import MODELS, make_config, model_spec, parse_config

__all__ = [
    "MODELS",
    "Array",
    "ArraySpec",
    "Arrays",
    "ControlNetConfig",
    "GPTConfig",
    "MLPConfig",
    "ModelConfig",
    "ModelSpec",
    "ResNetConfig",
    "check_arrays",
    "make_config",
    "model_spec",
    "parse_config",
]
