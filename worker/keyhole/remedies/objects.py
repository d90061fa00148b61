"""Remedies for objects that are not images, are not decided, or cannot be read."""

from typing import Final

from keyhole.reasons import Reason
from keyhole.remedies.remedy import Remedy, Repair

OBJECTS: Final[dict[str, Remedy]] = {
    Reason.NOT_AN_IMAGE: Remedy(
        "upload the image itself, or leave such objects out of the scan",
        why="An importer would use the file as a raw disk that contains no file system.",
        cause="A text, a PDF, a picture, a web page with an error, or a manifest lies among the images.",
        check="`keyhole inspect` shows the `mime type` that Keyhole recognised.",
        repair=(
            "If the object should be an image, download and upload it again. If it belongs there, select the "
            "images of an audit with `--include`."
        ),
    ),
    Reason.NO_KNOWN_FORMAT: Remedy(
        "find out which program wrote the object, and convert it into a known format",
        why=(
            "Without a format, nothing states the disk's size and content. It may be random or encrypted "
            "data."
        ),
        cause=(
            "The format is one that Keyhole does not know, the beginning is damaged, the object is encrypted "
            "by its uploader, or it is a raw disk without partitions or a file system that Keyhole knows."
        ),
        check="`keyhole docs formats` lists the formats. `file` and `xxd` show how the object begins.",
        repair="Convert the image with the program that wrote it, for example into qcow2.",
    ),
    Reason.ZEROS: Remedy(
        "check whether the upload was complete; if an empty disk is meant, create a partition table or qcow2",
        why="A disk that contains only zeros cannot boot. It is often the sign of a failed copy.",
        cause="The image was created and never filled, a sparse file lost its content, or an upload failed.",
        check="At the source: `cmp -n 1048576 image.raw /dev/zero` finds the first byte that is not zero.",
        repair="Upload the filled disk. An empty disk can be stored as qcow2, whose header states its size.",
        repairs=(
            Repair(
                "Store an empty disk as qcow2", ("qemu-img convert -f raw -O qcow2 image.raw empty.qcow2",)
            ),
        ),
    ),
    Reason.EMPTY: Remedy(
        "upload the object again; it has no bytes",
        why="There is nothing to import.",
        cause="An upload failed, the source file was empty, or the object marks a folder.",
        check="`aws s3api head-object` shows the length 0.",
        repair="Repeat the upload. Leave marks of folders out of an audit with `--min-size 1`.",
    ),
    Reason.SIZE_UNKNOWN: Remedy(
        "write the image again with a tool that records the disk's size",
        why="The importer cannot know how much space the disk needs, and limits on the size are not checked.",
        cause="The header states the size zero, or the image is of a variant that does not state it.",
        check="`qemu-img info` shows the virtual size that QEMU would use.",
        repair="Convert the disk from its source.",
    ),
    Reason.WHOLENESS_UNCHECKED: Remedy(
        "store the image in a format that records where it ends, or relax `wholeness` in the policy",
        why="Nothing in the object proves that its end is there, so a cut upload would look the same.",
        cause=(
            "The format does not record its end (LUKS, ASIF), or the policy wants more proof than Keyhole "
            "finds within its limits."
        ),
        check="`keyhole docs formats` states the evidence for each format. Compare sizes with the source.",
        repair=(
            'Convert the image, for example into qcow2, or set `wholeness = "unchecked"` in a rule for '
            "objects whose checksum was compared in another way."
        ),
    ),
    Reason.MISSED: Remedy(
        "inspect the object in S3 or as a file, so that Keyhole can read it by ranges",
        why="The needed tables lie before a place that the stream had already passed.",
        cause="The object was inspected as a stream, for example by `keyhole inspect -`.",
        check="The report's `target` is `-` or a stream.",
        repair="Save the stream to a file or to S3, and inspect that.",
    ),
    Reason.BUDGET: Remedy(
        "raise the budget of the scan (`KEYHOLE_BUDGET_…`), and scan the object again",
        why="Keyhole stopped before it had seen everything that the verdict depends on.",
        cause=(
            "S3 was slow, the image is very fragmented, it was made to be expensive, or the policy asks for "
            "all maps."
        ),
        check="The report's `requests`, `bytes_read` and `elapsed_ms` show which budget ran out.",
        repair=(
            "Scan again with a larger budget, as `keyhole docs settings` describes. If the image is hostile, "
            "leave it undecided: it is not safe to use."
        ),
    ),
    Reason.DECOMPRESSION_LIMIT: Remedy(
        "set `decompress` in the policy's rule, or upload the image uncompressed",
        why="The end of the image is in compressed data that Keyhole did not decompress.",
        cause=(
            "The policy does not allow Keyhole to decompress, or the object expands to more than it allows."
        ),
        check="`keyhole policy show` shows `decompress`. `xz -l` and `zstd -l` show the expanded size.",
        repair=(
            'Set, for example, `decompress = "64 GiB"` in the rule. Or upload a format that is compressed '
            "inside, such as qcow2."
        ),
        repairs=(
            Repair(
                "Store the disk as compressed qcow2",
                (
                    "gzip -dc image.raw.gz > image.raw",
                    "qemu-img convert -c -f raw -O qcow2 image.raw small.qcow2",
                ),
            ),
        ),
    ),
    Reason.OBJECT_CHANGED: Remedy(
        "wait until nobody writes to the object any more, and scan it again",
        why="Each attempt read parts of two different contents.",
        cause="A program replaces the object every few seconds.",
        check="`aws s3api head-object` shows a new `LastModified` each time.",
        repair="Stop the writer, and submit the object again: `keyhole submit s3://BUCKET/KEY`.",
    ),
    Reason.NOT_FOUND: Remedy(
        "check the name and, in S3, the version; upload it if it is missing",
        why="There is nothing to inspect.",
        cause="The object was deleted or renamed after it was listed, or the key was mistyped.",
        check="`aws s3 ls s3://BUCKET/PREFIX` lists what is there. Keys are case-sensitive.",
        repair="Correct the key. Quote a key that contains blanks or signs of the shell.",
    ),
    Reason.DELETE_MARKER: Remedy(
        "scan an older version by its id, or remove the delete marker to restore the object",
        why="The object counts as deleted, although its older versions still exist.",
        cause="Someone deleted the object in a bucket with versions.",
        check="`aws s3api list-object-versions --bucket BUCKET --prefix KEY` lists versions and markers.",
        repair="Give `--version-id` to `keyhole inspect`, or delete the marker.",
    ),
    Reason.ACCESS_DENIED: Remedy(
        "allow Keyhole's role `s3:GetObject`, in the bucket's policy too, and `kms:Decrypt` if KMS encrypts",
        why="Keyhole cannot read the object, so it knows nothing about it.",
        cause=(
            "The role, the bucket's policy, the key of KMS or an access point denies it. Without "
            "`s3:ListBucket`, S3 also answers so if the object is missing."
        ),
        check="`keyhole doctor` names the permission that S3 denies.",
        repair="`keyhole docs security` lists the permissions and why each is needed.",
    ),
    Reason.BUCKET_NOT_ALLOWED: Remedy(
        "add the bucket to `KEYHOLE_BUCKETS` if Keyhole should scan it",
        why="Keyhole sent no request, because the operator limited it to certain buckets.",
        cause="An event, an audit or a command named another bucket.",
        check="`keyhole doctor` shows the allowed buckets.",
        repair="Change `KEYHOLE_BUCKETS`, and start the workers again.",
    ),
    Reason.ADDRESS_NOT_ALLOWED: Remedy(
        "use an https:// URL with a public address, or allow others with `--allow-private`",
        why="Keyhole sent no request, because the URL could lead to a server inside your network.",
        cause="The URL, or a redirect, has a private address or `http://`, or the environment names a proxy.",
        check="The error in the report names the address.",
        repair="If you trust everyone who chooses the URLs, set `KEYHOLE_HTTPS_PRIVATE=true`.",
    ),
    Reason.ARCHIVED: Remedy(
        "restore the object from its archive, and scan it again",
        why="S3 cannot read an object in Glacier or Deep Archive before it is restored.",
        cause="A lifecycle rule or the uploader moved the object to an archive class.",
        check="`aws s3api head-object` shows `StorageClass` and `Restore`.",
        repair="Restoring costs money and takes minutes to hours. Then submit the object again.",
    ),
    Reason.CUSTOMER_KEY: Remedy(
        "store the object with SSE-S3 or SSE-KMS in place of the customer's key",
        why=(
            "S3 decrypts the object only for a request that contains the customer's key, which Keyhole lacks."
        ),
        cause="The uploader chose SSE-C.",
        check="`aws s3api head-object` without the key fails with status 400.",
        repair="The owner of the key copies the object onto itself without SSE-C.",
    ),
    Reason.RANGE_IGNORED: Remedy(
        "use an S3 server or a proxy that answers range requests with status 206",
        why="Keyhole reads a few ranges of an object. It does not read whole images to get at their end.",
        cause="A proxy, a cache or a simple server in front of S3 removes the header `Range`.",
        check="`curl -r 0-9 -o /dev/null -w '%{http_code}' URL` must print 206.",
        repair="Bypass the proxy with `KEYHOLE_S3_ENDPOINT_URL`, or scan the object as a stream.",
    ),
    Reason.UNREADABLE_FILE: Remedy(
        "check the file's path, type and permissions",
        why="Keyhole cannot open the file, so it knows nothing about it.",
        cause="The file is missing, is a folder or a pipe, or belongs to another user.",
        check="`ls -l` shows its type and permissions.",
        repair="Correct the path, or run the command as a user who may read the file.",
    ),
}
