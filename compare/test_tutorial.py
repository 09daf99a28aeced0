"""A model saved as the tutorial's last chapter saves it is read by both sides, which continue a text alike."""

from pathlib import Path

import pytest

from tutorial_pages import PAGES, groups
from twingrad import harness

TOKENS = 40


def test_both_sides_read_the_tutorials_file(
    both_live: harness.Sides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    programs = [group.programs["python"] for group in groups(PAGES["en"].read_text("utf-8")) if group.programs]
    needed = [programs[0], *(code for code in programs if "def make_gpt" in code or "CharTokenizer(" in code)]
    namespace: dict[str, object] = {"steps": 0}
    for code in (*needed, next(code for code in programs if "Checkpoint(" in code)):
        exec(code, namespace)
    request = {"prompt": [3, 1, 4], "count": TOKENS, "temperature": 0.7, "top_k": 0}
    request |= {"checkpoint": str(tmp_path / "torch.h5"), "seed": 3, "dtype": "float64", "device": "cpu"}
    found = [worker.request("generate", request)["tokens"] for worker in both_live.workers.values()]
    assert len(found[0]) == TOKENS
    assert found[0] == found[1]
