"""Whole volumes without a partition table, and evidence files."""

from tests.corpus.recipe import Recipe, recipes
from tests.inspectors.volumes.made import MADE

#: Volumes with another verdict, by name: some must not be imported as they are, and some do not state their
#: length, so nothing proves that they are whole.
VERDICTS = {
    "luks 1": "rejected:encrypted",
    "luks 2": "rejected:encrypted",
    "gfs2": "inconclusive:wholeness_unchecked",
    "bcache's backing device": "inconclusive:wholeness_unchecked",
}
FORMATS = {"crypto_LUKS": "luks"}
BY_MKFS = tuple(
    Recipe(
        f"{made.command.split()[0]}: {made.name}",
        FORMATS.get(made.kind, "raw"),
        (f"truncate -s {made.size} image\n" if made.size else "")
        + made.command.format(image="image", tree="$PARTS/tree", key="$PARTS/key"),
        (made.command.split()[0],),
        (made.kind,),
        VERDICTS.get(made.name, "safe"),
    )
    for made in MADE
)
WITH_FILES = (
    *recipes(
        "mke2fs",
        "raw",
        [
            ("ext4 with files", "mke2fs -q -t ext4 -d $PARTS/tree image 16M"),
            ("ext4, verity, encrypt", "mke2fs -q -t ext4 -O verity,encrypt,casefold image 16M"),
            ("ext4, inline data", "mke2fs -q -t ext4 -O inline_data,orphan_file image 16M"),
            (
                "ext4 of 1 TiB",
                "truncate -s 1T image\nmke2fs -q -t ext4 -E lazy_itable_init=1 -G 4096 image",
            ),
        ],
        content=("ext4",),
    ),
    *recipes("genext2fs", "raw", [("a tree", "genext2fs -b 4096 -d $PARTS/tree image")], content=("ext2",)),
    *recipes(
        "mksquashfs",
        "raw",
        [
            (packer, f"mksquashfs $PARTS/tree image -quiet -no-progress -comp {packer}")
            for packer in ("gzip", "xz", "zstd", "lz4", "lzo")
        ],
        content=("squashfs",),
    ),
    *recipes("mkfs.erofs", "raw", [("lz4hc", "mkfs.erofs -zlz4hc image $PARTS/tree")], content=("erofs",)),
    *recipes(
        "mkfs.btrfs",
        "raw",
        [
            ("mixed", "truncate -s 64M image\nmkfs.btrfs -q --mixed image"),
            ("a tree", "truncate -s 128M image\nmkfs.btrfs -q -r $PARTS/tree image"),
        ],
        content=("btrfs",),
    ),
    *recipes("mkswap", "raw", [("a label", "truncate -s 8M image\nmkswap -L swap image")], content=("swap",)),
    *recipes(
        "mkfs.xfs",
        "raw",
        [
            ("reflink, bigtime", "truncate -s 300M image\nmkfs.xfs -q -m reflink=1,bigtime=1 image"),
            ("blocks of 1 KiB", "truncate -s 300M image\nmkfs.xfs -q -b size=1024 image"),
        ],
        content=("xfs",),
    ),
)
EVIDENCE = tuple(
    Recipe(
        f"ewfacquire: {kind}",
        "ewf",
        f"ewfacquire -q -u -c {level} -f {kind} -t out $PARTS/disk.raw >/dev/null\nmv out.* image",
        ("ewfacquire",),
    )
    for kind, level in (
        ("encase1", "none"),
        ("encase2", "fast"),
        ("encase3", "best"),
        ("encase4", "none"),
        ("encase5", "fast"),
        ("encase6", "deflate:none"),
        ("encase7", "deflate:fast"),
        ("linen5", "fast"),
        ("linen6", "fast"),
        ("linen7", "fast"),
        ("ftk", "fast"),
        ("smart", "fast"),
        ("ewfx", "fast"),
    )
)
RECIPES = (*BY_MKFS, *WITH_FILES, *EVIDENCE)
