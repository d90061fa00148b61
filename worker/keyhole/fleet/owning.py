"""Finds the owner of a scanned object, if the audit of the object has an owner tag.

If the worker writes the verdict as tags, it reads the object's tags for that purpose, and the owner is in
these tags. Otherwise, the worker reads the tags with one request. If the tags cannot be read, the owner is
unknown; the verdict does not depend on the owner.
"""

from collections.abc import Callable

from keyhole.fleet.observing import request_failed
from keyhole.fleet.services import Services
from keyhole.jobs.job import ScanJob
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.results.owner import Owner
from keyhole.results.owner_reading import OwnerReading, tags_of
from keyhole.results.tag_writer import Address, TagRequest
from keyhole.sources.errors import SourceError


def found_owner(
    services: Services,
    reading: OwnerReading,
    job: ScanJob,
    key: str,
    *,
    rate: float,
    asked: Callable[[TagRequest], object],
) -> Owner:
    """Return the owner of a job's object. If `reading` does not know the owner, read the object's tags.

    Args:
        services: The services of this process.
        reading: What is known from the requests that wrote the object's tags.
        job: The job.
        key: The object's key; a job can have two.
        rate: The maximum number of requests per second to the bucket; 0 for no limit.
        asked: Called before every request to S3.
    """
    if reading.owner is not None:
        return reading.owner
    # Read the current version unless the job names a version: reading the tags of a version requires another
    # permission.
    address = Address(Bucket=job.bucket, Key=key)
    if job.version_id:
        address["VersionId"] = job.version_id
    rate_limiter = RateLimiter(services.redis, job.bucket, rate)

    def before() -> None:
        rate_limiter()
        asked(TagRequest.READ)

    try:
        return reading.learn(tags_of(services.s3.client, address, before, request_failed))
    except SourceError as error:
        return reading.learn(error)
