"""What the tests of the pages share: a browser, the shipped models, and the sample."""

import pytest

import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset


@pytest.fixture(scope="module")  # not longer: a process cannot start Playwright twice, and a lab starts its own
def browser():
    import lab
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, lab.started_browser(playwright, "chromium") as running:
        yield running


@pytest.fixture(scope="module")
def model():
    return tsdlab.load_detector("badges-tsd")


@pytest.fixture(scope="module")
def models():
    return {name: tsdlab.load_detector(f"badges-{name}") for name in ("sibling", "tsd")}


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SAMPLE, "val")
