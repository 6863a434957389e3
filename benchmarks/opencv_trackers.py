"""Run a tracker of opencv-contrib over one list of pictures; needs only cv2, numpy and the standard library.

    OTHER_VENV/bin/python benchmarks/opencv_trackers.py < job.json > boxes.json

It is started by `compare_opencv.py` in an environment of its own, because opencv-contrib-python-headless and the
opencv-python-headless of the package cannot be installed together. The job: {"tracker": "csrt" or "kcf", "threads": 1,
"box": [x, y, w, h], "frames": [path, ...]}. The answer: {"boxes": one for each frame but the first, "seconds": spent in
`update` alone, "opencv": version}. A frame that cannot be read is not shown to the tracker; it, and a tracker that says
it has lost the target, leave the last box standing.
"""

import argparse
import json
import sys
import time

import cv2
import numpy as np


def run(job: dict) -> dict:
    """Follow the target through the frames."""
    makers = {"csrt": "TrackerCSRT_create", "kcf": "TrackerKCF_create"}
    make = getattr(cv2, makers[job["tracker"]], None)
    if make is None:
        raise SystemExit(f"OpenCV {cv2.__version__} at {cv2.__file__} has no {job['tracker']}: is it opencv-contrib?")
    cv2.setNumThreads(job["threads"])
    tracker = make()
    boxes, seconds = [], 0.0
    last, started = [float(v) for v in job["box"]], False
    for index, path in enumerate(job["frames"]):
        # a file without a picture stands for a sensor that gave nothing
        data = np.fromfile(path, np.uint8)
        frame = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if frame is not None and not started:
            tracker.init(frame, [max(0, round(v)) for v in last[:2]] + [max(1, round(v)) for v in last[2:]])
            started = True
        elif frame is not None:
            before = time.perf_counter()
            good, box = tracker.update(frame)
            seconds += time.perf_counter() - before
            if good:
                last = [float(v) for v in box]
        if index:
            boxes.append(last)
    return {"boxes": boxes, "seconds": seconds, "opencv": cv2.__version__}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    json.dump(run(json.load(sys.stdin)), sys.stdout)
