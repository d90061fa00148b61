"""Archives with disks (OVAs, Vagrant boxes, Compute Engine's disk.raw), by every writer and dialect."""

from tests.corpus.recipe import Recipe, recipes

OVA = "cp $PARTS/disk.vmdk.ovf box.ovf\ncp $PARTS/disk.vmdk .\n"
BOX = "cp $PARTS/data.qcow2 box.img\ncp $PARTS/Vagrantfile $PARTS/metadata.json .\n"
RAW = "cp --sparse=always $PARTS/disk.raw disk.raw\n"
#: The command line of each writer, by its dialect. The names of the members follow it.
WRITERS = {
    "bsdtar": {
        "no options": "bsdtar -cf image",
        "ustar": "bsdtar --format=ustar -cf image",
        "pax": "bsdtar --format=pax -cf image",
        "gnutar": "bsdtar --format=gnutar -cf image",
        "v7": "bsdtar --format=v7 -cf image",
        "no sparse": "bsdtar --no-read-sparse -cf image",
    },
    "tar": {
        "gnu": "tar --format=gnu -cf image",
        "oldgnu": "tar --format=oldgnu -cf image",
        "ustar": "tar --format=ustar -cf image",
        "posix": "tar --format=posix -cf image",
        "v7": "tar --format=v7 -cf image",
        "blocks of 512": "tar -b 1 -cf image",
        "owners by number": "tar --numeric-owner --owner=0 --group=0 --mtime=@0 -cf image",
        "large numbers": "tar --owner=:3000000 --group=:3000000 --mtime=@9999999999 -cf image",
        "sparse": "tar -S -cf image",
        "sparse, posix 0.0": "tar -S --format=posix --sparse-version=0.0 -cf image",
        "sparse, posix 0.1": "tar -S --format=posix --sparse-version=0.1 -cf image",
        "sparse, posix 1.0": "tar -S --format=posix --sparse-version=1.0 -cf image",
    },
    "busybox": {"tar": "busybox tar -cf image"},
    "7zz": {"tar": "7zz a -ttar -bso0 image.tar", "posix": "7zz a -ttar -mm=posix -bso0 image.tar"},
    "cpio": {"ustar": "printf '%s\\n' MEMBERS | cpio -o --quiet -H ustar >image"},
    "python": {
        dialect: f"python -c 'import sys, tarfile\n"
        f'with tarfile.open("image", "w", format=tarfile.{dialect}_FORMAT) as archive:\n'
        "  for name in sys.argv[1:]: archive.add(name)'"
        for dialect in ("USTAR", "GNU", "PAX")
    },
}


def _script(writer: str, command: str, laid: str, members: str) -> str:
    done = command.replace("MEMBERS", members) if "MEMBERS" in command else f"{command} {members}"
    return f"{laid}{done}" + ("\nmv image.tar image" if writer == "7zz" else "")


def _by_all(what: str, image_format: str, laid: str, members: str) -> tuple[Recipe, ...]:
    return tuple(
        Recipe(
            f"{writer}: {what}, {dialect}", image_format, _script(writer, command, laid, members), (writer,)
        )
        for writer, dialects in WRITERS.items()
        for dialect, command in dialects.items()
    )


