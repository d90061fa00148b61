"""Remedies for scans that failed because of S3, the network or Keyhole itself."""

from typing import Final

from keyhole.reasons import Reason
from keyhole.remedies.remedy import Remedy

#: What all failures have in common.
_UNDECIDED: Final = "The object is undecided. Nothing is known about it, so it must not be used yet."
_RETRY: Final = "Then `keyhole dead retry` scans the objects again that became dead letters."

FAILURES: Final[dict[str, Remedy]] = {
    Reason.CREDENTIALS: Remedy(
        "give Keyhole valid credentials for S3, and scan again",
        why=_UNDECIDED,
        cause="There are no credentials, they expired, or they belong to another S3 server.",
        check="`keyhole doctor` shows where the credentials come from and what S3 answers.",
        repair=f"Keyhole finds credentials where the AWS command finds them: see `keyhole docs s3`. {_RETRY}",
    ),
    Reason.CLOCK: Remedy(
        "set this machine's clock, for example by NTP, and scan again",
        why=_UNDECIDED,
        cause="S3 refuses requests whose signature is more than 15 minutes old or early.",
        check="`date -u` and the `Date` that S3 answers differ; `keyhole doctor` reports it.",
        repair=f"Set the clock of the machine, not of the container. {_RETRY}",
    ),
    Reason.REQUEST: Remedy(
        "correct the configuration that the error names, and scan again",
        why=_UNDECIDED,
        cause="A wrong endpoint, region, addressing style, proxy or certificate, or an unsupported server.",
        check="The report's `error` states what S3 answered. `keyhole doctor` tries each step.",
        repair=f"`keyhole docs s3` and `keyhole docs settings` describe the settings. {_RETRY}",
    ),
    Reason.NETWORK: Remedy(
        "repair the network between this machine and S3, and scan again",
        why=_UNDECIDED,
        cause="The name of the host is unknown, a firewall blocks it, or connections break off.",
        check="`keyhole doctor` connects to S3. `keyhole docs s3` lists the hosts for a firewall.",
        repair=f"Open the firewall, or set a proxy. {_RETRY}",
    ),
    Reason.SERVER_ERROR: Remedy(
        "wait until S3 works again, and scan again",
        why=_UNDECIDED,
        cause="S3 has a disturbance, or a proxy in front of it answers with errors.",
        check="Look at the provider's status page, and try one object with `keyhole inspect`.",
        repair=f"Keyhole retries by itself until `KEYHOLE_UNDECIDED_SECONDS` have passed. {_RETRY}",
    ),
    Reason.SLOW_DOWN: Remedy(
        "lower `KEYHOLE_AUDIT_RATE` or the number of workers, and scan again",
        why=_UNDECIDED,
        cause="S3 limits the requests per second of a prefix, and all clients of the bucket share them.",
        check="The report's `error` contains S3's answer, such as `SlowDown`.",
        repair=f"Lower the rate, and scan large buckets at quiet hours. {_RETRY}",
    ),
    Reason.TRUNCATED_BODY: Remedy(
        "look for a proxy or a network that cuts answers off, and scan again",
        why=f"{_UNDECIDED} The object itself need not be cut off.",
        cause="A proxy, a broken connection or a faulty server ended the answers early.",
        check=(
            "Read the object directly: `aws s3api get-object --range bytes=0-1048575`, and count the bytes."
        ),
        repair=f"Bypass the proxy, or repair the server. {_RETRY}",
    ),
    Reason.WRONG_RANGE: Remedy(
        "look for a proxy or a cache that answers with wrong ranges, and scan again",
        why=f"{_UNDECIDED} A wrong range would make Keyhole judge the wrong bytes, so it refuses it.",
        cause="A cache ignores the header `Range` or the version, or the server has a bug.",
        check="`curl -r 100-109 -D - -o /dev/null URL` must show `Content-Range: bytes 100-109/…`.",
        repair=f"Bypass the cache with `KEYHOLE_S3_ENDPOINT_URL`. {_RETRY}",
    ),
    Reason.WORKER_LOST: Remedy(
        "find out why workers end before they finish, and retry the dead letter",
        why=_UNDECIDED,
        cause="Workers were killed for their memory, stopped too early, or lost their connection to Redis.",
        check="`keyhole status` shows the workers. Look for OOM kills in the system's log.",
        repair=f"Give the workers more memory, or time to stop: see `keyhole docs operations`. {_RETRY}",
    ),
    Reason.POISON: Remedy(
        "keep the object out of use, look at its dead letter, and report it: an image should never do this",
        why="Three processes died or hung while they scanned it. It can be an attack on Keyhole.",
        cause="A bug in Keyhole or in a library, or too little memory for the worker.",
        check="`keyhole dead show` shows the code that ran. Inspect the object in an isolated container.",
        repair=(
            "Update Keyhole, and report the object as `SECURITY.md` describes. Then retry the dead letter."
        ),
    ),
    Reason.MEMORY: Remedy(
        "raise `KEYHOLE_MEMORY_BYTES`, or lower `KEYHOLE_SCAN_THREADS`, and scan again",
        why=_UNDECIDED,
        cause="Several scans at once needed large buffers, for example for compressed images.",
        check="`keyhole docs settings` states what a process needs.",
        repair=f"Give each process more memory, or let it scan fewer objects at once. {_RETRY}",
    ),
    Reason.RATE: Remedy(
        "raise the audit's rate, or run fewer audits of the bucket at the same time",
        why=_UNDECIDED,
        cause="Several audits share the bucket's limit, `KEYHOLE_AUDIT_RATE`.",
        check="`keyhole audits` lists the audits that are running.",
        repair=f"Change `KEYHOLE_AUDIT_RATE`, or let one audit follow another. {_RETRY}",
    ),
    Reason.INTERNAL_ERROR: Remedy(
        "report the bug with the dead letter's details, and keep the object out of use",
        why=f"{_UNDECIDED} Keyhole made a mistake, not the object's owner.",
        cause="A bug in Keyhole. A hostile image can be what reveals it.",
        check="`keyhole dead show` and the worker's log show where it happened.",
        repair=f"Update Keyhole. {_RETRY}",
    ),
}
