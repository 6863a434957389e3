"""The example that gathers pictures from packages: what it takes out of archives, and what it leaves."""

import csv
import importlib.util
import io
import json
import struct
import sys
import tarfile
import zipfile
from pathlib import Path, PurePath
from types import ModuleType

import numpy as np
import pytest

from duotrack.datasets.simulation.classes import kind_of

Image = pytest.importorskip("PIL.Image", reason="Pillow comes with the extra [eval]")

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "gather_free_pictures.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gather_free_pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def coded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **({"lossless": True} if form == "WEBP" else {}))
    return out.getvalue()


def scenery(seed: int = 0, height: int = 300, width: int = 1600) -> np.ndarray:
    return (
        np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    )


def disc(side: int = 200, radius: float = 60, parts: int = 1) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    alpha = np.zeros((side, side), bool)
    for k in range(parts):
        alpha |= (x - side * (k + 0.5) / parts) ** 2 + (y - side / 2) ** 2 < radius**2
    colour = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    return np.dstack([colour, alpha.astype(np.uint8) * 255])


def rcc(files: dict[str, bytes], *, claimed: int | None = None) -> bytes:
    """A Qt resource file, version 1, of one flat folder."""
    names, data, nodes = b"", b"", []
    for name, content in sorted(files.items()):
        nodes.append((len(names), 0, len(data)))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        data += struct.pack(">I", len(content) if claimed is None else claimed) + content
    tree = struct.pack(">IHII", 0, 2, len(nodes), 1)
    for name_at, flags, data_at in nodes:
        tree += struct.pack(">IHHHI", name_at, flags, 0, 0, data_at)
    at = 20
    return b"qres" + struct.pack(">4I", 1, at, at + len(tree), at + len(tree) + len(data)) + tree + data + names


def test_resources_of_qt_are_read(script: ModuleType) -> None:
    files = {"a.png": b"first", "b.png": b"second, longer"}
    assert dict(script.resources(rcc(files))) == files
    assert list(script.resources(b"no resource")) == []


@pytest.mark.parametrize(
    ("pixels", "kept"),
    [
        (scenery(), True),
        (np.full((300, 400, 3), 90, np.uint8), False),  # one tone
        (np.linspace(0, 255, 400).astype(np.uint8)[None, :, None].repeat(300, 0).repeat(3, 2), False),  # gradient
        (scenery(height=100), False),  # too small
        (np.dstack([scenery(), np.zeros((300, 1600), np.uint8)]), False),  # holes
    ],
)
def test_what_is_a_photograph(script: ModuleType, pixels: np.ndarray, kept: bool) -> None:
    done = script.photograph(script.read_picture(coded(pixels)))
    assert (done is not None) == kept
    assert done is None or max(done.shape[:2]) == 1280


@pytest.mark.parametrize(
    ("pixels", "kept"),
    [
        (disc(), True),
        (disc(800, 300), True),
        (disc(parts=2, radius=45), False),  # two objects
        (np.dstack([scenery(), np.full((300, 1600), 255, np.uint8)]), False),  # a full rectangle
        (disc(radius=10), False),  # too small
        (np.zeros((50, 50, 4), np.uint8), False),  # nothing
    ],
)
def test_what_is_a_cutout(script: ModuleType, pixels: np.ndarray, kept: bool) -> None:
    done = script.cutout(script.read_picture(coded(pixels)))
    assert (done is not None) == kept
    if done is not None:
        assert max(done.shape[:2]) <= 320
        assert (done[0] > 127).any()
        assert (done[-1, :, 3] > 127).any()


def test_hidden_colours_do_not_bleed(script: ModuleType) -> None:
    picture = np.zeros((640, 640, 4), np.uint8)
    picture[...] = (0, 255, 0, 0)  # green where nothing is to be seen
    picture[100:541, 100:541] = (255, 0, 0, 255)
    small = script.shrink(picture, 317)
    assert small[small[..., 3] > 0][:, 1].max() < 8


