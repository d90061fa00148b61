"""Optical discs, plain and hybrid, by every tool that writes discs."""

from tests.corpus.recipe import Recipe, recipes

ISOLINUX = (
    "cp -r $PARTS/tree tree\nmkdir -p tree/isolinux\ncp /usr/lib/ISOLINUX/isolinux.bin tree/isolinux/\n"
    "cp $PARTS/efi.img tree/efi.img\n"
)
BOOT = "-b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table"
EFI = "-eltorito-alt-boot -e efi.img -no-emul-boot"
MBR = "-isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin"
XORRISO = f"{ISOLINUX}xorriso -report_about WARNING -as mkisofs -o image"

PYCDLIB = """python - <<'END'
import os, pycdlib
disc = pycdlib.PyCdlib()
disc.new({new})
disc.add_file(os.environ['PARTS'] + '/key', '/KEY.;1'{more})
disc.write('image')
END"""

GENISOIMAGE = (
    *recipes(
        "genisoimage",
        "iso",
        [
            ("plain", "genisoimage -quiet -o image $PARTS/tree"),
            ("Joliet, Rock Ridge", "genisoimage -quiet -J -R -V LABEL -o image $PARTS/tree"),
            ("cloud-init", "genisoimage -quiet -J -r -V cidata -o image $PARTS/metadata.json $PARTS/key"),
            ("level 3", "genisoimage -quiet -iso-level 3 -o image $PARTS/tree"),
            ("level 4", "genisoimage -quiet -iso-level 4 -o image $PARTS/tree"),
            ("no padding", "genisoimage -quiet -no-pad -o image $PARTS/tree"),
            ("sorted, translated", "genisoimage -quiet -T -J -o image $PARTS/tree"),
        ],
        content=("iso9660",),
    ),
    *recipes(
        "genisoimage",
        "iso",
        [("El Torito", f"{ISOLINUX}genisoimage -quiet {BOOT} -o image tree")],
        content=("iso9660",),
    ),
    *recipes(
        "genisoimage",
        "iso",
        [
            ("UDF", "genisoimage -quiet -udf -o image $PARTS/tree"),
            (
                "UDF, Joliet, allow limited size",
                "genisoimage -quiet -udf -J -allow-limited-size -o image $PARTS/tree",
            ),
        ],
        content=("iso9660", "udf"),
    ),
    *recipes("genisoimage", "iso", [("HFS", "genisoimage -quiet -hfs -o image $PARTS/tree")]),
    *recipes(
        "isohybrid genisoimage",
        "iso",
        [
            ("isolinux", f"{ISOLINUX}genisoimage -quiet {BOOT} -o image tree\nisohybrid image"),
            (
                "offset 16, type 1",
                f"{ISOLINUX}genisoimage -quiet {BOOT} -o image tree\nisohybrid -t 1 -e 2 image",
            ),
        ],
        content=("iso9660", "dos"),
    ),
    *recipes(
        "isohybrid genisoimage",
        "iso",
        [("EFI", f"{ISOLINUX}genisoimage -quiet {BOOT} {EFI} -o image tree\nisohybrid -u image")],
    ),
)
XORRISOS = (
    *recipes(
        "xorriso",
        "iso",
        [
            ("plain", "xorriso -report_about WARNING -as mkisofs -o image $PARTS/tree"),
            ("native", "xorriso -report_about WARNING -outdev image -map $PARTS/tree / -commit"),
            (
                "two sessions",
                (
                    "xorriso -report_about WARNING -outdev image -map $PARTS/tree / -commit\n"
                    "xorriso -report_about WARNING -dev image -map $PARTS/key /key -commit"
                ),
            ),
            ("El Torito", f"{XORRISO} {BOOT} tree"),
            ("El Torito, EFI", f"{XORRISO} {BOOT} {EFI} tree"),
        ],
        content=("iso9660",),
    ),
    *recipes(
        "xorriso",
        "iso",
        [
            ("isohybrid MBR", f"{XORRISO} {MBR} {BOOT} tree"),
            ("isohybrid MBR, offset 16", f"{XORRISO} {MBR} -partition_offset 16 {BOOT} tree"),
            (
                "isohybrid MBR, appended EFI",
                f"{XORRISO} {MBR} {BOOT} -append_partition 2 0xef $PARTS/efi.img tree",
            ),
            ("a partition appended", f"{XORRISO} -append_partition 2 0x83 $PARTS/efi.img tree"),
            ("HFS+", f"{XORRISO} {MBR} {BOOT} -hfsplus tree"),
        ],
    ),
    *recipes(
        "xorriso",
        "iso",
        [
            ("basdat GPT", f"{XORRISO} {MBR} {BOOT} {EFI} -isohybrid-gpt-basdat tree"),
            ("HFS+ GPT", f"{XORRISO} {MBR} {BOOT} {EFI} -isohybrid-gpt-hfsplus tree"),
            (
                "Debian's way",
                (
                    f"{XORRISO} -r -V Debian -J -joliet-long -cache-inodes {MBR} {BOOT} -partition_offset 16 "
                    f"{EFI} -isohybrid-gpt-basdat -isohybrid-apm-hfsplus tree"
                ),
            ),
            (
                "Ubuntu's way",
                (
                    f"{XORRISO} -r -V Ubuntu -J -l --grub2-mbr /usr/lib/ISOLINUX/isohdpfx.bin "
                    "-partition_offset 16 --mbr-force-bootable "
                    "-append_partition 2 28732ac11ff8d211ba4b00a0c93ec93b $PARTS/efi.img "
                    "-appended_part_as_gpt -iso_mbr_part_type a2a0d0ebe5b9334487c068b6b72699c7 "
                    f"{BOOT} -eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot tree"
                ),
            ),
            (
                "Fedora's way",
                (
                    f"{XORRISO} -V Fedora -J -R {MBR} {BOOT} -append_partition 2 0xef $PARTS/efi.img "
                    "-appended_part_as_gpt tree"
                ),
            ),
        ],
    ),
    *recipes(
        "grub-mkrescue xorriso mformat",
        "iso",
        [("BIOS, EFI", "grub-mkrescue -o image $PARTS/tree 2>/dev/null")],
    ),
)
UDF = tuple(
    Recipe(
        f"mkudffs: blocks of {block} bytes, {media}, {revision}",
        "iso",
        f"truncate -s 12M image\nmkudffs -b {block} -m {media} -r {revision} image",
        ("mkudffs",),
        ("udf",),
        verdict,
    )
    for block, media, revision, verdict in (
        (2048, "hd", "2.01", "safe"),
        (2048, "hd", "1.02", "safe"),
        (2048, "hd", "1.50", "safe"),
        (2048, "dvdram", "2.01", "safe"),
        (2048, "bdr", "2.50", "safe"),
        (2048, "cdr", "1.50", "safe"),
        (512, "hd", "2.01", "safe"),
        (1024, "hd", "2.01", "safe"),
        (4096, "hd", "2.01", "safe"),
    )
)
OTHERS = (
    *recipes(
        "makefs",
        "iso",
        [
            ("cd9660", "makefs -t cd9660 image $PARTS/tree"),
            ("cd9660, Rock Ridge", "makefs -t cd9660 -o rockridge,label=LABEL image $PARTS/tree"),
        ],
        content=("iso9660",),
    ),
    *recipes(
        "bsdtar",
        "iso",
        [("iso9660", "bsdtar --format=iso9660 -cf image -C $PARTS tree")],
        content=("iso9660",),
    ),
    *recipes(
        "pycdlib-genisoimage",
        "iso",
        [
            ("plain", PYCDLIB.format(new="", more="")),
            ("Joliet", PYCDLIB.format(new="joliet=3", more=", joliet_path='/key'")),
            ("Rock Ridge", PYCDLIB.format(new="rock_ridge='1.09'", more=", rr_name='key'")),
            ("level 4", PYCDLIB.format(new="interchange_level=4", more="")),
        ],
        content=("iso9660",),
    ),
    *recipes(
        "pycdlib-genisoimage",
        "iso",
        [("UDF 2.60", PYCDLIB.format(new="udf='2.60'", more=", udf_path='/key'"))],
        content=("iso9660", "udf"),
    ),
)
RECIPES = (*GENISOIMAGE, *XORRISOS, *UDF, *OTHERS)
