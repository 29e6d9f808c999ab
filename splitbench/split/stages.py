"""A chain of named stages, for models that cannot be traced."""

from torch import nn


class Stages(nn.Sequential):
    """A model that is a chain of named stages, each of which is opaque.

    Tracing follows a forward method through every line; it fails where Python code looks at the
    data (``if x.sum() > 0``). A stage is never looked into: it may hold any code that maps one
    tensor to one tensor, and the model can be cut after each stage.

    Args:
        **stages: The modules in the order in which they run; the keywords name the cuts.

    Raises:
        ValueError: No stage was given.

    Example:
        >>> Stages(stem=nn.Conv2d(3, 8, 3), body=nn.ReLU(), head=nn.Flatten())
        Stages(
          (stem): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (body): ReLU()
          (head): Flatten(start_dim=1, end_dim=-1)
        )
    """

    def __init__(self, **stages: nn.Module) -> None:
        if not stages:
            raise ValueError("no stages given, need at least one: Stages(stem=..., head=...)")
        super().__init__()
        for name, stage in stages.items():
            self.add_module(name, stage)
