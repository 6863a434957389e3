"""Published fusion networks as experts, where a user brings code and weights (docs/specs/tpf.md, section 7.3).

Nothing of them is in this package: three of the four repositories have no licence, the fourth has the GPL. What is
here is how they are called: order of arguments, ranges, sizes. Scripts of theirs stretch every output to the full
range; the brightness of a template and of a search region would then not go together, so outputs are clamped instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.files import digest
from duotrack.fusion.expert import Expert, MissingExpertError, on_device
from duotrack.fusion.user_code import imported, refusals_named
from duotrack.weights.foreign import find_part, read_foreign
from duotrack.weights.report import load_weights

_SEED = 0


@dataclass(frozen=True)
class Method:
    """How a published network is called.

    `call(net, luma, thermal)`, grey (B, 1, H, W) in [0, 1], gives (B, 1, H, W) from `black` to 1. `parts`: names of the
    submodules that `call` uses, and that are looked up in the weights one by one; none: the network as a whole.
    """

    call: Callable[[Any, Tensor, Tensor], Tensor]
    parts: tuple[str, ...] = ()
    divisor: int = 1
    black: float = 0.0
    slow: bool = False


def _cddfuse(net: Any, luma: Tensor, thermal: Tensor) -> Tensor:
    seen, warm = net.encoder(luma), net.encoder(thermal)
    return _first(net.decoder(luma, net.base(seen[0] + warm[0]), net.detail(seen[1] + warm[1])))


def _infrared_first(net: Any, luma: Tensor, thermal: Tensor) -> Tensor:
    return _first(net(thermal, luma))


def _ddfm(net: Any, luma: Tensor, thermal: Tensor) -> Tensor:
    """Each sample by itself and from the same seed: sampling starts from noise."""
    made = []
    for y, t in zip(luma[:, None], thermal[:, None], strict=True):
        with torch.random.fork_rng(devices=[luma.device] if luma.is_cuda else []):
            torch.manual_seed(_SEED)
            made.append(_first(net(2 * t - 1, 2 * y - 1)))
    return torch.cat(made)


def _first(output: Any) -> Tensor:
    """Networks of research code hand out further results beside the picture."""
    first: Tensor = output[0] if isinstance(output, tuple | list) else output
    return first


METHODS: Mapping[str, Method] = {
    "cddfuse": Method(_cddfuse, parts=("encoder", "base", "detail", "decoder")),
    "emma": Method(_infrared_first, divisor=32),
    "ddfm": Method(_ddfm, divisor=32, black=-1.0, slow=True),
    "tardal": Method(_infrared_first),
}
"""CDDFuse (CVPR 2023), EMMA (CVPR 2024), DDFM (ICCV 2023), TarDAL (CVPR 2022)."""


def open_published(name: str, *, weights: Path | None, code: str | None, black: float | None = None) -> Expert:
    """A published network as an expert.

    Args:
        name: one of `METHODS`.
        weights: a checkpoint (read without running what it holds), or, without `code`, a TorchScript file, which is a
            program: use only one that you trust.
        code: `MODULE:FUNCTION` that takes no argument and returns the network, an `nn.Module`; it is run.
        black: what the output calls black; None takes the method's.

    Raises:
        MissingExpertError: the weights are not there. InputError: no weights named, or code or weights do not fit.
    """
    if weights is None:
        raise InputError(
            f"expert {name} needs weights, which are not part of this package; name the file (--weights FILE)"
        )
    path = weights.expanduser()
    if not path.is_file():
        raise MissingExpertError(
            f"no weights of expert {name} at {path}; bring them from its authors, or check the path"
        )
    method = METHODS[name]
    net = _script(path) if code is None else _network(code)
    if missing := [part for part in method.parts if not hasattr(net, part)]:
        raise InputError(
            f"the network of {name} has no {', '.join(missing)}; its submodules are {', '.join(method.parts)}"
        )
    if code is not None:
        tensors = read_foreign(path)
        for module in [getattr(net, part) for part in method.parts] or [net]:
            load_weights(module, find_part(tensors, module, str(path)))
    net.eval()  # batch statistics of one image would depend on the others of its batch
    low = method.black if black is None else black

    def fuse(luma: Tensor, thermal: Tensor) -> Tensor:
        return (method.call(on_device(net, luma.device), luma, thermal) - low) / (1 - low)

    return Expert(name, fuse, version=digest(path)[:12], divisor=method.divisor, luma_only=True, slow=method.slow)


def _script(path: Path) -> nn.Module:
    try:
        net: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise InputError(
            f"{path} is no TorchScript file; name the code that builds the network (--code MODULE:FUNCTION), or save "
            "it with torch.jit.save"
        ) from error
    return net


def _network(code: str) -> nn.Module:
    build = imported(code)
    with refusals_named(code):
        net = build()
    if not isinstance(net, nn.Module):
        raise InputError(f"{code} returned {type(net).__name__}, not a torch.nn.Module; return the network itself")
    return net
