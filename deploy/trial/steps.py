"""The steps of deploy/try.py that need boto3 or the network of the services.

    steps.py upload S3_URL FIRST LAST     uploads objects to the demo's bucket
    steps.py tags S3_URL                  prints the status in the tags of each uploaded object
    steps.py query PROMETHEUS_URL EXPR    prints the result of a query

Each step prints one JSON document. try.py passes this file on standard input to a Python in the container of
the local S3, or on this machine.
"""

import json
import sys
import urllib.parse
import urllib.request

PREFIX = "trial/"


def upload(s3_url: str, first: str, last: str) -> dict[str, int]:
    """Upload VDI images. Every tenth image needs a parent image, and so is unsafe.

    The demo's own samples contain no unsafe VDI.
    """
    from uuid import UUID

    from keyhole.builders import vdi
    from keyhole.demo.local_s3 import BUCKET, demo_client

    client = demo_client(s3_url)
    safe = vdi(1024**3).to_bytes()
    unsafe = vdi(1024**3, image_type=4, parent_uuid=UUID(int=1)).to_bytes()
    for number in range(int(first), int(last)):
        body = unsafe if number % 10 == 9 else safe
        client.put_object(Bucket=BUCKET, Key=f"{PREFIX}{number:03}.vdi", Body=body)
    return {"uploaded": int(last) - int(first)}


def tags(s3_url: str) -> dict[str, str | None]:
    """Return the status in the tags of each uploaded object."""
    from keyhole.demo.local_s3 import BUCKET, demo_client

    client = demo_client(s3_url)
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=PREFIX)["Contents"]
    result = {}
    for each in found:
        of_object = client.get_object_tagging(Bucket=BUCKET, Key=each["Key"])["TagSet"]
        result[each["Key"]] = {tag["Key"]: tag["Value"] for tag in of_object}.get("keyhole-status")
    return result


def query(prometheus_url: str, expression: str) -> list[dict[str, object]]:
    """Return the labels and the value of each series of a query's result."""
    url = f"{prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - try.py chooses the URL
        result = json.load(answer)["data"]["result"]
    return [{"labels": each["metric"], "value": each["value"][1]} for each in result]


if __name__ == "__main__":
    step = {"upload": upload, "tags": tags, "query": query}[sys.argv[1]]
    print(json.dumps(step(*sys.argv[2:])))
