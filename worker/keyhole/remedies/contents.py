"""Remedies for images that are ambiguous, damaged, hostile archives, or not what the policy accepts."""

from typing import Final

from keyhole.remedies.remedy import Remedy, Repair

CONTENTS: Final[dict[str, Remedy]] = {
    "member_path": Remedy(
        "refuse the archive if its origin is not trusted; otherwise pack only its plain files again",
        why=(
            "A program that unpacks the archive can write outside the folder that it unpacks to, or read a "
            "file of the host through a link."
        ),
        cause=(
            "The archive was made to attack the program that unpacks it, or it was packed with absolute "
            "paths or with links to files outside."
        ),
        check="`tar -tvf` and `unzip -l` list the members with their paths and links, and unpack nothing.",
        repair="Extract only the disk, by its name and to standard output, and upload or pack it alone.",
        repairs=(
            Repair(
                "Take one disk out of a tar archive without unpacking it",
                ("tar -xOf image.tar disk.raw > disk.raw",),
            ),
        ),
    ),
    "ovf_reference": Remedy(
        "pack the OVA again with every file that its OVF names, or export the machine again",
        why=(
            "The importer does not find a disk. If the name leads outside the archive, a hostile OVF makes "
            "the importer open a file of the host."
        ),
        cause="A file was renamed or left out when the archive was packed, or the upload lacks its end.",
        check="Compare `tar -tf` with the elements `File` in the OVF.",
        repair="Put all files into one folder, and pack them with the OVF first.",
        repairs=(
            Repair(
                "Pack an OVA with GNU tar, the OVF first",
                ("tar --format=ustar -cf packed.ova machine.ovf disk.vmdk",),
            ),
        ),
    ),
    "ambiguous_format": Remedy(
        "refuse the object; if you made it yourself, convert the image with `-f FORMAT`, or pack it again",
        why=(
            "Two programs read two different disks, or different members, from the same bytes. What one "
            "program checked is not what the other program uses."
        ),
        cause=(
            "Usually somebody made it on purpose. It can also be what remains of an older image: for "
            "example, a new disk label on a device that had another file system before."
        ),
        check="The finding names both interpretations. Ask the uploader which one is meant.",
        repair=(
            "Convert the image, and name its format with `-f`, so that the tool does not guess. Unpack an "
            "archive and pack it again. Old superblocks can be removed with `wipefs`, on a copy."
        ),
        repairs=(
            Repair(
                "Write a new qcow2 image from what qemu-img reads as qcow2",
                ("qemu-img convert -f qcow2 -O qcow2 image.qcow2 one-format.qcow2",),
            ),
        ),
    ),
    "metadata_overlap": Remedy(
        "refuse the image if its origin is not trusted; otherwise restore it from its source",
        why=(
            "A guest that writes to such an image can change the image's own tables, and so reach data that "
            "are not its own. Two sectors of the disk can also share one place."
        ),
        cause="A bug, a disk error or a repeated write damaged the tables, or somebody made them so.",
        check="`qemu-img check` reports overlaps in a qcow2 image. It changes nothing without `-r`.",
        repair="Copy the disk again from its source, or read it once and write a new image from it.",
        repairs=(
            Repair(
                "Write a new image from what the maps point to; the content can be wrong",
                ("qemu-img convert -f qcow2 -O qcow2 image.qcow2 copied.qcow2",),
            ),
        ),
    ),
    "trailing_data": Remedy(
        "cut off the data after the end, or pack the archive again; ask where they come from",
        why=(
            "Some programs ignore data after the end, others read them, even as a second archive. They can "
            "also be the rest of an upload that was joined wrongly."
        ),
        cause="A file was appended to another, a download contains two answers, or a tool pads its output.",
        check="The finding states where the data begin. `tail -c` and `xxd` show them.",
        repair="Decompress or unpack the part that counts, and compress or pack it again.",
        repairs=(
            Repair(
                "Compress again without the data after the end; gzip warns about them and ends with status 2",
                ("gzip -dc image.raw.gz > image.raw || test $? = 2", "gzip -c image.raw > clean.raw.gz"),
            ),
        ),
    ),
    "member_limit": Remedy(
        "upload the disks themselves, or an archive that contains only them",
        why="Keyhole inspects a limited number of members and layers, so it has not seen all of the archive.",
        cause="The archive contains a folder with thousands of files, or archives inside archives.",
        check="`tar -tf image.tar | wc -l` counts the members.",
        repair="Extract the disk, and upload it alone or in an archive of its own.",
        repairs=(
            Repair(
                "Take one disk out of a tar archive",
                ("tar -xOf image.tar disk.raw > disk.raw",),
            ),
        ),
    ),
    "decompression_bomb": Remedy(
        "refuse the object; never decompress it outside a sandbox with a limit",
        why="A program that decompresses it runs out of disk, memory or time.",
        cause=(
            "It was made for that purpose. A compressed disk that contains only zeros looks the same, and is "
            "of no use either."
        ),
        check="Decompress at most a limited part: `gzip -dc image.gz | head -c 1G | wc -c`.",
        repair=(
            "Ask the uploader for the image itself. An archive whose members overlap must be packed again."
        ),
    ),
    "nested_compression": Remedy(
        "remove one layer of compression",
        why="Importers decompress once, and then find compressed data where a disk should be.",
        cause="A compressed file was compressed again, often by a pipeline or by a web server.",
        check="`keyhole inspect` names both layers in the finding.",
        repair="Decompress once, and upload the result.",
        repairs=(Repair("Remove the outer layer", ("gzip -dc image.raw.gz.gz > image.raw.gz",)),),
    ),
    "truncated": Remedy(
        "upload the image again, completely; compare its size and checksum with the source",
        why="The end is missing. The disk loses data, and many programs notice it only when they read there.",
        cause=(
            "An upload or a download stopped, a disk was full, a multipart upload was completed without its "
            "last part, or an image was cut on purpose so that it does not match its own header."
        ),
        check=(
            "Compare the object's size with the size of the file at its source. If the upload stated a "
            "checksum, `aws s3api head-object --checksum-mode ENABLED` shows it, in base64."
        ),
        repair=(
            "Repeat the upload, and let S3 compare a checksum. Do not fill the end with zeros: the image "
            "then looks whole, and its data are still missing."
        ),
        repairs=(
            Repair(
                "Upload again, so that S3 refuses a part that arrives changed",
                ("aws s3 cp image.qcow2 s3://BUCKET/KEY --checksum-algorithm SHA256",),
            ),
        ),
    ),
    "checksum_mismatch": Remedy(
        "copy or upload the image again; if the source is equally wrong, repair a copy",
        why="Bytes of a structure changed after a program wrote it, so nothing else there can be trusted.",
        cause="A damaged disk or memory, a transfer in text mode, or a tool that changed the image by hand.",
        check="Run the format's own check on a copy: `sgdisk -v`, `qemu-img check`, `gzip -t`, `xz -t`.",
        repair="Prefer an intact copy. A GPT can be written again from its other copy on the disk.",
        repairs=(
            Repair(
                "Write the main GPT again from its intact backup, in the image itself",
                ("sgdisk -e image.raw",),
            ),
        ),
    ),
    "structure": Remedy(
        "export or upload the image again from its source; do not import it as it is",
        why=(
            "The image contradicts itself, so programs read different things from it, or crash. Hostile "
            "images do this to reach bugs in programs."
        ),
        cause="A bug of the program that wrote the image, an edit by hand, damage, or an attack.",
        check="The finding states which fields contradict each other. Run `qemu-img check` or `sgdisk -v`.",
        repair=(
            "Write the image again with a common tool. A disk whose size was changed needs a GPT with its "
            "backup at the new end."
        ),
        repairs=(Repair("Move the backup GPT to the end of the disk", ("sgdisk -e image.raw",)),),
    ),
    "size_mismatch": Remedy(
        "convert the image once more, so that all its fields state the same size",
        why="Programs disagree about the disk's size: one cuts off its end, another reads beyond it.",
        cause=(
            "QEMU writes a VHD whose geometry is rounded, a disk was resized by a tool that changed one "
            "field only, or an OVF was edited."
        ),
        check=(
            "`keyhole inspect` shows both sizes; `details` has `current_size` and `geometry_size` of a VHD."
        ),
        repair="Convert with an exact size. Correct the capacity in the OVF, or export the machine again.",
        repairs=(
            Repair(
                "Write a VHD of the size that Hyper-V and Azure use, with all its data",
                (
                    (
                        "qemu-img convert --image-opts "
                        "driver=vpc,force_size_calc=current_size,file.filename=image.vhd "
                        "-O vpc -o subformat=fixed,force_size=on exact.vhd"
                    ),
                ),
            ),
        ),
    ),
    "banned_format": Remedy(
        "convert the image into what the finding names as accepted, or change the policy",
        why="The importer for which the policy was written refuses the format, or reads it wrongly.",
        cause="The image was made for another cloud or another hypervisor.",
        check=(
            "The finding names the formats and variants that the policy accepts. "
            "`keyhole policy show PROFILE` lists all of them and names the sources."
        ),
        repair="Convert the image; name its present format with `-f`.",
        repairs=(
            Repair(
                "For QEMU, OpenStack and KubeVirt: qcow2",
                ("qemu-img convert -f qed -O qcow2 image.qed converted.qcow2",),
            ),
            Repair(
                "For VMware and for AWS VM Import: a stream-optimized VMDK",
                (
                    (
                        "qemu-img convert -f qcow2 -O vmdk -o subformat=streamOptimized image.qcow2 "
                        "converted.vmdk"
                    ),
                ),
            ),
            Repair(
                "For Azure: a fixed VHD; write your size in whole MiB, at least 20M, in place of 8M",
                (
                    "qemu-img resize -f raw image.raw 8M",
                    "qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on image.raw azure.vhd",
                ),
            ),
            Repair(
                "For Google Cloud: a tar archive of disk.raw, compressed with gzip",
                (
                    "qemu-img convert -f qcow2 -O raw image.qcow2 disk.raw",
                    "qemu-img resize -f raw disk.raw 1G",
                    "tar --format=oldgnu -Sczf image.tar.gz disk.raw",
                ),
            ),
        ),
    ),
    "virtual_size_limit": Remedy(
        "make the disk smaller or raise `max_virtual_size`; if the size is unknown, convert the disk",
        why="The importer refuses larger disks, or a disk whose size is unknown fills a host.",
        cause=(
            "The disk was created larger than its content needs, or its image states a wrong size or none. "
            "For example, the descriptor of a VMDK can name a file of the host whose size it does not state."
        ),
        check="`keyhole inspect` shows the virtual size; `keyhole policy show` shows the limit.",
        repair=(
            "If the size is unknown, convert the disk from its source. Otherwise shrink the last file system "
            "and its partition inside the guest first: what is beyond the new end is lost. Then shrink the "
            "image, and move the backup GPT to the new end."
        ),
        repairs=(
            Repair(
                "Shrink a raw disk whose end is not used",
                ("qemu-img resize -f raw --shrink image.raw 8M", "sgdisk -e image.raw"),
            ),
        ),
    ),
    "virtual_size_multiple": Remedy(
        "enlarge the disk to the next multiple of the size that the policy requires",
        why="The importer, such as Azure's, refuses a disk of another size.",
        cause="qemu-img rounds the size of a VHD to whole cylinders unless told otherwise.",
        check="`keyhole inspect` shows the virtual size in bytes.",
        repair="Convert the image to raw, enlarge it, and convert it with an exact size.",
        repairs=(
            Repair(
                "Enlarge a VHD to whole MiB, here 9 MiB, as a fixed VHD",
                (
                    "qemu-img convert -f vpc -O raw image.vhd image.raw",
                    "qemu-img resize -f raw image.raw 9M",
                    "qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on image.raw azure.vhd",
                ),
            ),
        ),
    ),
    "format_mismatch": Remedy(
        "correct the declared format, or refuse the object if it is declared raw and its origin unknown",
        why=(
            "An importer that believes the declaration treats the image's header as content of a raw disk. "
            "The guest can then write a header that names files of the host, for the next program that "
            "detects formats."
        ),
        cause="The uploader gave a wrong `disk_format`, content type, content encoding or suffix, or lied.",
        check="`aws s3api head-object` shows the metadata, the content type and the content encoding.",
        repair="Replace the metadata with the real format. Copying the object onto itself does that.",
        repairs=(
            Repair(
                "State the real format",
                (
                    (
                        "aws s3 cp s3://BUCKET/KEY s3://BUCKET/KEY --metadata disk_format=qcow2 "
                        "--content-type application/octet-stream --metadata-directive REPLACE"
                    ),
                ),
            ),
        ),
    ),
}
