"""What all tests share. The packages under test are not imported here: the shape checks of
``--jaxtyping-packages`` must be installed before they are."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors of the tests are too small to share among cores, and sums keep their order."""
    import torch

    torch.set_num_threads(1)
