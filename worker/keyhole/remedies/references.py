"""Remedies for images that need other files, or that were not closed, are encrypted or not understood."""

from typing import Final

from keyhole.remedies.remedy import Remedy, Repair

REFERENCES: Final[dict[str, Remedy]] = {
    "backing_file": Remedy(
        "flatten the image into one that has no backing file, or refuse it if its origin is not trusted",
        why=(
            "The image stores only the sectors that differ from another file. A program that opens the image "
            "also opens that file. A hostile image can name a file of the host, such as /etc/shadow or the "
            "disk of another customer, and the guest then reads its content."
        ),
        cause=(
            "`qemu-img create -b`, a snapshot of libvirt, or a template of a cloud made an overlay, and only "
            "the overlay was uploaded."
        ),
        check=("`keyhole inspect` shows the name as `backing file`. Keyhole itself never opens that file."),
        repair=(
            "On the machine that has the backing file, copy the image and its backing file into one "
            "image. Without the backing file the image is worthless. Never do this for an image of unknown "
            "origin: the command would copy the file that the image names into the new image."
        ),
        repairs=(
            Repair(
                "Write a new image that contains everything",
                ("qemu-img convert -f qcow2 -O qcow2 image.qcow2 flat.qcow2",),
            ),
            Repair(
                "Or copy the backing file's sectors into the image itself",
                ('qemu-img rebase -f qcow2 -b "" image.qcow2',),
            ),
        ),
    ),
    "data_file": Remedy(
        "join the image and the file with its content into one image, or upload the complete set as one",
        why=(
            "The object contains no disk without the other file. A program that opens a qcow2 image with a "
            "data file also opens the file that the image names, which can be a file of the host."
        ),
        cause=(
            "The image was made with qcow2's option `data_file`, was split into segments (EWF, DMG, tar), "
            "has a detached LUKS header, or was compressed with a dictionary."
        ),
        check="`keyhole inspect` states which kind it is, and shows the name of a data file.",
        repair=(
            "Where all files are, write them into one image. Compress again without a dictionary. Upload a "
            "LUKS volume together with its header."
        ),
        repairs=(
            Repair(
                "Join a qcow2 image and its data file",
                ("qemu-img convert -f qcow2 -O qcow2 image.qcow2 joined.qcow2",),
            ),
            Repair(
                "Join the segments image.E01, image.E02 and so on into a raw image",
                ("ewfexport -q -u -f raw -t joined image.E01",),
            ),
        ),
    ),
    "parent_image": Remedy(
        "merge the image with its parent into one image, or refuse it if its origin is not trusted",
        why=(
            "The image stores only the changes to a parent image. Without the parent its content is wrong. "
            "With a parent that a hostile image names, a program reads a file that its owner did not choose."
        ),
        cause="A snapshot or a linked clone was uploaded instead of the complete disk.",
        check="`keyhole inspect` shows the parent's name if the image states one.",
        repair=(
            "Merge the disk with its parent in the product that made both: VMware, Hyper-V (VHD, VHDX) or "
            "VirtualBox (VDI). qemu-img can merge VMDK images that have a descriptor; it does not open "
            "VHD, VHDX and VDI images that have a parent."
        ),
        repairs=(
            Repair(
                "Merge a VMDK image and its parent, which is in the same folder",
                ("qemu-img convert -f vmdk -O vmdk -o subformat=streamOptimized image.vmdk merged.vmdk",),
            ),
        ),
    ),
    "extent_path": Remedy(
        "convert the VMDK and its extents into one file, or refuse it if its origin is not trusted",
        why=(
            "The object is a descriptor that names other files. A program that opens it opens these files. A "
            "hostile descriptor can name a file or a device of the host, and the guest then reads it."
        ),
        cause=(
            "VMware stores many disks as a small text file and separate extents, such as `disk-flat.vmdk`. "
            "Only the text file was uploaded."
        ),
        check=(
            "`keyhole inspect` lists the `extents` with their names. The descriptor is text: `head -c 1024`."
        ),
        repair=(
            "Where the descriptor and its extents are, convert them into one file. Glance, AWS and others "
            "want the variant streamOptimized."
        ),
        repairs=(
            Repair(
                "Convert a VMDK of several files into one file",
                ("qemu-img convert -f vmdk -O vmdk -o subformat=streamOptimized image.vmdk one.vmdk",),
            ),
        ),
    ),
    "change_track_path": Remedy(
        "convert the image into a new one, which names no change tracking file",
        why=(
            "VMware writes the numbers of changed blocks to the file that `changeTrackPath` names. In a "
            "hostile image this can be a file of the host. The disk's content does not need the file."
        ),
        cause="Changed block tracking, which backup programs use, was on when the disk was copied.",
        check="`keyhole inspect` shows the name in the finding.",
        repair="Write the content into a new image. The new descriptor has no such line.",
        repairs=(
            Repair(
                "Convert the image into a new one",
                ("qemu-img convert -f vmdk -O vmdk -o subformat=streamOptimized image.vmdk clean.vmdk",),
            ),
        ),
    ),
    "unknown_features": Remedy(
        "export the disk again from its source in an ordinary variant of the format, or refuse it",
        why=(
            "The image says that a program must know a feature to read it correctly, and Keyhole does not "
            "know it. The feature can change where the content is, so no other check is certain."
        ),
        cause=(
            "A newer program wrote the image, the header is damaged, or someone set the bits to mislead "
            "programs that ignore them."
        ),
        check="The finding names the feature. `qemu-img info` refuses a qcow2 image with unknown features.",
        repair=(
            "Export the disk from its source as an ordinary image or as a raw disk, or update Keyhole if a "
            "later version knows the feature. Do not clear the bits: the content would then be read wrongly."
        ),
    ),
    "log_replay": Remedy(
        "close the image properly: attach it once to Hyper-V, or replay its log with qemu-img",
        why="The last writes are only in the log. A program that ignores the log reads old or mixed content.",
        cause="The image was copied while a virtual machine used it, or after a crash.",
        check="`qemu-img check` reports that a VHDX image has a log to replay.",
        repair=(
            "Shut the machine down and copy the image again. If the machine is gone, replay the log on a "
            "copy. Only ESXi replays the journal of an SESparse disk."
        ),
        repairs=(
            Repair(
                "Replay the log of a VHDX image, in the image itself",
                ("qemu-img check -f vhdx -r all image.vhdx",),
            ),
        ),
    ),
    "saved_state": Remedy(
        "resume the virtual machine, shut it down, and copy the image again",
        why=(
            "The machine was suspended, so its memory held data that are not yet on the disk. The file "
            "systems in the image look as if the power had failed."
        ),
        cause="The image of a suspended (saved) machine of Hyper-V or Virtual PC was copied.",
        check="`keyhole inspect` reports it from the VHD's footer.",
        repair=(
            "Resume and shut down the machine, then copy the image. If the machine is gone, a conversion "
            "drops the mark, but not the risk: let the guest check its file systems at the next start."
        ),
        repairs=(
            Repair(
                "Drop the mark by a conversion",
                ("qemu-img convert -f vpc -O vpc -o force_size=on image.vhd resumed.vhd",),
            ),
        ),
    ),
    "dirty": Remedy(
        "shut the machine down and copy the image again, or repair a copy with `qemu-img check -r all`",
        why="The tables of the image can be out of date, so programs may read or overwrite the wrong places.",
        cause="The image was copied while a program wrote to it, or the program crashed.",
        check="`qemu-img check` lists errors and leaks. It changes nothing without `-r`.",
        repair=(
            "Copy the image again after the machine was shut down. Otherwise repair a copy, and let the "
            "guest check its file systems at the next start. A VMDK is repaired by a conversion. A LUKS2 "
            "volume is repaired when `cryptsetup open` opens it."
        ),
        repairs=(
            Repair("Repair a qcow2 image itself", ("qemu-img check -f qcow2 -r all image.qcow2",)),
            Repair("Repair a Parallels image itself", ("qemu-img check -f parallels -r all image.hds",)),
            Repair("Convert a VMDK", ("qemu-img convert -f vmdk -O vmdk image.vmdk closed.vmdk",)),
        ),
    ),
    "corrupt_flag": Remedy(
        "restore the image from its source, or repair a copy with `qemu-img check -r all`",
        why=(
            "QEMU found that its tables were wrong and marked the image. It refuses to write to such an "
            "image."
        ),
        cause="A disk error, two programs that wrote to the image at once, or a bug.",
        check="`qemu-img check` lists the errors. It changes nothing without `-r`.",
        repair=(
            "Prefer an older copy that is intact. A repair makes the tables consistent, but data can be "
            "missing afterwards: compare the content with a backup."
        ),
        repairs=(Repair("Repair a qcow2 image itself", ("qemu-img check -f qcow2 -r all image.qcow2",)),),
    ),
    "encrypted": Remedy(
        "upload a decrypted copy, or allow encrypted images in the policy if their users have the key",
        why="Keyhole and the importer cannot see what the disk contains, and a cloud cannot boot it.",
        cause="The disk or an archive's member was encrypted on purpose.",
        check="`keyhole inspect` shows `encryption` for an image that states it.",
        repair=(
            "Decrypt a copy where the key is. `key.txt` contains the passphrase without a line break. If "
            'encrypted images are expected, set `encrypted = "info"` in the rule\'s severities.'
        ),
        repairs=(
            Repair(
                "Decrypt a qcow2 image",
                (
                    (
                        "qemu-img convert --object secret,id=k,file=key.txt --image-opts "
                        "driver=qcow2,file.filename=image.qcow2,encrypt.key-secret=k -O qcow2 plain.qcow2"
                    ),
                ),
            ),
            Repair(
                "Decrypt a LUKS volume",
                (
                    (
                        "qemu-img convert --object secret,id=k,file=key.txt --image-opts "
                        "driver=luks,file.filename=image.luks,key-secret=k -O qcow2 plain.qcow2"
                    ),
                ),
            ),
        ),
    ),
    "snapshots": Remedy(
        "nothing needs to be done; to drop the snapshots, convert the image",
        why=(
            "Internal snapshots hold old states of the disk, which can contain deleted secrets. They make "
            "the image larger. They do not change what the guest reads."
        ),
        cause="`qemu-img snapshot -c`, `savevm` or libvirt made a snapshot inside the image.",
        check="`qemu-img snapshot -l` lists the snapshots.",
        repair="A conversion copies only the current state.",
        repairs=(
            Repair(
                "Copy the current state only",
                ("qemu-img convert -f qcow2 -O qcow2 image.qcow2 current.qcow2",),
            ),
        ),
    ),
    "unsupported_subformat": Remedy(
        "convert the image into a common variant of its format, such as a monolithic VMDK or qcow2",
        why="Keyhole cannot find out the disk's size or whether it is whole, so it cannot call it safe.",
        cause=(
            "The object is one extent of a split disk, a backup (VMA, XVA), a rare variant, or compressed by "
            "a rare method."
        ),
        check="The finding states the variant.",
        repair=(
            "Convert the whole disk where all its files are; open the file that describes the disk, not an "
            "extent. Restore a backup of Proxmox VE with `vma extract` first, and export an XVA's disks with "
            "XenServer."
        ),
        repairs=(
            Repair(
                "Join a split VMDK into one file",
                ("qemu-img convert -f vmdk -O vmdk -o subformat=streamOptimized image.vmdk one.vmdk",),
            ),
            Repair(
                "Compress again with a supported method", ("lz4 -dc image.raw.lz4 | gzip > image.raw.gz",)
            ),
        ),
    ),
}
