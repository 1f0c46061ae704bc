"""What the tests of the widgets share: the sample, two trained models, and an explorer."""

import pytest

import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset


@pytest.fixture(scope="session")
def dataset():
    return CocoDataset(SAMPLE, "val")


@pytest.fixture(scope="session")
def models():
    return {name: tsdlab.load_detector(f"badges-{name}") for name in ("sibling", "tsd")}


@pytest.fixture
def explorer(models, dataset):
    return tsdlab.explore(models["tsd"], dataset)


@pytest.fixture
def tell(explorer):
    """What the page sends, and what it gets for it: one message, whatever follows from it."""

    def send(**message):
        sent = []
        explorer.comm.send = lambda data, **_: sent.append(data)
        explorer._receive(explorer, {"serial": 7, **message}, [])
        (update,) = [data["state"] for data in sent if data["method"] == "update"]
        assert update["_request"]["done"] == 7
        return update["_request"]["refused"]

    return send
