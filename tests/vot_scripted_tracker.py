"""A TraX tracker that knows the answer: it reads groundtruth.txt beside the images that it is shown.

Run as a program by the VOT toolkit, in an environment that has `vot-trax` and nothing of ours:
`python vot_scripted_tracker.py CHANNELS DRIFT`. Frame i's box is shifted by i DRIFT pixels to the right, with less
confidence the farther it is; where the target is away, a box in the corner has none.
"""

import sys
from pathlib import Path

import trax

channels, drift = sys.argv[1].split(","), int(sys.argv[2])
server = trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], channels, tracker_name="scripted")
while True:
    request = server.wait()
    if request.type == trax.TraxStatus.QUIT:
        break
    image = Path(request.image[channels[0]].path())
    index = int(image.stem) - 1
    row = (image.parent.parent / "groundtruth.txt").read_text().split()[index]
    if "nan" in row:
        box, confidence = [0.0, 0.0, 8.0, 8.0], 0.0
    else:
        x, y, w, h = map(float, row.split(","))
        box, confidence = [x + index * drift, y, w, h], 1 / (1 + index * drift)
    server.status([(trax.Rectangle.create(*box), {"confidence": confidence})])
