"""Naming what a network never uses."""

from torch import nn

from duotrack.models.parameters import unused_parts
from duotrack.models.zoo import MODELS, build_on_meta


def test_the_largest_unused_parts_are_named_together() -> None:
    net = nn.Module()
    net.blocks = nn.ModuleList(nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2)}) for _ in range(3))
    net.own = nn.Linear(4, 1)
    net.alone = nn.Parameter(nn.init.zeros_(net.own.weight.clone()), requires_grad=False)
    net.blocks[0]["a"].requires_grad_(False)
    net.blocks[2]["a"].requires_grad_(False)
    net.blocks[1].requires_grad_(False)
    net.own.bias.requires_grad_(False)
    assert unused_parts(net) == {"alone": 4, "blocks.{0,2}.a": 18, "blocks.1": 15, "own.bias": 1}


def test_what_the_models_never_use() -> None:
    """docs/specs/ckd.md, section 1.1; docs/specs/patrack.md, sections 1.1, 1.2, 1.4 and 1.5."""
    assert unused_parts(build_on_meta(MODELS["ckd-tiny"])) == {}
    assert set(unused_parts(build_on_meta(MODELS["ckd-base"]))) == {
        f"{branch}.{name}" for branch in ("rgb_branch", "tir_branch") for name in ("cls_token", "pos_embed")
    }
    parts = unused_parts(build_on_meta(MODELS["patrack-base"]))
    assert set(parts) == {
        "backbone.cls_token",
        "backbone.pos_embed",
        "norm1",
        *(
            f"backbone.blocks.{{0,1,2,4,5,7,8,10,11}}.{name}"
            for name in ("highfuseadapter1", "highfuseadapter2", "norml1", "norml2")
        ),
        *(f"backbone.blocks.{{3,6,9}}.{name}" for name in ("adap_t", "adap2_t")),
        *(f"backbone.blocks.{{3,6,9}}.highfuseadapter{i}.obj_fuse.gamma{k}" for i in (1, 2) for k in (1, 2)),
    }
    # 13,110,480 in adapters less 3,722,904 used; norms but those of three blocks; class token and its positions
    assert sum(parts.values()) == 13_110_480 - 3_722_904 + 38_400 - 3 * 4 * 768 + 768 * 198
