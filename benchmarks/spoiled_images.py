"""Headers, streams, voxels, masks, labels and maps that are not as they should be."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from mutations import EITHER, EVALS, HARMLESS, REFUSE, SAME, SCANS, Change, Scene, rows


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def put(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)


def rewrite(change: Callable[[bytes, np.random.Generator], bytes], name: str = "") -> Change:
    """Change the bytes of the scan, or of another file, unpacked."""

    def mutate(scene: Scene) -> None:
        path = scene.folder / name if name else scene.scan
        put(path, change(unpacked(path), scene.random))

    return mutate


def packed(change: Callable[[bytes, np.random.Generator], bytes], name: str = "") -> Change:
    """Change the bytes of the scan, or of another file, as they are."""

    def mutate(scene: Scene) -> None:
        path = scene.folder / name if name else scene.scan
        path.write_bytes(change(path.read_bytes(), scene.random))

    return mutate


def header(name: str = "", **fields: Any) -> Change:
    """Set fields of the header; `dim_4` is the fourth of `dim`; a function gets what is there."""

    def change(content: bytes, random: np.random.Generator) -> bytes:
        head = np.frombuffer(content[:348], nib.Nifti1Header.template_dtype).copy()
        for key, value in fields.items():
            array, _, index = key.rpartition("_")
            place = (array, int(index)) if index.isdigit() and array in ("dim", "pixdim") else None
            there = head[0][place[0]][place[1]] if place else head[0][key]
            value = value(there) if callable(value) else value
            with np.errstate(all="ignore"):
                if place:
                    head[place[0]][0, place[1]] = np.array(value).astype(there.dtype)
                else:
                    head[key] = np.array(value).astype(head[key].dtype)
        return head.tobytes() + content[348:]

    return rewrite(change, name)


def voxels(change: Callable[..., Any], name: str = "", dtype: Any = np.float32) -> Change:
    """Change the voxels of an image; the function gets them, its brain and chance."""

    def mutate(scene: Scene) -> None:
        path = scene.folder / name if name else scene.scan
        image = nib.load(path)
        data = np.asarray(image.dataobj).astype(np.float32)
        brain = np.asarray(nib.load(scene.beside("_mask.nii.gz")).dataobj) > 0
        data = np.asarray(change(data, brain, scene.random)).astype(dtype)
        head = image.header.copy()
        head.set_data_dtype(dtype)
        saved = type(image)(data, image.affine, head)
        path.unlink()
        nib.save(saved, path)

    return mutate


def put_at(value: Any, *, volume: Any = slice(None), where: str = "brain", count: int = 1) -> Any:
    """Give `count` voxels of the brain, or of the air, a value."""

    def change(data: Any, brain: Any, random: np.random.Generator) -> Any:
        found = np.argwhere(brain if where == "brain" else ~brain)
        for place in random.permutation(found)[:count]:
            data[(*place, volume) if data.ndim == 4 else tuple(place)] = value
        return data

    return change


def extension(size: int, content: bytes = b"", code: int = 6) -> Callable[..., bytes]:
    """Put a header extension before the voxels, which says that it has `size` bytes."""

    def change(old: bytes, random: np.random.Generator) -> bytes:
        head = np.frombuffer(old[:348], nib.Nifti1Header.template_dtype).copy()
        put_in = np.array([size, code], "<i4").tobytes() + content
        head["vox_offset"] = 352 + len(put_in)
        return head.tobytes() + b"\1\0\0\0" + put_in + old[352:]

    return change


def bomb(before: bool) -> Callable[..., bytes]:
    """Put a gigabyte of zeros before or behind the voxels, a megabyte when packed."""

    def change(old: bytes, random: np.random.Generator) -> bytes:
        zeros = gzip.compress(bytes(1 << 24), 9, mtime=0) * 64
        content = gzip.decompress(old)
        if not before:
            return old + zeros
        start = extension((1 << 30) + 16, bytes(8))(content, random)[:368]
        head = np.frombuffer(start[:348], nib.Nifti1Header.template_dtype).copy()
        head["vox_offset"] = 368 + (1 << 30)
        start = head.tobytes() + start[348:]
        return gzip.compress(start, 1) + zeros + gzip.compress(content[352:], 1)

    return change


def flip(content: bytes, random: np.random.Generator, start: int = 0, end: int = 1 << 40) -> bytes:
    """Flip one to three bits, each of another byte, so that none is flipped back."""
    spoiled = bytearray(content)
    places = range(start, min(end, len(content)))
    for place in random.choice(places, min(random.integers(1, 4), len(places)), replace=False):
        spoiled[place] ^= 1 << random.integers(8)
    return bytes(spoiled)


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content))]


def swapped(content: bytes, random: np.random.Generator) -> bytes:
    """The same image in the other order of bytes."""
    head = np.frombuffer(content[:348], nib.Nifti1Header.template_dtype).byteswap()
    return head.tobytes() + content[348:352] + np.frombuffer(content[352:], "i2").byteswap().data


def members(content: bytes, random: np.random.Generator) -> bytes:
    whole = gzip.decompress(content)
    return b"".join(gzip.compress(whole[at : at + 9999], 1) for at in range(0, len(whole), 9999))


def saved_as(name: str, kind: Any = nib.Nifti1Image, dtype: Any = np.int16) -> Change:
    """Save the scan under another ending, as another class or type of number."""

    def mutate(scene: Scene) -> None:
        image = nib.load(scene.scan)
        data, path = np.asarray(image.dataobj), scene.beside(name)
        saved = kind(data.astype(dtype), image.affine)
        scene.scan.unlink()
        nib.save(saved, path)
        old, new = (str(one.relative_to(scene.folder)) for one in (scene.scan, path))
        scene.words = [new if word == old else word for word in scene.words]

    return mutate


def moved(name: str, content: Callable[[bytes], bytes] = bytes) -> Change:
    """Give the scan another ending, and the line with it."""

    def mutate(scene: Scene) -> None:
        path = scene.beside(name)
        whole = content(scene.scan.read_bytes())
        scene.scan.unlink()
        path.write_bytes(whole)
        old, new = (str(one.relative_to(scene.folder)) for one in (scene.scan, path))
        scene.words = [new if word == old else word for word in scene.words]

    return mutate


_HEADER = (
    (HARMLESS, "descrip", (b"\xff" * 80, b"\0" * 80)),
    (HARMLESS, "intent_code", (9999, -1)),
    (HARMLESS, "toffset", (np.nan, np.inf)),
    (HARMLESS, "cal_max", (np.nan, 1e38)),
    (HARMLESS, "slice_code", (99, 255)),
    (HARMLESS, "dim_info", (255,)),
    (HARMLESS, "scl_slope", (0, 2.0)),
    (HARMLESS, "pixdim_4", (0, -1, np.nan, np.inf)),
    (HARMLESS, "quatern_c", (lambda there: there + 5e-7,)),
    (HARMLESS, "qoffset_x", (lambda there: there + 0.24,)),
    (HARMLESS, "xyzt_units", (0, 2, 10)),
    (REFUSE, "xyzt_units", (1, 3)),
    (SAME, "xyzt_units", (255, 7)),
    (SAME, "scl_slope", (np.nan, np.inf)),
    (REFUSE, "scl_slope", (-1.0,)),
    (EITHER, "scl_slope", (1e-45, 1e38)),
    (REFUSE, "scl_inter", (np.inf, -1e6)),
    (SAME, "scl_inter", (np.nan,)),
    (EITHER, "scl_inter", (100.0, 1e30)),
    (REFUSE, "qoffset_x", (lambda there: there + 500,)),
    (SAME, "qoffset_x", (np.nan, np.inf)),
    (SAME, "quatern_b", (np.nan, 2.0, -1e38)),
    (SAME, "pixdim_0", (0, np.nan, 7, -1)),
    (SAME, "pixdim_1", (0, -8, np.nan, 1e-30)),
    (REFUSE, "srow_x", ((np.nan,) * 4, (0,) * 4, (1e38,) * 4, (-8, 0, 0, 900), (8, 0, 0, 0))),
    (HARMLESS, "sform_code", (0, 4)),
    (HARMLESS, "qform_code", (0, 2)),
    (SAME, "sform_code", (-1, 99)),
    (SAME, "vox_offset", (0, 348, -1, np.nan, np.inf, 3e38, 351.5)),
    (REFUSE, "vox_offset", (354, 352 + 2 * 10500, 1e9)),
    (SAME, "sizeof_hdr", (0, 540, 1543569408, -1)),
    (SAME, "magic", (b"ni1\0", b"n+1 ", b"n+2\0", b"\0" * 4)),
    (SAME, "bitpix", (0, 8, -32)),
    (REFUSE, "datatype", (0, 1, 2, 8, 16, 32, 64, 128, 256, 768, 1024, 1536, 1792, 2304, -1, 9999)),
    (SAME, "datatype", (512,)),
    (REFUSE, "dim_0", (0, 1, 3, 8, -1, 32767)),
    (SAME, "dim_0", (5, 7)),
    (REFUSE, "dim_1", (0, -1, 32767, lambda there: there - 1, lambda there: there + 1)),
    (REFUSE, "dim_3", (0, -20, 1)),
    (REFUSE, "dim_4", (0, 1, -18, 32767, 17, 19)),
    (REFUSE, "dim_5", (lambda _: 32767,)),
)


def _header_rows() -> Iterable[tuple[str, str, Change]]:
    for right, field_, values in _HEADER:
        for number, value in enumerate(values):
            name = f"{field_} [{number}]" if callable(value) else f"{field_} = {value}"
            more = {"dim_0": 5} if field_ == "dim_5" else {}
            yield right, name, header(**more, **{field_: value})
    yield HARMLESS, "dim_0 = 5, dim_5 = 1", header(dim_0=5, dim_5=1)
    yield REFUSE, "10^12 volumes", header(dim_0=6, dim_4=30000, dim_5=30000, dim_6=1200)
    yield REFUSE, "no orientation", header(qform_code=0, sform_code=0)
    yield EITHER, "any bits", rewrite(partial(flip, end=348))
    yield EITHER, "noise", rewrite(lambda old, random: random.bytes(348) + old[348:])


rows("header", SCANS, _header_rows())
_ESIZES = (0, 7, -16, 8, 24, 2**31 - 16, -(2**31))
rows(
    "extensions",
    SCANS,
    [
        (HARMLESS, "a comment", rewrite(extension(32, b"a comment".ljust(24)))),
        *((SAME, f"size {n}", rewrite(extension(n, bytes(8)))) for n in _ESIZES),
        (SAME, "reaches beyond the voxels", rewrite(extension(1 << 20, bytes(8)))),
        (SAME, "not XML", rewrite(extension(32, b"\xff" * 24, code=4))),
        (
            SAME,
            "100,000 of them",
            rewrite(extension(16, (bytes(8) + b"\x10\0\0\0\6\0\0\0") * 10**5)),
        ),
        (SAME, "of a gigabyte", packed(bomb(before=True))),
        (SAME, "flag without any", rewrite(lambda old, _: old[:348] + b"\1\0\0\0" + old[352:])),
    ],
)
rows(
    "stream",
    SCANS,
    [
        (REFUSE, "cut", packed(cut)),
        (REFUSE, "cut within", rewrite(cut)),
        (REFUSE, "bits of the packed voxels", packed(partial(flip, start=400))),
        (SAME, "bits of the gzip header", packed(partial(flip, end=10))),
        (
            REFUSE,
            "bits of the checksum",
            packed(lambda old, r: old[:-8] + flip(old[-8:-4], r) + old[-4:]),
        ),
        (EITHER, "bits of the voxels", rewrite(partial(flip, start=352))),
        (HARMLESS, "many members", packed(members)),
        (HARMLESS, "zeros behind the members", packed(lambda old, _: old + bytes(512))),
        (SAME, "noise behind the members", packed(lambda old, r: old + r.bytes(100))),
        (SAME, "bytes behind the voxels", rewrite(lambda old, r: old + r.bytes(1000))),
        (SAME, "a gigabyte behind", packed(bomb(before=False))),
        (REFUSE, "empty", packed(lambda *_: b"")),
        (REFUSE, "packed nothing", rewrite(lambda *_: b"")),
        (REFUSE, "text", packed(lambda *_: b"version https://git-lfs.github.com/spec/v1\n")),
        (REFUSE, "noise", packed(lambda old, r: r.bytes(len(old)))),
        (REFUSE, "zeros", rewrite(lambda old, _: bytes(len(old)))),
        (SAME, "not packed, by its name", packed(lambda old, _: gzip.decompress(old))),
        (SAME, "packed twice", packed(lambda old, _: gzip.compress(old))),
        (SAME, "zlib", packed(lambda old, _: zlib.compress(gzip.decompress(old)))),
        (HARMLESS, "the other order of bytes", rewrite(swapped)),
        (HARMLESS, ".nii", moved(".nii", gzip.decompress)),
        (HARMLESS, ".NII.GZ", moved(".NII.GZ")),
        (SAME, ".nii, packed", moved(".nii")),
        (REFUSE, ".nii, cut", moved(".nii", lambda old: gzip.decompress(old)[:-100])),
        (SAME, ".nii, longer", moved(".nii", lambda old: gzip.decompress(old) + b"x" * 100)),
        (SAME, ".hdr and .img", saved_as(".img", nib.Nifti1Pair)),
        (SAME, "Analyze", saved_as(".img", nib.Spm2AnalyzeImage)),
        (SAME, "MGH", saved_as(".mgz", nib.MGHImage)),
        (HARMLESS, "NIfTI-2", saved_as(".nii.gz", nib.Nifti2Image)),
        *(
            (HARMLESS, f"as {kind}", saved_as(".nii.gz", dtype=np.dtype(kind)))
            for kind in ("f4", "f8", "i4", ">i2", ">f4", "u2")
        ),
        (REFUSE, "as complex numbers", saved_as(".nii.gz", dtype=np.dtype("c8"))),
    ],
)


def volume_last(data: Any, brain: Any, random: Any) -> Any:
    return np.concatenate([data[..., 1:], data[..., :1]], axis=-1)


rows(
    "values",
    SCANS,
    [
        (REFUSE, "one of 1e9", voxels(put_at(1e9, volume=5))),
        (REFUSE, "a voxel of 1e20", voxels(put_at(1e20))),
        (REFUSE, "three of 1e7", voxels(put_at(1e7, volume=3, count=3))),
        (REFUSE, "NaN", voxels(put_at(np.nan, volume=4))),
        (REFUSE, "infinity", voxels(put_at(-np.inf, volume=0))),
        (REFUSE, "one of 3e38", voxels(put_at(3e38, volume=7))),
        (HARMLESS, "NaN in the air", voxels(put_at(np.nan, where="air", count=50))),
        (HARMLESS, "1e20 in the air", voxels(put_at(1e20, where="air", count=50))),
        (REFUSE, "nothing", voxels(lambda data, *_: 0 * data)),
        (REFUSE, "a constant", voxels(lambda data, *_: 0 * data + 7)),
        (REFUSE, "an empty volume", voxels(lambda data, *_: data * (np.arange(18) != 3))),
        (REFUSE, "an empty b=0 volume", voxels(lambda data, *_: data * (np.arange(18) != 0))),
        (REFUSE, "negative", voxels(lambda data, *_: -data)),
        (REFUSE, "b=0 stored last", voxels(volume_last)),
        (REFUSE, "volumes in reverse", voxels(lambda data, *_: data[..., ::-1])),
        (HARMLESS, "times 1024", voxels(lambda data, *_: data * 1024)),
        (EITHER, "times 1e30", voxels(lambda data, *_: data * 1e30)),
        (EITHER, "times 1e-30", voxels(lambda data, *_: data * 1e-30)),
        (EITHER, "times 1e-44", voxels(lambda data, *_: data * 1e-44)),
        (EITHER, "noise", voxels(lambda data, _, r: r.gamma(2, 9, data.shape))),
        (EITHER, "whole numbers 0 and 1", voxels(lambda data, *_: data > data.mean())),
        (EITHER, "minus 2000", voxels(lambda data, *_: data - data.mean() / 2)),
    ],
)


# --- Masks and labels


def blurred(data: Any, *_: Any) -> Any:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter((data > 0).astype(float), 1.0)
    return smooth / smooth.max()


def edge_on(name: str) -> Iterable[tuple[str, str, Change]]:
    """What may be wrong with any image of 0 and 1."""
    return [
        (HARMLESS, "as f8", voxels(lambda data, *_: data, name, np.float64)),
        (HARMLESS, "a fourth axis of 1", voxels(lambda data, *_: data[..., None], name)),
        (SAME, "0 and 255", voxels(lambda data, *_: data * 255, name, np.uint8)),
        (SAME, "0 and 0.2", voxels(lambda data, *_: data * 0.2, name)),
        (SAME, "splines", voxels(lambda data, _, r: data + r.normal(0, 0.03, data.shape), name)),
        (REFUSE, "percent", voxels(lambda data, *_: 100 * blurred(data), name)),
        (REFUSE, "empty", voxels(lambda data, *_: 0 * data, name)),
        (REFUSE, "NaN", voxels(lambda data, *_: np.nan * data, name)),
        (SAME, "NaN outside", voxels(lambda data, *_: np.where(data > 0, data, np.nan), name)),
        (REFUSE, "negative", voxels(lambda data, *_: -data, name)),
        (REFUSE, "two volumes", voxels(lambda data, *_: np.stack([data, data], -1), name)),
        (REFUSE, "two axes", voxels(lambda data, *_: data[..., 9], name)),
        (REFUSE, "turned", voxels(lambda data, *_: data.transpose(2, 1, 0), name)),
        (REFUSE, "another grid", header(name, srow_x=(-8, 0, 0, 60))),
        (REFUSE, "metres", header(name, xyzt_units=1)),
        (REFUSE, "colours", header(name, datatype=128)),
        (REFUSE, "cut", packed(cut, name)),
        (REFUSE, "noise", packed(lambda old, r: r.bytes(len(old)), name)),
        (EITHER, "any bits of the header", rewrite(partial(flip, end=348), name)),
    ]


def of_scan(change: Callable[[str], Change], ending: str = "_mask.nii.gz") -> Change:
    def mutate(scene: Scene) -> None:
        change(str(scene.beside(ending).relative_to(scene.folder)))(scene)

    return mutate


def _mask_rows() -> Iterable[tuple[str, str, Change]]:
    # The same rows for every scan's own mask: each is made anew when it is known whose it is.
    for number, (right, name, _) in enumerate(edge_on("")):
        yield right, name, of_scan(lambda file, number=number: list(edge_on(file))[number][2])
    for right, name, change in (
        (REFUSE, "air", lambda data, *_: 1 - data),
        (
            REFUSE,
            "one voxel",
            lambda data, *_: put_at(1)(0 * data, data > 0, np.random.default_rng()),
        ),
        (EITHER, "everything", lambda data, *_: 0 * data + 1),
        (EITHER, "probabilities", blurred),
    ):
        yield right, name, of_scan(lambda file, change=change: voxels(change, file))
    yield (
        REFUSE,
        "lesions",
        lambda s: s.beside("_mask.nii.gz").write_bytes((s.folder / "lesions.nii.gz").read_bytes()),
    )


rows("masks", SCANS, _mask_rows())
rows("labels", EVALS, edge_on("lesions.nii.gz"))
rows("region", ("eval within",), edge_on("white_matter.nii.gz"))
rows(
    "labels",
    EVALS,
    [
        (REFUSE, "probabilities", voxels(blurred, "lesions.nii.gz")),
        (REFUSE, "a segmentation", voxels(lambda data, *_: 2 + 75 * data, "lesions.nii.gz")),
        (
            REFUSE,
            "three classes",
            voxels(
                lambda data, *_: data * (1 + data.cumsum().reshape(data.shape) % 3),
                "lesions.nii.gz",
            ),
        ),
        (REFUSE, "everything", voxels(lambda data, *_: 0 * data + 1, "lesions.nii.gz")),
        (
            REFUSE,
            "outside the mask",
            voxels(lambda data, b, r: put_at(1, where="air")(0 * data, b, r), "lesions.nii.gz"),
        ),
    ],
)
rows(
    "maps",
    EVALS,
    [
        (REFUSE, "NaN", voxels(put_at(np.nan), "novelty.nii.gz")),
        (HARMLESS, "NaN outside", voxels(put_at(np.nan, where="air"), "novelty.nii.gz")),
        (REFUSE, "infinity", voxels(put_at(np.inf), "novelty.nii.gz")),
        (EITHER, "a constant", voxels(lambda data, *_: 0 * data + 1, "novelty.nii.gz")),
        (REFUSE, "two volumes", voxels(lambda x, *_: np.stack([x, x], -1), "novelty.nii.gz")),
        (REFUSE, "another grid", header("novelty.nii.gz", srow_x=(-8, 0, 0, 60))),
        (REFUSE, "cut", packed(cut, "novelty.nii.gz")),
        (REFUSE, "an empty mask", voxels(lambda data, *_: 0 * data, "novelty_mask.nii.gz")),
        (REFUSE, "no mask", lambda s: (s.folder / "novelty_mask.nii.gz").unlink()),
        (EITHER, "any bits of the header", rewrite(partial(flip, end=348), "novelty.nii.gz")),
        (EITHER, "1e38", voxels(put_at(3e38), "novelty.nii.gz")),
    ],
)  # fmt: skip
