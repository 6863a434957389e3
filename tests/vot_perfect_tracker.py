"""A TraX tracker that knows the answer: it reads groundtruth.txt beside the images that it is shown.

Run as a program by the VOT toolkit, in an environment that has `vot-trax` and nothing of ours.
"""

import sys
from pathlib import Path

import trax

channels = sys.argv[1].split(",")
server = trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], channels, tracker_name="perfect")
while True:
    request = server.wait()
    if request.type == trax.TraxStatus.QUIT:
        break
    image = Path(request.image[channels[0]].path())
    rows = (image.parent.parent / "groundtruth.txt").read_text().split()
    row = rows[int(image.stem) - 1]
    here = "nan" not in row
    box = [float(part) for part in row.split(",")] if here else [0.0, 0.0, 8.0, 8.0]
    server.status([(trax.Rectangle.create(*box), {"confidence": 1.0 if here else 0.0})])
