"""Options of commands that track: when the second template is renewed."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from duotrack.tracking.template import TemplateRule

_PANEL = "Templates (of models that take two)"
PolicyOption = Annotated[
    str | None,
    typer.Option(
        help="Renew the second one: latest_reliable, window_best, interval or none; default: latest_reliable.",
        rich_help_panel=_PANEL,
    ),
]
ThetaOption = Annotated[
    float | None,
    typer.Option(
        help="Least raw score of a frame that is taken; default: the model's. `duotrack analyze theta` fits it.",
        rich_help_panel=_PANEL,
    ),
]
WindowOption = Annotated[
    float | None, typer.Option(help="Frames after which it is given up (100); inf: never.", rich_help_panel=_PANEL)
]
IntervalOption = Annotated[
    int | None, typer.Option(help="Frames between two renewals, at least (1).", rich_help_panel=_PANEL)
]
ReuseOption = Annotated[
    bool,
    typer.Option("--template-reuse", help="Cut it from the search image: cheaper, less exact.", rich_help_panel=_PANEL),
]


def asked_for(
    policy: str | None, theta: float | None, window: float | None, interval: int | None, reuse: bool
) -> "TemplateRule | None":
    """The rule of these options; None where none was given."""
    from duotrack.tracking.template import template_rule

    return template_rule(policy=policy, theta=theta, window=window, min_interval=interval, reuse_crop=reuse or None)
