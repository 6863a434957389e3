"""Measure every back-end on this machine's CPU and print the tables of benchmarks/README.md.

    python benchmarks/cpu_table.py [--rounds 4] [--only base|tiny] [--backends torch,openvino]
        [--int8 FILE] [--json FILE]

`ckd-base` with multi-modal elimination against the release's way of computing it (`reference_ckd.py`: eager torch,
fp32, whole attention maps), then `ckd-tiny` on 640x512 frames with one and two modalities. All configurations of a
table take turns in every round; ratios are of the same round. Weights of ckd-base are made up, with answers that vary.
The first run also makes graphs and compiles, which is kept: run twice, and write down the second.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for the measuring processes, which import this file by its path
from reference_ckd import ReferenceCKD

from duotrack import build_net
from duotrack.errors import InputError
from duotrack.evaluation.speed import Comparison, Report, Spread, clip_of, measure
from duotrack.evaluation.stopwatch import Clip, Configuration, ready
from duotrack.files import write_text
from duotrack.models.zoo import model_spec
from duotrack.runtime.backends import BACKENDS
from duotrack.tracking.tracker import Tracker
from duotrack.weights.safetensor import save_weights

SIZE = (640, 512)
FRAMES = 12


@dataclass(frozen=True, kw_only=True)
class Reference(Configuration):
    """The release's way of computing."""

    def settled(self) -> Configuration:
        """Eager fp32."""
        return replace(self, backend="reference", precision="fp32")

    def eager(self) -> Configuration:
        """What other back-ends compute is not counted on the reference, which computes more."""
        return Configuration(model=self.model, weights=self.weights, device="cpu").eager()

    def load(self, prepare_for: tuple[str, ...]) -> Tracker:
        """A tracker around the reference network."""
        net = ReferenceCKD(build_net(self.model, weights=self.weights)).eval()
        return Tracker(net, geometry=model_spec(self.model).geometry, device="cpu")


def answers(configuration: Configuration, clip: Clip) -> list[np.ndarray[Any, Any]]:
    """The three maps of the second frame, float32."""
    tracker = ready(configuration, clip)
    with clip.pairs(prefetch=0) as pairs:
        first, second = next(pairs), next(pairs)
        tracker.init(first.rgb, first.aux, clip.box)
        question = tracker.ask(second.rgb, second.aux)
        maps = tracker.maps(question)
    return [m.float().numpy().copy() for m in (maps.score_map, maps.size_map, maps.offset_map)]


def write_made_weights(path: Path, model: str) -> None:
    """Values that are functions of name and shape, as the reference vectors of tests/golden have them."""
    net = model_spec(model).build().eval()
    for key, tensor in net.state_dict().items():
        draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(tensor.shape), dtype=np.float32)
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_var"):
            draw = 1 + 0.1 * np.abs(draw)
        elif tensor.dim() >= 2:
            draw /= np.float32(math.sqrt(math.prod(tensor.shape[1:])))
        else:
            draw = 1 + 0.1 * draw if key.endswith("weight") else 0.1 * draw
        tensor.copy_(torch.from_numpy(np.asarray(draw)))
    save_weights(path, net, model=model, elimination=model_spec(model).elimination)


FITTED = (("int8", "onnxruntime"), ("int8", "openvino"))
"""To frames, before they run."""


def configurations(model: str, weights: Path | None, backends: list[str]) -> list[Configuration]:
    """Everything that runs here without frames to quantise on."""
    return [
        Configuration(model=model, weights=weights, device="cpu", backend=backend, precision=precision)
        for backend in backends
        for precision in BACKENDS[backend]
        if precision != "fp16" and (precision, backend) not in FITTED
    ]


def left_out(configuration: Configuration, error: InputError) -> None:
    """Say which, and why."""
    print(f"left out, {configuration.backend} {configuration.precision}: {error}", file=sys.stderr)


