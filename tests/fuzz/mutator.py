"""Changes an input with knowledge of the structure of images.

A change keeps the structure valid where it can. Numbers become other offsets in the image, its size, or a
limit. Magic numbers are written at the offsets where readers look for them. Data at the end stays there when
the size changes. In half of the runs the checksums are repaired afterwards.
"""

from collections.abc import Callable
from random import Random

from keyhole.builders import Image
from tests.fuzz.checksums import repaired
from tests.fuzz.sparse_input import OFFSETS, SparseInput, image_of

#: Changes bytes in place, such as libFuzzer's own function, which uses values that the code has compared.
ChangeBytes = Callable[[bytes, Random], bytes]

KIB, MIB = 1024, 1024**2
#: Bytes within this distance of the end stay at the end when the size changes.
TAIL = 64 * KIB
#: How many bytes a function that changes bytes receives at once.
WINDOW = 48
#: The offsets at which readers look for magic numbers and identifiers. Negative offsets are from the end.
MARKS: tuple[tuple[int, bytes], ...] = (
    (0, b"QFI\xfb\0\0\0\1"),
    (0, b"QFI\xfb\0\0\0\2"),
    (0, b"QFI\xfb\0\0\0\3"),
    (0, b"QED\0"),
    (0, b"KDMV\3\0\0\0"),
    (0, b"COWD\1\0\0\0"),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0\1\0\2\0\0\0\0\0"),
    (0, b"# Disk DescriptorFile\n"),
    (64, b"\x7f\x10\xda\xbe\1\0\1\0"),
    (0, b"vhdxfile"),
    (64 * KIB, b"head"),
    (192 * KIB, b"regi"),
    (2 * MIB, b"metadata"),
    (0, b"conectix"),
    (-512, b"conectix"),
    (-511, b"conectix"),
    (512, b"cxsparse"),
    (1536, b"cxsparse"),
    (0, b"WithoutFreeSpace\2\0\0\0"),
    (0, b"WithouFreSpacExt\2\0\0\0"),
    (0, b"LUKS\xba\xbe\0\1"),
    (0, b"LUKS\xba\xbe\0\2"),
    (16 * KIB, b"SKUL\xba\xbe\0\2"),
    (0, b"Bochs Virtual HD Image".ljust(32, b"\0") + b"Redolog".ljust(16, b"\0") + b"Growing"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
    (0, b"sprs\0\0\0\3"),
    (0, b"shdw\0\0\0\1"),
    (0, b"EVF\x09\r\n\xff\0\1\1\0\0\0"),
    (0, b"EVF2\r\n\x81\0"),
    (-512, b"koly\0\0\0\4\0\0\2\0"),
    (257, b"ustar\x0000"),
    (257, b"ustar  \0"),
    (156, b"5"),
    (156, b"L"),
    (156, b"S"),
    (156, b"g"),
    (156, b"x"),
    (0, b"PK\3\4\24\0"),
    (-22, b"PK\5\6\0\0\0\0\1\0\1\0"),
    (-42, b"PK\6\7\0\0\0\0"),
    (0, b"\x04\x22\x4d\x18"),
    (0, b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0"),
    (510, b"\x55\xaa"),
    (446 + 4, b"\xee"),
    (512, b"EFI PART\0\0\1\0\x5c\0\0\0"),
    (4096, b"EFI PART\0\0\1\0\x5c\0\0\0"),
    (32 * KIB, b"\1CD001\1"),
    (34 * KIB, b"\0CD001\1EL TORITO SPECIFICATION"),
    (34 * KIB, b"\2CD001\1"),
    (36 * KIB, b"\xffCD001\1"),
    (34 * KIB, b"\0BEA01\1"),
    (36 * KIB, b"\0NSR02\1"),
    (36 * KIB, b"\0NSR03\1"),
    (38 * KIB, b"\0TEA01\1"),
    (512 * KIB, b"\2\0\2\0"),
)
#: Words from the texts in images: VMDK descriptors, LUKS2 metadata, OVFs.
WORDS: tuple[bytes, ...] = (
    *(b'RW 9 FLAT "a" 0\n', b'RW 9 VMFS "a"\n', b"RW 9 ZERO\n", b"RDONLY ", b"NOACCESS "),
    *(b'createType="', b'parentFileNameHint="', b"parentCID=", b"CID=", b"version=", b'changeTrackPath="'),
    *(b"monolithicSparse", b"streamOptimized", b"twoGbMaxExtentFlat", b"vmfsSparse", b"seSparse", b"custom"),
    *(b'"', b"\n", b"\0", b"{", b"}", b"[", b"]", b"null", b"true", b"-1", b"1e999", b"NaN", b"9" * 20),
    *(b'"dynamic"', b'"segments"', b'"keyslots"', b'"config"', b'"json_size"', b'"keyslots_size"'),
    *(b'"offset"', b'"size"', b'"requirements"', b'"mandatory"', b'"integrity"', b'"type"', b'"flags"'),
    *(
        b'ovf:href="',
        b'ovf:fileRef="',
        b'ovf:capacity="',
        b"<File ",
        b"</References>",
        b"<!DOCTYPE a>",
        b"%2e%2e/",
    ),
    *(b'"area"', b'"\\ud800"', b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[2J", b"../", b"json:{", b"nbd://h/"),
)


def mutate(given: SparseInput, choose: Random, others: tuple[Image, ...], change: ChangeBytes) -> SparseInput:
    """Return the input with one to four changes.

    Args:
        given: The input to change.
        choose: Chooses the changes. The same choices give the same input.
        others: Images from which pieces can be copied.
        change: Changes short runs of bytes, without knowledge of their structure.
    """
    image, steer, seed = given.image, given.steer, given.seed
    for _ in range(choose.choice([1, 1, 2, 4])):
        image = choose.choice(CHANGES)(image, choose, others, change)
    if choose.random() < 0.3:
        steer, seed = choose.randrange(256), choose.randrange(1 << 32)
    return SparseInput(repaired(image) if choose.random() < 0.5 else image, steer, seed)


def simple_change(data: bytes, choose: Random) -> bytes:
    """Change one byte or one bit, or write a run of equal bytes."""
    changed = bytearray(data)
    at = choose.randrange(len(changed))
    if choose.random() < 0.5:
        changed[at] ^= 1 << choose.randrange(8)
    elif choose.random() < 0.5:
        changed[at] = choose.randrange(256)
    else:
        changed[at : at + 8] = bytes([choose.choice([0, 0xFF, 0x7F, 0x80])]) * len(changed[at : at + 8])
    return bytes(changed)


def _bytes(image: Image, choose: Random, _others: tuple[Image, ...], change: ChangeBytes) -> Image:
    at = _place(image, choose)
    window = image.read(at, choose.choice([4, 8, 16, WINDOW]))
    return _written(image, at, change(window, choose)[: len(window)]) if window else image


def _number(image: Image, choose: Random, _others: tuple[Image, ...], _change: ChangeBytes) -> Image:
    """Set a field to an offset in the image, the image's size, a neighbouring number, or a limit."""
    width, order = choose.choice([1, 2, 4, 4, 8, 8]), choose.choice(["little", "big"])
    at = _place(image, choose) // width * width
    before = int.from_bytes(image.read(at, width), order)  # type: ignore[arg-type] # one of the two
    places = [image.size, before, *(place for place, _ in image.pieces)]
    value = choose.choice(
        [
            *(0, 1, 2, 3, before + 1, before - 1, before * 2, before // 2, -1),
            1 << choose.randrange(8 * width),
            (1 << choose.randrange(8 * width)) - 1,
            choose.choice(places) + choose.choice([-1, 0, 0, 0, 1, 512]),
            choose.choice(places) // choose.choice([512, 4096, MIB]),
            choose.choice(places) // 512 + choose.choice([-1, 1]),
        ]
    )
    return _written(image, at, (value % (1 << 8 * width)).to_bytes(width, order))  # type: ignore[arg-type]


def _size(image: Image, choose: Random, _others: tuple[Image, ...], _change: ChangeBytes) -> Image:
    """Truncate or extend the image. In half of the runs, the data at the end stays at the end."""
    ends = [0, image.size, *(at for at, _ in image.pieces), *(at + len(data) for at, data in image.pieces)]
    size = choose.choice(
        [
            choose.choice(ends) + choose.choice([-512, -1, 0, 1, 511, 512, 4096, MIB]),
            choose.choice(ends) // 512 * 512,
            image.size * 2,
            1 << choose.randrange(46),
            choose.randrange(image.size + 1),
        ]
    )
    size = min(max(0, size), OFFSETS)
    tail = max(0, image.size - TAIL) if choose.random() < 0.5 else image.size
    moved = [(at + size - image.size if at >= tail else at, data) for at, data in image.pieces]
    return image_of(size, [(at, data) for at, data in moved if at >= 0])


def _mark(image: Image, choose: Random, _others: tuple[Image, ...], _change: ChangeBytes) -> Image:
    at, mark = choose.choice(MARKS)
    if choose.random() < 0.2:
        return _written(image, _place(image, choose), mark)
    return _written(image, at if at >= 0 else image.size + at, mark)


def _word(image: Image, choose: Random, _others: tuple[Image, ...], _change: ChangeBytes) -> Image:
    """Write a word into a text, either over the old bytes or by insertion before them."""
    texts = [piece for piece in image.pieces if piece[1][:512].count(b"\n") > 2 or b'":' in piece[1][:512]]
    if not texts:
        return image
    at, data = choose.choice(texts)
    within, word = choose.randrange(min(len(data), 2048)), choose.choice(WORDS)
    after = within + choose.choice([0, 1, len(word)])
    return image_of(image.size, [(at, data[:within] + word + data[after:]), *_without(image, at)])


def _copy(image: Image, choose: Random, others: tuple[Image, ...], _change: ChangeBytes) -> Image:
    """Copy a piece of this or another image to the same or another offset."""
    donor = choose.choice([image, *others[:1], choose.choice(others)]) if others else image
    if not donor.pieces:
        return image
    at, data = choose.choice(donor.pieces)
    return _written(
        image, choose.choice([at, at, _place(image, choose)]), data[: choose.choice([16, 512, 8192])]
    )


def _drop(image: Image, choose: Random, _others: tuple[Image, ...], _change: ChangeBytes) -> Image:
    if len(image.pieces) < 2:
        return image
    return Image(image.size, tuple(_without(image, choose.choice(image.pieces)[0])))


CHANGES = (_bytes, _bytes, _bytes, _number, _number, _number, _size, _mark, _word, _copy, _drop)


def _place(image: Image, choose: Random) -> int:
    """Return an offset in a piece, more often near its beginning."""
    if not image.pieces:
        return choose.choice([0, 0, 512, 32 * KIB])
    at, data = choose.choice(image.pieces)
    return at + choose.randrange(min(len(data), choose.choice([16, 128, 1024, 1 << 20])))


def _written(image: Image, at: int, data: bytes) -> Image:
    """Return the image with `data` written at an offset, truncated at the image's end."""
    data = data[: max(0, image.size - at)]
    return image.patched(at, data) if data and at >= 0 else image


def _without(image: Image, offset: int) -> list[tuple[int, bytes]]:
    return [piece for piece in image.pieces if piece[0] != offset]
