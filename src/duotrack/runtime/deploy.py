"""From a network as it is trained to one that only tracks."""

from torch import nn

from duotrack.models.head import CenterHead
from duotrack.models.merged_head import MergedHead


def deploy(net: nn.Module) -> nn.Module:
    """The inference form of a network of the zoo; its maps stay the same to rounding, its parts are taken over.

    A network that knows a form of its own (a method `deployed`) gives it; of any other the centre heads are merged.
    The form may have:

    * `remember(template) -> Pair`: what the network needs of a template, made once; handed in as `template` from then
      on. A modality that the template lacks is filled in.
    * `masks = True`: `forward` takes `present`, (B, 2) bool, where both search images are handed in and some are
      fillers.
    * `shared = True`: one backbone serves either modality alone in the same way.
    """
    own = getattr(net, "deployed", None)
    if own is not None:
        made: nn.Module = own()
        return made.eval().requires_grad_(False)
    net = net.eval().requires_grad_(False)
    if isinstance(net, CenterHead):
        return MergedHead(net)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, CenterHead):
                setattr(parent, name, MergedHead(child))
    return net
