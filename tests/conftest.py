"""What all tests share. The packages under test are not imported here: the shape checks of
``--jaxtyping-packages`` must be installed before they are."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors of the tests are too small to share among cores, and sums keep their order."""
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that start processes first: at the end, one worker would be alone with the longest."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
