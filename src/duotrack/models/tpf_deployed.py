"""TPF as it is deployed: a template is fused and embedded once, when it is taken, and the head is merged."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from duotrack.models.merged_head import MergedHead
from duotrack.models.outputs import NetOutput
from duotrack.models.tpf import TPF, Pair


class DeployedTPF(nn.Module):
    """Inference form of a TPF network, whose parts it takes over; its maps are those of `TPF` to rounding.

    Args:
        net: a network in evaluation mode.
    """

    masks = True
    """`forward` understands `present`."""

    def __init__(self, net: TPF) -> None:
        super().__init__()
        self.elimination = net.elimination
        fix: Callable[[], None] | None = getattr(net.backbone, "fix_positions", None)
        if fix is not None:
            fix()
        net.add_module("box_head", MergedHead(net.box_head))
        self.net: Any = net
        self.eval().requires_grad_(False)

    def remember(self, template: Pair) -> Pair:
        """What `forward` wants to know of a template: (rgb, aux) images (B, 3, T, T) -> tokens (B, n, C) of both.

        A modality without an image takes the other's, as in `TPF.forward`.
        """
        rgb, aux = template
        rgb, aux = (aux if rgb is None else rgb), (rgb if aux is None else aux)
        if rgb is None or aux is None:
            raise ValueError("both modalities are missing: at least one template is needed")
        return self.remember_fused(self.net.fuse(rgb, aux))

    def remember_fused(self, image: Tensor) -> Pair:
        """As `remember`, of an image that is fused already, (B, 3, T, T) normalised."""
        tokens: Tensor = self.net.backbone.embed_template(image)
        return tokens, tokens

    def forward(
        self,
        *,
        template: Pair,
        search: Pair,
        available: tuple[str, ...] = ("rgb", "aux"),
        present: Tensor | None = None,
        dynamic: Pair | None = None,
    ) -> NetOutput:
        """As `TPF.forward`, `template` and `dynamic` being tokens of `remember`."""
        known = template[0] if template[0] is not None else template[1]
        second = known if dynamic is None else (dynamic[0] if dynamic[0] is not None else dynamic[1])
        if known is None or second is None:
            raise ValueError("a template is missing: nothing to look for")
        out: NetOutput = self.net.follow([known, second], self.net.fuse_search(search, available, present))
        return out
