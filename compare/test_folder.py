"""The folder that both languages share."""

from twingrad import paths
from twingrad.fixtures import generate


def test_folder_is_in_order():
    """Digests, finite values, seeds, names: everything is what the generator makes here, and nothing else is there."""
    assert generate.problems() == []


def test_folder_stays_under_20_megabytes():
    size = sum(file.stat().st_size for file in paths.shared_fixtures().rglob("*") if file.is_file())
    assert size < 20e6
