"""The table of models, and settings read from files."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InputError, one_of
from ..validation import validate
from .arrays import ModelConfig, ModelSpec
from .control_net import CONTROL_NET
from .gpt import GPT
from .mlp import MLP
from .resnet import RESNET

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in (CONTROL_NET, GPT, MLP, RESNET)}


def model_spec(name: str, where: str) -> ModelSpec:
    """The model called `name`; raises InputError, naming `where`, if there is none."""
    if name not in MODELS:
        raise InputError(where, expected=one_of(MODELS), found=repr(name))
    return MODELS[name]


def parse_config(spec: ModelSpec, text: str, where: str) -> ModelConfig:
    """The model's settings from JSON text; raises InputError, naming `where`."""
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(where, expected="a JSON object", found=f"{text[:60]!r} ({error})") from None
    return make_config(spec, settings, where)


def make_config(spec: ModelSpec, settings: Any, where: str) -> ModelConfig:
    """The model's settings from a dictionary; raises InputError, naming `where` and the setting."""
    return validate(spec.config, settings, where)