@pytest.mark.parametrize("content", [b"", b"no picture", coded(scenery())[:200], b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_damaged_pictures_are_left_out(script: ModuleType, content: bytes) -> None:
    assert script.read_picture(content) is None


def test_a_picture_that_declares_too_much_is_not_decoded(script: ModuleType) -> None:
    header = coded(scenery())
    huge = header[:16] + struct.pack(">II", 60000, 60000) + header[24:]
    assert script.read_picture(huge) is None


def test_a_whole_run_from_packages_at_hand(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    (cache / "npm" / "thing-1.0").mkdir(parents=True)
    with tarfile.open(cache / "npm" / "thing-1.0" / "thing.tgz", "w:gz") as archive:
        for name, content in {
            "package/photos/street.png": coded(scenery(1)),
            "package/photos/again.webp": coded(scenery(1), "WEBP"),
            "package/photos/logo.png": coded(scenery(2)),
            "../../../outside.png": coded(scenery(3)),
            "package/all.rcc": rcc({"cat.png": coded(disc())}),
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    (cache / "pypi" / "wheel-2.0").mkdir(parents=True)
    with zipfile.ZipFile(cache / "pypi" / "wheel-2.0" / "wheel.whl", "w") as wheel:
        wheel.writestr("wheel/tree.png", coded(scenery(4)))
    picks = [{"folder": "photos", "take": r"\.(png|webp)$", "leave": "logo|rcc"}]
    sources = [
        {
            "registry": "npm",
            "name": "thing",
            "version": "1.0",
            "licence": "CC0",
            "picks": [*picks, {"folder": "cutouts/drawn", "take": "rcc"}],
        },
        {"registry": "pypi", "name": "wheel", "version": "2.0", "licence": "MIT", "picks": picks},
    ]
    monkeypatch.setattr(script.Path, "read_text", lambda self, **_: json.dumps(sources))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(out), "--cache", str(cache)])
    script.main()
    with open(out / "sources.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == [
        "../../../outside.png",
        "package/all.rcc/cat.png",
        "package/photos/street.png",  # and not again.webp, which looks the same
        "wheel/tree.png",
    ]
    assert {(row["licence"], row["stated"]) for row in rows} == {("CC0", "package"), ("MIT", "package")}
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.suffix in (".jpg", ".png"))
    assert written == sorted(row["file"] for row in rows)
    assert not list(tmp_path.rglob("outside.png"))


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: thing

Files: *
Copyright: 2000 Everybody
License: GPL-2+

Files: images/*.svg images/cat?.jpg
       images/dog.jpg
Copyright: 2001, Ann <a@example.org>
           2002, Bob
License: CC-BY-3.0
Comment: https://example.org

Files: images/cat7.jpg
Copyright: Eve
License: public-domain
 No terms.
 .
 None at all.

Files: 16.04/same.jpg
Copyright: Ann
License: CC0-1.0

Files: 20.04/same.jpg
Copyright: Ann
License: CC-BY-4.0

License: CC-BY-3.0
 Long text.
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("images/dog.webp", ("CC-BY-3.0", "2001, Ann <a@example.org>; 2002, Bob")),
        ("images/cat1.webp", ("CC-BY-3.0", "2001, Ann <a@example.org>; 2002, Bob")),
        ("images/cat7.webp", ("public-domain", "Eve")),  # the last that fits
        ("elsewhere/dog.png", ("CC-BY-3.0", "2001, Ann <a@example.org>; 2002, Bob")),  # moved
        ("same.jpg", None),  # which of the two?
        ("16.04/same.jpg", ("CC0-1.0", "Ann")),
        ("images/bird.png", None),  # only the package's terms
        ("deep/images/cat1.png", None),
    ],
)
def test_what_is_stated_of_a_file(script: ModuleType, path: str, found: tuple[str, str] | None) -> None:
    terms = script.stated(path, script.terms_of(COPYRIGHT))
    assert (terms and (terms.licence, terms.holder)) == found


def test_free_text_says_nothing_of_files(script: ModuleType) -> None:
    assert script.terms_of("This package was debianized by ...\n\nFiles: a.png\nLicense: none\n") == []
    assert script.terms_of("") == []


def test_a_second_run_adds_to_the_sources(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    names = {"one": "Costumes/Animals/rex.png", "two": "img/tree.png"}
    for number, (name, path) in enumerate(names.items()):
        (tmp_path / "cache" / "debian" / f"{name}-1.0").mkdir(parents=True)
        with tarfile.open(tmp_path / "cache" / "debian" / f"{name}-1.0" / "it.tgz", "w:gz") as archive:
            picture = coded(disc(200 + 20 * number, 60 + 10 * number))
            copyright = f"Format: x\n\nFiles: {path}\nCopyright: Ann\nLicense: CC0-1.0\n".encode()
            for member, content in (
                (f"usr/share/{name}/{path}", picture),
                (f"usr/share/doc/{name}/copyright", copyright if name == "one" else b"free"),
            ):
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    common = {
        "registry": "debian",
        "version": "1.0",
        "licence": "GPL-2+",
        "picks": [{"folder": "cutouts", "take": "."}],
    }
    sources = [
        {"name": "one", "root": "share/one/", "kinds": {"animals": "/Animals/"}, **common},
        {"name": "two", **common},
    ]
    monkeypatch.setattr(script.Path, "read_text", lambda self, **_: json.dumps(sources))

    def rows(*only: str) -> dict[str, tuple[str, ...]]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(out), "--cache", str(tmp_path / "cache"), "--only", *only])
        script.main()
        with open(out / "sources.csv", newline="", encoding="utf-8") as file:
            return {
                row["package"]: tuple(row[key] for key in ("file", "licence", "holder", "stated"))
                for row in csv.DictReader(file)
            }

    first = rows("one")
    assert first["debian:one"][0].startswith("cutouts/animals/one_rex_")
    assert first["debian:one"][1:] == ("CC0-1.0", "Ann", "file")
    old = (out / "sources.csv").read_bytes().replace(b"Ann", b"Somebody")
    (out / "sources.csv").write_bytes(old)
    both = rows("two")
    assert both["debian:one"][1:] == ("CC0-1.0", "Somebody", "file")  # kept as it was
    assert both["debian:two"][1:] == ("GPL-2+", "", "package")
    assert rows("one", "two") == {**both, **first}  # replaced, not doubled
    assert len((out / "sources.csv").read_bytes().splitlines()) == 3


def test_what_is_not_listed_is_refused(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), "--only", "nothing"])
    with pytest.raises(SystemExit, match="no package nothing"):
        script.main()


def test_the_list_says_where_and_on_which_terms() -> None:
    sources = json.loads(SCRIPT.with_name("free_pictures.json").read_text(encoding="utf-8"))
    table = (SCRIPT.parent.parent / "docs" / "models" / "ckd-tiny-sources.md").read_text(encoding="utf-8")
    for source in sources:
        assert source["version"] in table
        assert source["licence"]
        assert source["name"].removesuffix("-20.04").removesuffix("-16.04") in table
        assert "NC" not in source["licence"]
        for kind in source.get("kinds", {}):  # folders that the simulation takes for a class
            assert kind_of(PurePath(kind, "1.png")) != "thing" or kind == "things"
