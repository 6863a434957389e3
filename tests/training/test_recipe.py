"""Recipes: the packaged ones, what --set does, and what is refused."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from duotrack.errors import InputError
from duotrack.models.zoo import MODELS
from duotrack.training.recipe import Recipe, load_recipe, packaged, to_yaml

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"


@pytest.mark.parametrize("name", packaged())
def test_packaged_recipes_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.summary
    assert recipe.model.name in MODELS
    path = tmp_path / "copy.yaml"
    path.write_text(to_yaml(recipe))
    assert load_recipe(str(path)) == recipe


def test_every_field_says_what_it_is() -> None:
    def walk(model: type[BaseModel], path: str = "") -> None:
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                walk(inner, f"{path}{name}.")
            else:
                assert field.description, f"{path}{name}"

    walk(Recipe)


def test_released_settings() -> None:
    """docs/specs/ckd.md, sections 2.4, 2.6 and 3.2."""
    one, two = load_recipe("ckd-base-stage1"), load_recipe("ckd-base-stage2")
    assert list(one.optimiser.learning_rates.items()) == [
        ("head", 5e-5),
        ("rgb_branch", 5e-6),
        ("tir_branch", 5e-6),
        ("teacher_rgb", 5e-6),
        ("teacher_tir", 5e-6),
    ]
    assert (one.method.style_weight, one.method.content_weight, one.method.mask_ratio) == (0.01, 0.1, 0.25)
    assert (one.epochs, one.pairs_per_epoch, one.batch_size, one.model.elimination) == (30, 60_000, 10, "none")
    assert (two.epochs, two.pairs_per_epoch, two.batch_size, two.model.elimination) == (10, 30_000, 64, "mce")
    assert two.optimiser.learning_rates == {"head": 5e-5}
    for recipe in (one, two):
        assert (recipe.optimiser.clip, recipe.optimiser.weight_decay, recipe.schedule.kind) == (0.1, 1e-4, "constant")
        assert recipe.model.requires != "nothing"


def test_the_documented_rows_of_the_papers_tables_are_reachable() -> None:
    section = DOCS.read_text(encoding="utf-8").split("## The paper's tables")[1]
    rows = [line for line in section.splitlines() if "--set" in line and line.startswith("|")]
    assert len(rows) >= 8
    for row in rows:
        name = "ckd-base-stage2" if "stage2" in row else "ckd-base-sot-stage1"
        load_recipe(name, re.findall(r"--set (\S+=[^\s`]+)", row))


def test_the_documented_recipes_are_the_packaged_ones() -> None:
    table = DOCS.read_text(encoding="utf-8").split("## What a run leaves")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, flags=re.MULTILINE)) == set(packaged())


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optimiser.learning_rates.head=1e-3", ("optimiser", "learning_rates", "head"), 1e-3),
        ("optimiser.learning_rates.branch.blocks=1", None, None),
        ("freeze=[branch.stem, box_head]", ("freeze",), ("branch.stem", "box_head")),
        ("freeze=[]", ("freeze",), ()),
        ("data.split=null", ("data", "split"), None),
        ("schedule.kind=step", ("schedule", "kind"), "step"),
        ("model.weights=/a/b=c.pt", ("model", "weights"), "/a/b=c.pt"),
        ("method.teachers=yes", ("method", "teachers"), True),
    ],
)
def test_set_changes_one_value(override: str, key: tuple[str, ...] | None, value: object) -> None:
    if key is None:
        with pytest.raises(InputError, match="plain value"):
            load_recipe("ckd-tiny", [override])
        return
    found: object = load_recipe("ckd-tiny", [override]).model_dump()
    for part in key:
        found = found[part]  # type: ignore[index]
    assert found == value


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("ckd-tny", [], "no recipe is called 'ckd-tny'; did you mean 'ckd-tiny'"),
        ("nowhere.yaml", [], "no recipe file at nowhere.yaml; packaged recipes: .*ckd-tiny"),
        ("ckd-tiny", ["optimizer.clip=1"], "unknown key 'optimizer'; did you mean 'optimiser'"),
        ("ckd-tiny", ["optimiser.clp=1"], "unknown key 'optimiser.clp'; did you mean 'clip'"),
        ("ckd-tiny", ["data.augmentation.blurr=1"], "unknown key 'data.augmentation.blurr'; did you mean 'blur'"),
        ("ckd-tiny", ["epochs=0"], "epochs: .*greater than or equal to 1, got 0"),
        ("ckd-tiny", ["epochs=many"], "epochs: .*valid integer.*got 'many'"),
        ("ckd-tiny", ["precision=fp8"], "precision: .*'fp32', 'bf16' or 'fp16', got 'fp8'"),
        ("ckd-tiny", ["method.mask_ratio=1"], "method.mask_ratio: .*less than 1"),
        ("ckd-tiny", ["method.from_teachers=content"], "from_teachers is 'content' but teachers is false"),
        ("ckd-tiny", ["epochs"], "--set takes key=value"),
        ("ckd-tiny", ["=3"], "--set takes key=value"),
        ("ckd-tiny", ["epochs.more=3"], "'epochs' is a plain value"),
        ("ckd-tiny", ["freeze=[a"], "not a YAML value"),
        ("ckd-tiny", ["epochs=0", "batch_size=0"], "and 1 more"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(name, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not YAML"),
        ("- 1\n- 2\n", "holds a list"),
        ("", "holds a NoneType"),
        ("model: {name: ckd-tiny}\n", "optimiser: Field required"),
        ("!!python/object/apply:os.system [ls]", "is not YAML"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_recipe(str(path))
