"""What all tests share: one torch thread, the real data, and skips that count as failures in CI.

A test that lacks something calls `pytest.skip("needs ...")`. With CI=true a skip is a failure, unless its reason starts
with "only" (another operating system, another accelerator) or "offline" (no package index answered).
"""

import gc
import os
import shutil
from pathlib import Path

# Before anything imports torch or matplotlib: the suite runs two processes on two cores, and draws on no screen.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI", "").lower() == "true"
MAY_SKIP_IN_CI = ("only", "offline")

if (ROOT.parent / "shared" / "data").is_dir():
    os.environ.setdefault("KAKEHASHI_DATA", str(ROOT.parent / "shared" / "data"))

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("house")


def pytest_collection_finish() -> None:
    # what was imported stays: no garbage collection need walk over it, which halves the time of what parses a lot
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets ($KAKEHASHI_DATA, else ../shared/data beside the checkout)."""
    folder = Path(os.environ.get("KAKEHASHI_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs the real data: there is no {folder} (set KAKEHASHI_DATA)")
    return folder


@pytest.fixture(scope="session")
def tool():
    """tool("git") -> the program's path; the test is skipped where it is not installed."""

    def find(*names: str) -> str:
        for name in names:
            if path := shutil.which(name):
                return path
        pytest.skip(f"needs the program {' or '.join(names)}")

    return find


def _refuse_skip(report) -> None:
    """Turn a skip into a failure where CI must see everything run."""
    if not (CI and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(MAY_SKIP_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI=true: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _refuse_skip(report)
    return report
