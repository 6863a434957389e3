"""A short proof of which data a run was trained on."""

import hashlib
from collections.abc import Iterable

from duotrack.datasets.sequence import Frames, Sequence


def fingerprint(sequences: Iterable[Sequence]) -> str:
    """SHA-256 (hex) over names, frame names, boxes, masks, what is known beside them, and some file sizes.

    Sizes are those of the first, the middle and the last frame. How auxiliary frames are read counts where they are not
    thermal.

    Equal data in equal order give equal fingerprints wherever they lie on disk. Not every file is looked at, so
    that it takes about a second for LasHeR. A file that is not there counts as size -1.
    """
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(f"{sequence.name}\0{len(sequence)}\0".encode())
        digest.update(sequence.boxes.astype("<f8").tobytes())
        if sequence.kind != "thermal":
            digest.update(f"{sequence.kind}\0{sequence.depth_colours}\0{sequence.min_side}\0".encode())
            digest.update(b"none" if sequence.labelled is None else sequence.labelled.tobytes())
        for frames in (sequence.rgb, sequence.aux):
            digest.update(b"none" if frames is None else _frames(frames))
        if sequence.mask is not None:
            digest.update(sequence.mask.tobytes())
    return digest.hexdigest()


def _frames(frames: Frames) -> bytes:
    picked = sorted({0, len(frames) // 2, len(frames) - 1})
    sizes = [path.stat().st_size if path.exists() else -1 for path in (frames[i] for i in picked)]
    return "\0".join([*frames.names, *map(str, sizes)]).encode()
