"""Raw disks: partition tables by every tool that writes them, with a volume in the first partition."""

from tests.corpus.recipe import Recipe, recipes

#: Commands that make a volume in the file `part`, by libblkid's name.
VOLUMES = {
    "ext4": ("mke2fs", "truncate -s 16M part\nmke2fs -q -t ext4 part"),
    "vfat": ("mkfs.fat", "truncate -s 16M part\nmkfs.fat part"),
    "ntfs": ("mkfs.ntfs", "truncate -s 16M part\nmkfs.ntfs -F -Q -q part"),
    "exfat": ("mkfs.exfat", "truncate -s 16M part\nmkfs.exfat part"),
    "xfs": ("mkfs.xfs", "truncate -s 300M part\nmkfs.xfs -q part"),
    "btrfs": ("mkfs.btrfs", "truncate -s 128M part\nmkfs.btrfs -q part"),
    "f2fs": ("mkfs.f2fs", "truncate -s 64M part\nmkfs.f2fs -q part"),
    "swap": ("mkswap", "truncate -s 16M part\nmkswap part"),
    "squashfs": ("mksquashfs", "mksquashfs $PARTS/tree part -quiet -no-progress\ntruncate -s 1M part"),
    "crypto_LUKS": (
        "cryptsetup",
        (
            "truncate -s 32M part\n"
            "cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 part $PARTS/key"
        ),
    ),
}
#: Commands that write a table to `image` whose first partition begins at 1 MiB: tool, libblkid's name,
#: commands.
TABLES = {
    "sfdisk dos": ("sfdisk", "dos", "printf 'label: dos\\n2048,,L,*\\n' | sfdisk -q image"),
    "sfdisk gpt": ("sfdisk", "gpt", "printf 'label: gpt\\n2048,,L\\n' | sfdisk -q image"),
    "sgdisk": ("sgdisk", "gpt", "sgdisk -n 1:2048:0 image"),
    "parted msdos": ("parted", "dos", "parted -s image mklabel msdos mkpart primary 1MiB 100%"),
    "parted gpt": ("parted", "gpt", "parted -s image mklabel gpt mkpart p 1MiB 100%"),
    "cgpt": (
        "cgpt",
        "gpt",
        (
            "cgpt create image\ncgpt boot -p image\n"
            "cgpt add -b 2048 -s $(($(stat -c %s image) / 512 - 4096)) -t data image"
        ),
    ),
}
PUT = (
    "\ntruncate -s $(($(stat -c %s part) + 3 * 1048576)) image\n"
    "dd if=part of=image bs=1M seek=1 conv=notrunc,sparse status=none\n"
)
FILLED = tuple(
    Recipe(f"{name} with {kind}", "raw", making + PUT + label, (tool, maker), (table, kind))
    for name, (tool, table, label) in TABLES.items()
    for kind, (maker, making) in VOLUMES.items()
)
BLANK = "truncate -s 64M image\n"
LABELS = (
    *recipes(
        "sfdisk",
        "raw",
        [
            (
                "four primaries",
                BLANK + "printf '2048,4M,c\\n,4M,82\\n,4M,7\\n,,L\\n' | sfdisk -q -X dos image",
            ),
            (
                "logical ones",
                BLANK + "printf ',8M,L\\n,,E\\n,4M,L\\n,4M,L\\n,,S\\n' | sfdisk -q -X dos image",
            ),
            ("from sector 1", BLANK + "printf '1,99,L\\n' | sfdisk -q -X dos image"),
            ("the third alone", BLANK + "printf 'image3 : start=2048, size=4M, type=83\n' | sfdisk -q image"),
            ("an EFI one", BLANK + "printf '2048,4M,ef,*\\n,,L\\n' | sfdisk -q -X dos image"),
        ],
        content=("dos",),
    ),
    *recipes(
        "sfdisk",
        "raw",
        [
            ("empty GPT", BLANK + "printf 'label: gpt\\n' | sfdisk -q image"),
            ("many", BLANK + "(echo label: gpt; for i in $(seq 40); do echo ,1M,L; done) | sfdisk -q image"),
            (
                "a short GPT",
                BLANK + "printf 'label: gpt\\ntable-length: 4\\nfirst-lba: 34\\n,4M,L\\n' | sfdisk -q image",
            ),
            ("a long GPT", BLANK + "printf 'label: gpt\\ntable-length: 256\\n,4M,L\\n' | sfdisk -q image"),
        ],
        content=("gpt",),
    ),
    *(
        Recipe(
            f"sfdisk: {table} without partitions",
            "raw",
            BLANK + f"printf 'label: {table}\n' | sfdisk -q image",
            ("sfdisk",),
            (table,),
            "inconclusive:wholeness_unchecked",
        )
        for table in ("dos", "sun", "sgi")
    ),
    *recipes(
        "sgdisk",
        "raw",
        [
            ("BIOS boot, EFI, root", BLANK + "sgdisk -n 1:0:+1M -t 1:ef02 -n 2:0:+8M -t 2:ef00 -n 3 image"),
            ("256 entries", BLANK + "sgdisk -S 256 -n 1:0:+8M image"),
            ("4 entries", BLANK + "sgdisk -S 4 -n 1:0:+8M image"),
            ("table moved", BLANK + "sgdisk -j 1024 -n 1:0:+8M image"),
            ("unaligned", BLANK + "sgdisk -a 1 -n 1:34:0 image"),
            ("a hybrid MBR", BLANK + "sgdisk -n 1:0:+8M -n 2 -h 1 image"),
            ("converted from MBR", BLANK + "printf ',8M,L\\n,8M,L\\n' | sfdisk -q image\nsgdisk -g image"),
            ("last partition to the end", BLANK + "sgdisk -n 1:0:0 image"),
            ("end moved", BLANK + "sgdisk -n 1:0:0 image\ntruncate -s 80M image\nsgdisk -e image"),
        ],
        content=None,
    ),
    *recipes(
        "parted",
        "raw",
        [("mac", BLANK + "parted -s image mklabel mac mkpart p 1MiB 9MiB")],
        content=("mac",),
    ),
    *recipes("parted", "raw", [("sun", BLANK + "parted -s image mklabel sun")], content=("sun",)),
    *recipes(
        "parted",
        "raw",
        [
            (
                "logical ones",
                BLANK + "parted -s image mklabel msdos mkpart extended 1MiB 60MiB "
                "mkpart logical 2MiB 9MiB mkpart logical 10MiB 20MiB",
            )
        ],
        content=("dos",),
    ),
    *recipes(
        "cgpt",
        "raw",
        [
            (
                "bootable",
                BLANK + "cgpt create image\ncgpt add -b 64 -s 999 -t kernel image\ncgpt boot -p image",
            ),
            (
                "with room in front",
                BLANK + "cgpt create -p 64 image\ncgpt boot -p image\ncgpt add -b 2048 -s 999 -t data image",
            ),
        ],
        content=("gpt",),
    ),
    *recipes(
        "mformat",
        "raw",
        [
            ("floppy", "mformat -C -f 1440 -i image ::\nmcopy -s -i image $PARTS/tree ::"),
            ("floppy of 720 KiB", "mformat -C -f 720 -i image ::"),
            ("floppy of 2880 KiB", "mformat -C -f 2880 -i image ::"),
            ("FAT32", "mformat -C -F -T 131072 -h 16 -s 63 -i image ::"),
        ],
        content=("vfat",),
    ),
)
NBDKIT = "-U - --run 'nbdcopy \"$uri\" image'"
SERVED = (
    *recipes(
        "nbdkit nbdcopy",
        "raw",
        [("linuxdisk", f"nbdkit linuxdisk $PARTS/tree {NBDKIT}")],
        content=("gpt", "ext2"),
    ),
    *recipes(
        "nbdkit nbdcopy", "raw", [("floppy", f"nbdkit floppy $PARTS/tree {NBDKIT}")], content=("dos", "vfat")
    ),
    *recipes(
        "nbdkit nbdcopy",
        "raw",
        [("partitioning, MBR", f"nbdkit partitioning $PARTS/efi.img $PARTS/efi.img {NBDKIT}")],
        content=("dos", "vfat"),
    ),
    *recipes(
        "nbdkit nbdcopy",
        "raw",
        [
            (
                "partitioning, GPT",
                f"nbdkit partitioning partition-type=gpt $PARTS/efi.img $PARTS/efi.img {NBDKIT}",
            )
        ],
        content=("gpt", "vfat"),
    ),
    *recipes("nbdkit nbdcopy", "iso", [("iso", f"nbdkit iso $PARTS/tree {NBDKIT}")], content=("iso9660",)),
)
GENIMAGE = """mkdir -p root input tmp out
cat >genimage.cfg <<'END'
%s
END
cp $PARTS/key root
genimage --rootpath root --inputpath input --tmppath tmp --outputpath out --config genimage.cfg >/dev/null
mv out/disk.img image"""
VFAT = "image boot.vfat {\n vfat {}\n size = 4M\n}\nimage root.ext4 {\n ext4 {}\n size = 8M\n}\n"
PARTITIONS = (
    'partition boot {\n partition-type = 0xC\n bootable = "true"\n image = "boot.vfat"\n }\n'
    'partition root {\n partition-type = 0x83\n image = "root.ext4"\n }\n}'
)
BUILT = (
    *recipes(
        "genimage mcopy mke2fs",
        "raw",
        [("MBR", GENIMAGE % (VFAT + "image disk.img {\n hdimage {}\n" + PARTITIONS))],
        content=("dos", "vfat"),
    ),
    *recipes(
        "genimage mcopy mke2fs",
        "raw",
        [
            (
                "GPT",
                GENIMAGE
                % (
                    VFAT
                    + 'image disk.img {\n hdimage { partition-table-type = "gpt" }\n'
                    + PARTITIONS.replace("partition-type = 0xC\n", "").replace("partition-type = 0x83\n", "")
                ),
            )
        ],
        content=("gpt", "vfat"),
    ),
    *recipes(
        "genimage mcopy mke2fs",
        "raw",
        [
            (
                "hybrid",
                GENIMAGE
                % (VFAT + 'image disk.img {\n hdimage { partition-table-type = "hybrid" }\n' + PARTITIONS),
            )
        ],
        content=("gpt", "vfat"),
    ),
)
RECIPES = (*FILLED, *LABELS, *SERVED, *BUILT)
