"""The sides of this session, live where they can be had, and a header and a last line that say which."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from twingrad import harness, paths
from twingrad.errors import InputError
from twingrad.sides import is_available, side, sides


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--recorded", default="", help="sides to take from their recorded results, e.g. flux")


def only_recorded(config: pytest.Config) -> tuple[str, ...]:
    return tuple(side(name).name for name in config.getoption("--recorded").split(",") if name)


def sources_line(config: pytest.Config) -> str:
    parts = []
    for name, one in sides().items():
        if name not in only_recorded(config) and is_available(name):
            parts.append(f"{one.title} live")
        else:
            try:
                parts.append(str(harness.recorded_source(name)))
            except InputError as error:
                parts.append(f"{one.title} neither live nor recorded ({error})")
    return "twingrad: " + "; ".join(parts)


def pytest_report_header(config: pytest.Config) -> str:
    return sources_line(config)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not config.option.collectonly:
        reporter.write_line(sources_line(config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_file" in metafunc.fixturenames:
        files = paths.case_files()
        metafunc.parametrize("case_file", files, ids=[file.stem for file in files])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that kill the Flux worker come last: the next one has to compile anew."""
    items.sort(key=lambda item: item.path.name == "test_killed.py")


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest) -> Iterator[harness.Sides]:
    """Workers of the live sides and the recorded results of the others."""
    with harness.Sides(only_recorded(request.config)) as started:
        yield started


@pytest.fixture
def both_live(running: harness.Sides) -> harness.Sides:
    """The sides, for tests that no recorded result can stand in for."""
    if running.recorded:
        missing = ", ".join(side(name).title for name in running.recorded)
        pytest.skip(f"NOT RUN: needs every side live, and there is no {missing} here")
    return running
