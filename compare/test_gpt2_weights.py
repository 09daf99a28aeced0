"""Imported GPT-2 weights give, on every live side, the logits of `transformers`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twingrad import harness
from twingrad.format import Case, read_case

BOUNDS = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def small_gpt2(request: pytest.FixtureRequest) -> Any:
    """A model of two layers whose every weight is random."""
    module = pytest.importorskip(
        "transformers.models.gpt2.modeling_gpt2", reason="NOT RUN: needs transformers (pip install 'twingrad[dev]')"
    )
    import torch

    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 50, "n_positions": 16}
    config = module.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, tie_word_embeddings=request.param)
    model, draw = module.GPT2LMHeadModel(config).eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.5, generator=draw)
    return model


def test_every_live_side_gives_the_logits_of_transformers(
    small_gpt2: Any, running: harness.Sides, tmp_path: Path
) -> None:
    import torch

    from twingrad.importers.gpt2 import read_gpt2

    small_gpt2.save_pretrained(tmp_path, safe_serialization=True)
    checkpoint = read_gpt2(tmp_path)
    tokens, targets = np.random.default_rng(2).integers(0, 50, (2, 3, 16))
    groups = {
        "params": {name: array.astype(np.float64) for name, array in checkpoint.params.items()},
        "inputs": {"tokens": tokens},
        "targets": {"targets": targets},
    }
    file = tmp_path / "imported.h5"
    Case("gpt2-imported", "gpt", json.dumps(checkpoint.config.model_dump(mode="json")), groups).write(file)
    case = read_case(file)
    if not running.workers:
        pytest.skip("NOT RUN: needs a live side")
    for dtype, bound in BOUNDS.items():
        with torch.no_grad():
            logits = small_gpt2.to(getattr(torch, dtype))(torch.from_numpy(tokens)).logits.numpy()
        for name in running.workers:
            result = running.result(name, case, file, dtype, 0)
            assert result is not None
            found = result.arrays["outputs/logits"]
            assert str(found.dtype) == str(logits.dtype) == dtype
            error = np.linalg.norm(found - logits) / np.linalg.norm(logits)
            assert error < bound, f"{name}, {dtype}: {error}"
            print(f"{name}, {dtype}: {error:.1e}")  # noqa: T201
