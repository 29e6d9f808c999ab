"""Fitted numbers whose count depends on the cut: a piece, not a defense."""

from typing import Any

import torch
from torch import nn


class LearntBuffers(nn.Module):
    """Holds buffers that are registered in fitting, or by what is loaded.

    They travel in the ``state_dict`` of a defense and can be loaded into one that was never fitted.
    """

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # The number and shapes of the buffers are those of the cut, known only from what is loaded.
        for name in [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]:
            self.register_buffer(name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
