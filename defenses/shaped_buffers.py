"""Buffers that are known only once a defense is fitted: a piece, not a defense."""

from typing import Any

import torch
from torch import nn


class ShapedBuffers(nn.Module):
    """Takes its buffers from whatever state is loaded: their number and shapes are the cut's."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]:
            self.register_buffer(name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