def base_table(rounds: int, backends: list[str], room: Path, int8: Path | None) -> list[dict[str, Any]]:
    """ckd-base: the network against the reference; `int8`: an export of `write_made_weights`, too."""
    weights = room / "base.safetensors"
    write_made_weights(weights, "ckd-base")
    every = [Reference(model="ckd-base", weights=weights), *configurations("ckd-base", weights, backends)]
    if int8 is not None:
        every.append(Configuration(model="ckd-base", weights=int8, device="cpu", backend="openvino", precision="int8"))
    with clip_of([], size=SIZE, modalities=2, frames=FRAMES) as clip:
        reports, comparisons = measure(every, clip, rounds=rounds, probe=answers, refused=left_out, watch=tick)
    rows = []
    for report, ratio in zip(reports, [None, *comparisons], strict=True):
        difference = max(float(np.abs(a - b).max()) for a, b in zip(report.probed, reports[0].probed, strict=True))
        rows.append(row(report, ratio) | {"map_difference": difference})
    print("\n### ckd-base, multi-modal elimination, both modalities, against the release's way\n")
    heads = ("network, ms", "crop + post, ms", "times faster", "GFLOP/s", "share of peak", "largest map difference")
    print(f"| back-end | {' | '.join(heads)} | memory, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for each in rows:
        print(
            f"| {each['name']} | {shown(each['network'])} | {each['around']:.2f} | {shown(each['faster'], 2)} | "
            f"{each['gflops']:.0f} | {percent(each['share'])} | {each['map_difference']:.1e} | {each['memory']:.0f} |"
        )
    said_peaks(reports)
    return rows


def tiny_table(rounds: int, backends: list[str]) -> list[dict[str, Any]]:
    """ckd-tiny: whole frames."""
    rows = []
    for count, words in ((1, "one modality"), (2, "two modalities")):
        with clip_of([], size=SIZE, modalities=count, frames=FRAMES) as clip:
            every = configurations("ckd-tiny", None, backends)
            reports, comparisons = measure(every, clip, rounds=rounds, refused=left_out, watch=tick)
        made = [row(report, ratio) for report, ratio in zip(reports, [None, *comparisons], strict=True)]
        rows += [each | {"modalities": count} for each in made]
        print(f"\n### ckd-tiny, {words}, {SIZE[0]}x{SIZE[1]}\n")
        heads = ("back-end", "frames/s", "frame, ms", "network, ms", "decode, ms", "crop + post, ms", "share of peak")
        print(f"| {' | '.join(heads)} | memory, MB |")
        print("|---|---|---|---|---|---|---|---|")
        for each in made:
            print(
                f"| {each['name']} | {each['fps']:.1f} | {shown(each['frame'])} | {shown(each['network'])} | "
                f"{shown(each['decode'], 2)} | {each['around']:.2f} | {percent(each['share'])} | {each['memory']:.0f} |"
            )
        said_peaks(reports)
    return rows


def row(report: Report, ratio: Comparison | None) -> dict[str, Any]:
    """What the tables show of one configuration."""
    one = Spread(1.0, 1.0, 1.0)
    return {
        "name": f"{report.configuration.backend} {report.configuration.precision}",
        "network": vars(report.stages["network"]),
        "decode": vars(report.stages["decode"]),
        "around": report.stages["crop"].median + report.stages["post"].median,
        "frame": vars(report.frame),
        "faster": vars(one if ratio is None else ratio.network),
        "fps": report.fps,
        "gflops": report.flops_per_second / 1e9,
        "share": report.peak_share,
        "memory": report.memory["resident"],
    }


def said_peaks(reports: list[Report]) -> None:
    """Whose matrix products the shares are of."""
    peaks = {str(r.configuration.precision): (r.peak_flops or 0.0, r.peak_by) for r in reports}
    words = [f"{precision} {flops / 1e9:.0f} GFLOP/s ({by})" for precision, (flops, by) in peaks.items()]
    print(f"\nFastest matrix products: {', '.join(words)}. {reports[0].flops / 1e9:.1f} GFLOP a frame.")


def shown(spread: dict[str, float], digits: int = 1) -> str:
    """Median and quartiles."""
    return f"{spread['median']:.{digits}f} ({spread['q1']:.{digits}f} to {spread['q3']:.{digits}f})"


def percent(share: float | None) -> str:
    """A share, or a dash."""
    return "-" if share is None else f"{share:.0%}"


def tick() -> None:
    """A sign of life."""
    print(".", end="", flush=True, file=sys.stderr)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", choices=["base", "tiny"])
    parser.add_argument("--backends", default="torch,compiled,onnxruntime,openvino")
    parser.add_argument("--int8", type=Path, help="an OpenVINO export of ckd-base in int8, of the weights made up here")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    backends = args.backends.split(",")
    began = time.monotonic()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.rounds} rounds; medians (quartiles)")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="duotrack-") as room:
        if args.only != "tiny":
            found["ckd-base"] = base_table(args.rounds, backends, Path(room), args.int8)
        if args.only != "base":
            found["ckd-tiny"] = tiny_table(args.rounds, backends)
    print(f"\nMeasured in {(time.monotonic() - began) / 60:.1f} minutes.")
    if args.json:
        write_text(args.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
