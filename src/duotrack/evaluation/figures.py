"""What all figures share: a canvas, colours, axes, and text that can be drawn.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from typing import TYPE_CHECKING, Any

from duotrack.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LONGEST = 32  # letters of a name in a figure


def require_matplotlib() -> None:
    """Say at once when figures cannot be made.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("figures need matplotlib, got none installed; pip install 'duotrack[eval]'") from error


def blank_figure(width: float, height: float) -> "Figure":
    """An empty figure that stands for itself: without pyplot nothing stays behind in the process."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def bare(axes: Any, grid: str) -> None:
    """Leave only what is read: two spines, and a pale grid along `grid` ("x", "y" or "both")."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def plain(name: str) -> str:
    """A name fit for a figure: letters that can be drawn, and not too many."""
    return letters(name if len(name) <= LONGEST else f"{name[: LONGEST - 11]}…{name[-10:]}")


def letters(text: str) -> str:
    """`text` without mathematics, and with a question mark for every letter that the font does not have."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    glyphs = get_font(findfont(FontProperties())).get_charmap()
    text = "".join(" " if not letter.isprintable() else letter if ord(letter) in glyphs else "?" for letter in text)
    return text.replace("$", r"\$")
