"""Average two files of weights of one model: between two runs of training often lies something better than either.

    python examples/average_weights.py first.safetensors second.safetensors out.safetensors [--share 0.5]

Every tensor becomes (1 - share) first + share second, computed in float32 and kept in the first one's type. Both must
come from the same run at some time: networks that began apart do not average. The third ckd-tiny was such an average.
"""

import argparse
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from duotrack.files import atomic_path


def main() -> None:
    """Read both, check that they are alike, write the average."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second, 0 to 1")
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        parser.error(f"--share is {args.share:g}; it is from 0 to 1")
    if args.out.exists():
        parser.error(f"{args.out} exists; name a new file")
    try:
        with safe_open(args.first, "pt") as first, safe_open(args.second, "pt") as second:
            shapes = [
                {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 -- no dict
                for file in (first, second)
            ]
            if shapes[0] != shapes[1]:
                parser.error(f"{args.first} and {args.second} hold different tensors; give two files of one model")
            mixed = {}
            for name in shapes[0]:
                one, other = first.get_tensor(name), second.get_tensor(name)
                mixed[name] = ((1 - args.share) * one.float() + args.share * other.float()).to(one.dtype)
            about = first.metadata()
    except (OSError, SafetensorError) as error:
        parser.error(f"{error}; give two whole .safetensors files")
    with atomic_path(args.out) as temporary:
        save_file(mixed, temporary, metadata=about)
    print(f"{args.out}: {len(mixed)} tensors, {1 - args.share:g} of {args.first}, {args.share:g} of {args.second}")


if __name__ == "__main__":
    main()
