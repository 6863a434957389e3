"""The list of models."""

import json

from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.models.zoo import MODELS


def test_json_lists_every_model():
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(rows) == set(MODELS)
    base = rows["ckd-base"]
    assert base["parameters"] == 183_871_365  # docs/specs/ckd.md, section 2.1
    assert (base["template_size"], base["search_size"]) == (128, 256)
    assert base["published"] == {"PR": 73.2, "NPR": 69.3, "SR": 58.1}  # docs/specs/ckd.md, section 7
    assert base["weights"] is None
    assert rows["patrack-base"]["parameters"] == 105_667_413  # docs/specs/patrack.md, section 1.8
    assert sum(rows["patrack-base"]["never_used"].values()) == 9_568_824
    assert rows["ckd-tiny"]["never_used"] == {}


def test_table_names_every_model_and_says_whose_numbers_they_are():
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert all(name in text for name in MODELS)
    assert "not measured by us" in text
    assert "of its parameters 9.6 M are in checkpoints only: backbone.cls_token" in text
