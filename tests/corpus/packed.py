"""Compressed disks, by every compressor with extreme options."""

from tests.corpus.recipe import Recipe, recipes

COMPRESSORS = {
    "gzip": ("gzip", ("gzip -1", "gzip -9", "gzip -n", "gzip --rsyncable")),
    "pigz": ("gzip", ("pigz", "pigz -i", "pigz -p 4 -b 128", "pigz -R")),
    "busybox": ("gzip", ("busybox gzip",)),
    "xz": (
        "xz",
        (
            "xz -0",
            "xz -9",
            "xz -e",
            "xz --check=crc32",
            "xz --check=sha256",
            "xz -T2 --block-size=1MiB",
            "xz --x86 --lzma2",
        ),
    ),
    "zstd": (
        "zstd",
        (
            "zstd -1",
            "zstd -19",
            "zstd --no-check",
            "zstd -T2",
            "zstd --long=24",
            "zstd --rsyncable",
            "zstd --no-content-size",
        ),
    ),
    "bzip2": ("bzip2", ("bzip2 -1", "bzip2 -9")),
    "lz4": (
        "lz4",
        ("lz4 -1", "lz4 -9", "lz4 -BD", "lz4 --content-size", "lz4 -B4 -BX", "lz4 --no-frame-crc"),
    ),
}
DISKS = (
    *(
        Recipe(f"{command}, {name}", image_format, f"{command} -c <$PARTS/{disk} >image", (tool,))
        for tool, (image_format, commands) in COMPRESSORS.items()
        for command in commands
        for name, disk in (("raw", "disk.raw"), ("qcow2", "data.qcow2"))
    ),
    *recipes(
        "xz",
        "lzma",
        [
            ("lzma, raw", "xz --format=lzma -c $PARTS/disk.raw >image"),
            ("lzma -1", "xz --format=lzma -1 -c <$PARTS/data.qcow2 >image"),
        ],
    ),
)
STREAMS = (
    *recipes("gzip", "gzip", [("named", "cp $PARTS/disk.raw disk.raw\ngzip disk.raw\nmv disk.raw.gz image")]),
    *recipes("7zz", "gzip", [("gzip", "7zz a -tgzip -bso0 image.gz $PARTS/disk.raw\nmv image.gz image")]),
    *recipes("7zz", "xz", [("xz", "7zz a -txz -bso0 image.xz $PARTS/disk.raw\nmv image.xz image")]),
    *recipes(
        "7zz", "bzip2", [("bzip2", "7zz a -tbzip2 -bso0 image.bz2 $PARTS/disk.raw\nmv image.bz2 image")]
    ),
    *recipes(
        "python",
        "gzip",
        [
            ("gzip", "python -m gzip <$PARTS/disk.raw >image"),
            ("gzip of a VMDK", "python -m gzip <$PARTS/disk.vmdk >image"),
        ],
    ),
    *recipes(
        "python",
        "xz",
        [
            (
                "lzma",
                (
                    "python -c 'import lzma, sys\n"
                    "sys.stdout.buffer.write(lzma.compress(sys.stdin.buffer.read()))' <$PARTS/disk.raw >image"
                ),
            )
        ],
    ),
)
RECIPES = (*DISKS, *STREAMS)
