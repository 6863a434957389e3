"""Where frames come from and results go: files, folders, cameras, streams; boxes, JSON lines, overlay, pictures."""

from duotrack.thermal16 import Thermal16
from duotrack.video.live import Live
from duotrack.video.pair import PairedSource
from duotrack.video.pictures import draw_strip, first_frame_images
from duotrack.video.sinks import Sinks, open_sinks, results_in
from duotrack.video.source import open_source

__all__ = [
    "Live",
    "PairedSource",
    "Sinks",
    "Thermal16",
    "draw_strip",
    "first_frame_images",
    "open_sinks",
    "open_source",
    "results_in",
]