TARS = (
    *_by_all("OVA", "ova", OVA, "box.ovf disk.vmdk"),
    *_by_all("Vagrant box", "tar", BOX, "metadata.json Vagrantfile box.img"),
    *_by_all("disk.raw", "tar", RAW, "disk.raw"),
)
TARBALLS = recipes(
    "tar gzip xz zstd bzip2",
    "gzip",
    [
        ("disk.raw, tar.gz", RAW + "tar --format=oldgnu -Sczf image disk.raw"),
        ("box, tar.gz", BOX + "tar -czf image ./metadata.json ./Vagrantfile ./box.img"),
        ("a folder, tar.gz", "tar -C $PARTS -czf image disk.raw tree"),
    ],
)
DETAILS = (
    *recipes(
        "tar",
        "ova",
        [
            (
                "OVA with manifest",
                OVA + "sha256sum --tag box.ovf disk.vmdk >box.mf\ntar -cf image box.ovf box.mf disk.vmdk",
            ),
            ("OVA, names with ./", OVA + "tar -cf image ./box.ovf ./disk.vmdk"),
            ("OVA in a folder", OVA + "mkdir vm\nmv box.ovf disk.vmdk vm\ntar -cf image vm"),
            ("OVA, disk first", OVA + "tar -cf image disk.vmdk box.ovf"),
            (
                "OVA with AppleDouble",
                OVA + "printf '\\0\\5\\26\\7\\0\\2\\0\\0' >._box.ovf\ncp ._box.ovf ._disk.vmdk\n"
                "tar -cf image ._box.ovf box.ovf ._disk.vmdk disk.vmdk",
            ),
            (
                "OVA, gzip disk",
                (
                    "gzip -c $PARTS/disk.vmdk >disk.vmdk\n"
                    'sed \'s|ovf:href="disk.vmdk"|& ovf:compression="gzip"|; s|ovf:size="[0-9]*"||\' '
                    "$PARTS/disk.vmdk.ovf >box.ovf\ntar -cf image box.ovf disk.vmdk"
                ),
            ),
            (
                "OVA with a VHD",
                (
                    "cp $PARTS/disk.vhd .\nsed s/vmdk.html#streamOptimized/vhd/ "
                    "$PARTS/disk.vhd.ovf >box.ovf\n"
                    "tar -cf image box.ovf disk.vhd"
                ),
            ),
            (
                "OVA with NVRAM, certificate",
                OVA + "echo x >box.cert\nhead -c 8684 /dev/urandom >box.nvram\n"
                "tar -cf image box.ovf box.cert disk.vmdk box.nvram",
            ),
        ],
    ),
    *recipes(
        "tar",
        "tar",
        [
            (
                "links that stay",
                RAW + "ln -s disk.raw current\nln disk.raw hard\ntar -cf image disk.raw current hard",
            ),
            ("a long name", RAW + "n=$(printf 'n%.0s' $(seq 180))\nmv disk.raw $n\ntar -cf image $n"),
            (
                "a long name, posix",
                RAW + "n=$(printf 'n%.0s' $(seq 180))\nmv disk.raw $n\ntar --format=posix -cf image $n",
            ),
            ("a name of UTF-8", RAW + "mv disk.raw Äpfel.raw\ntar -cf image Äpfel.raw"),
            ("appended", RAW + "tar -cf image disk.raw\ncp $PARTS/key .\ntar -rf image key"),
            ("with a label", RAW + "tar -V label -cf image disk.raw"),
            ("xattrs, posix", RAW + "tar --format=posix --xattrs --acls --selinux -cf image disk.raw"),
            ("many small files", RAW + "for i in $(seq 300); do echo $i >f$i; done\ntar -cf image ."),
        ],
    ),
)
ZIPS = (
    *recipes(
        "zip",
        "zip",
        [
            ("disk.raw", RAW + "zip -q image.zip disk.raw\nmv image.zip image"),
            ("stored", RAW + "zip -q -0 image.zip disk.raw\nmv image.zip image"),
            ("from a pipe", "cat $PARTS/disk.raw | zip -q - - >image"),
            ("zip64", RAW + "zip -q -fz image.zip disk.raw\nmv image.zip image"),
            ("a comment", RAW + "echo text | zip -q -z image.zip disk.raw >/dev/null\nmv image.zip image"),
            ("a folder", "(cd $PARTS && zip -q -r - disk.raw tree) >image"),
        ],
    ),
    *recipes(
        "7zz",
        "zip",
        [
            ("zip", RAW + "7zz a -tzip -bso0 image.zip disk.raw\nmv image.zip image"),
            ("zip, stored", RAW + "7zz a -tzip -mm=Copy -bso0 image.zip disk.raw\nmv image.zip image"),
        ],
    ),
    *recipes(
        "bsdtar",
        "zip",
        [
            ("zip", RAW + "bsdtar --format=zip -cf image disk.raw"),
            ("zip, stored", RAW + "bsdtar --format=zip --options=zip:compression=store -cf image disk.raw"),
        ],
    ),
    *recipes(
        "python",
        "zip",
        [
            ("zipfile", RAW + "python -m zipfile -c image disk.raw"),
            (
                "zipfile, streamed",
                RAW + "python -c 'import sys, zipfile\n"
                'with zipfile.ZipFile(sys.stdout.buffer, "w", zipfile.ZIP_DEFLATED) as archive: '
                'archive.write("disk.raw")\' | cat >image',
            ),
        ],
    ),
)
RECIPES = (*TARS, *TARBALLS, *DETAILS, *ZIPS)
