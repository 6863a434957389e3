"""Where frames come from and where results go: files, folders, cameras, streams; boxes, JSON lines, overlay."""

from duotrack.video.live import Live
from duotrack.video.pair import PairedSource
from duotrack.video.source import open_source
from duotrack.video.thermal16 import Thermal16

__all__ = ["Live", "PairedSource", "Thermal16", "open_source"]
