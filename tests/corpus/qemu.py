"""Images that qemu-img and qemu-io write: every format, empty, converted, and with a guest's writes."""

from tests.corpus.recipe import Recipe, recipes

#: Options of `create` and `convert` by format.
OPTIONS = {
    "qcow2": (
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=2M",
        "extended_l2=on",
        "lazy_refcounts=on",
        "refcount_bits=1",
        "refcount_bits=64",
        "compression_type=zstd",
        "preallocation=metadata",
        "preallocation=falloc",
    ),
    "vpc": ("subformat=dynamic", "subformat=fixed", "force_size=on", "subformat=fixed,force_size=on"),
    "vhdx": ("subformat=dynamic", "subformat=fixed", "block_size=1M", "block_size=8M", "log_size=2M"),
    "vmdk": (
        "subformat=monolithicSparse",
        "subformat=streamOptimized",
        "adapter_type=lsilogic",
        "zeroed_grain=on",
        "compat6=on",
    ),
    "vdi": ("static=off", "static=on"),
    "parallels": ("cluster_size=64k", "cluster_size=1M"),
}
NAMES = {"vpc": "vhd"}
#: A guest's actions: writes of every alignment, zero writes, discards, and further writes after them.
GUEST = (
    "-c 'write -P 7 0 64k' -c 'write -P 8 1234432 3k' -c 'write -z 4M 1M' -c 'discard 64k 128k' "
    "-c 'write -P 9 5M 1M' -c flush"
)

CREATED = tuple(
    one
    for kind, options in OPTIONS.items()
    for one in recipes(
        "qemu-img",
        NAMES.get(kind, kind),
        [
            (f"create {kind}, {option}", f"qemu-img create -q -f {kind} -o {option} image 70M")
            for option in options
        ],
    )
)
CONVERTED = tuple(
    one
    for kind, options in OPTIONS.items()
    for one in recipes(
        "qemu-img",
        NAMES.get(kind, kind),
        [
            (
                f"convert to {kind}, {option}",
                f"qemu-img convert -f raw -O {kind} -o {option} $PARTS/guest.raw image",
            )
            for option in options
        ],
    )
)
WRITTEN = tuple(
    Recipe(
        f"qemu-io: {kind}, {option}",
        NAMES.get(kind, kind),
        f"qemu-img create -q -f {kind} -o {option} image 70M\nqemu-io -f {kind} {GUEST} image",
        ("qemu-io", "qemu-img"),
    )
    for kind, options in OPTIONS.items()
    for option in options
    if "streamOptimized" not in option
)
CHANGED = (
    *recipes(
        "qemu-img",
        "qcow2",
        [
            ("compressed", "qemu-img convert -c -f raw -O qcow2 $PARTS/guest.raw image"),
            (
                "compressed in parallel, zstd",
                "qemu-img convert -c -W -m 4 -f raw -O qcow2 -o compression_type=zstd $PARTS/guest.raw image",
            ),
            (
                "snapshots, one deleted",
                (
                    "cp $PARTS/data.qcow2 image\nqemu-img snapshot -c a image\nqemu-img snapshot -c b image\n"
                    "qemu-img snapshot -d a image"
                ),
            ),
            ("grown", "cp $PARTS/data.qcow2 image\nqemu-img resize -q image 5G"),
            ("shrunk", "cp $PARTS/data.qcow2 image\nqemu-img resize -q --shrink image 1M"),
            (
                "bitmaps",
                "cp $PARTS/data.qcow2 image\nqemu-img bitmap --add -g 1M image a",
            ),
            (
                "amended",
                (
                    "qemu-img create -q -f qcow2 -o compat=0.10 image 1G\n"
                    "qemu-img amend -o compat=1.1,lazy_refcounts=on image"
                ),
            ),
            (
                "rebased to nothing",
                (
                    "qemu-img create -q -f qcow2 -b $PARTS/data.qcow2 -F qcow2 image\n"
                    "qemu-img rebase -b '' image"
                ),
            ),
            (
                "committed",
                (
                    "cp $PARTS/data.qcow2 image\nqemu-img create -q -f qcow2 -b image -F qcow2 top\n"
                    "qemu-io -c 'write 1M 1M' top\nqemu-img commit -q top"
                ),
            ),
            ("64 TiB", "qemu-img create -q -f qcow2 image 64T"),
            ("dd", "qemu-img dd -O qcow2 bs=1M if=$PARTS/guest.raw of=image"),
        ],
    ),
    *recipes(
        "qemu-img",
        "vmdk",
        [
            ("VMDK of 2 TiB", "qemu-img create -q -f vmdk image 2T"),
            ("VMDK of 60 TiB", "qemu-img create -q -f vmdk image 60T"),
        ],
    ),
    *recipes("qemu-img", "vdi", [("VDI of 1 TiB", "qemu-img create -q -f vdi image 1T")]),
    *recipes("qemu-img", "vhdx", [("VHDX of 16 TiB", "qemu-img create -q -f vhdx image 16T")]),
    *recipes(
        "qemu-img", "raw", [("raw", "qemu-img convert -O raw $PARTS/data.qcow2 image")], content=("dos",)
    ),
    *recipes(
        "qemu-img",
        "luks",
        [
            (
                "luks",
                (
                    "printf x >k\nqemu-img create -q --object secret,id=k,file=k -f luks "
                    "-o key-secret=k,iter-time=10 image 7M"
                ),
            )
        ],
        verdict="rejected:encrypted",
    ),
    *recipes(
        "qemu-img",
        "qcow2",
        [
            (
                "encrypted",
                (
                    "printf x >k\nqemu-img create -q --object secret,id=k,file=k -f qcow2 "
                    "-o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10 image 7M"
                ),
            )
        ],
        verdict="rejected:encrypted",
    ),
    *recipes(
        "qemu-img",
        "qed",
        [("qed", "qemu-img convert -f raw -O qed $PARTS/guest.raw image")],
        verdict="rejected:banned_format",
    ),
    *recipes(
        "qemu-img",
        "qcow",
        [("qcow", "qemu-img convert -f raw -O qcow $PARTS/guest.raw image")],
        verdict="rejected:banned_format",
    ),
    *recipes(
        "e2image",
        "qcow2",
        [("qcow2 of metadata", "truncate -s 8M v\nmke2fs -q -t ext4 v\ne2image -Q v image")],
    ),
)
RECIPES = (*CREATED, *CONVERTED, *WRITTEN, *CHANGED)
