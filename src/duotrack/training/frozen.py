"""Parts of a network that are asked but do not learn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.func import functional_call


@contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; afterwards every part is in the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def without_learning(module: nn.Module, ask: Callable[..., Any], *arguments: Any) -> Any:
    """`ask(module, *arguments)` in evaluation mode with detached parameters: gradients reach the arguments alone."""
    call = _Call(module, ask)
    with resting(module):
        return functional_call(call, {name: p.detach() for name, p in call.named_parameters()}, arguments)


class _Call(nn.Module):
    def __init__(self, module: nn.Module, ask: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.ask = ask

    def forward(self, *arguments: Any) -> Any:
        return self.ask(self.module, *arguments)
