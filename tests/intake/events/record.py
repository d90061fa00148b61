"""Records the messages that storages send: `python -m tests.intake.events.record` overwrites the files."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import boto3
from moto.server import ThreadedMotoServer

from tests.servers.ceph_rgw import ceph_rgw

RECORDED = Path(__file__).parent / "recorded"
#: A key that becomes another key with every decoding and encoding.
KEY = "a/b c+ü%2F.img"
BUCKET = "images"
BOUNDARY = "a-boundary"

Client = Callable[[str], Any]
#: The messages delivered since the last call.
Drain = Callable[[], list[str]]


def clients(url: str) -> Client:
    """Clients of all services of one server."""
    access = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client: Any = boto3.client  # boto3's overloads accept only literal service names
    return lambda service: client(service, endpoint_url=url, **access)


def acts(s3: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    """Actions in the bucket, by name."""
    source = {"Bucket": BUCKET, "Key": KEY}
    yield "put", lambda: s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"0123456789")
    yield "copy", lambda: s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)
    yield "multipart", lambda: upload_in_parts(s3)
    yield "post", lambda: post(s3)
    yield "folder", lambda: s3.put_object(Bucket=BUCKET, Key="folder/", Body=b"")
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    yield "tags", lambda: s3.put_object_tagging(**source, Tagging=tags)
    yield "delete", lambda: s3.delete_object(**source)
    yield "delete version", lambda: delete_version(s3)


def upload_in_parts(s3: Any) -> None:
    upload = {"Bucket": BUCKET, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = s3.upload_part(**upload, PartNumber=1, Body=b"0123456789")
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def post(s3: Any) -> None:
    form = s3.generate_presigned_post(BUCKET, "posted")
    fields = {**form["fields"], "file": "0123"}
    body = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
        f"{'; filename=a' if name == 'file' else ''}\r\n\r\n{value}\r\n"
        for name, value in fields.items()
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    with urlopen(Request(form["url"], f"{body}--{BOUNDARY}--\r\n".encode(), headers)):  # noqa: S310 - the server of this test
        pass


def delete_version(s3: Any) -> None:
    """Delete the oldest version, if the bucket has versions."""
    versions = s3.list_object_versions(Bucket=BUCKET, Prefix=KEY).get("Versions", [])
    if versions:
        s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=versions[-1]["VersionId"])


def record(s3: Any, drains: dict[str, Drain]) -> None:
    """Do all actions, first without versions, then with versions, and write each way's messages to a file."""
    messages: dict[str, dict[str, Any]] = {way: {} for way in drains}
    for prefix in ("", "versioned "):
        if prefix:
            s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        for name, act in [("configure", dict), *acts(s3)]:
            act()
            for way, drain in drains.items():
                for number, body in enumerate(drain(), 1):
                    messages[way][f"{prefix}{name}{f' {number}' if number > 1 else ''}"] = json.loads(body)
    for way, recorded in messages.items():
        text = json.dumps(recorded, indent=1, ensure_ascii=False)
        (RECORDED / f"{way}.json").write_text(f"{text}\n", encoding="utf-8")


def record_moto() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = clients(f"http://{host}:{port}")
    s3, sqs, sns, events = client("s3"), client("sqs"), client("sns"), client("events")
    ways = ("moto-sqs", "moto-sns", "moto-eventbridge")
    urls = {way: sqs.create_queue(QueueName=way)["QueueUrl"] for way in ways}
    arns = {
        way: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        for way, url in urls.items()
    }

    def drain(url: str) -> list[str]:
        bodies = []
        while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in received:
                bodies.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arns["moto-sns"])
    events.put_rule(Name="rule", EventPattern=json.dumps({"source": ["aws.s3"]}))
    events.put_targets(Rule="rule", Targets=[{"Id": "1", "Arn": arns["moto-eventbridge"]}])
    s3.create_bucket(Bucket=BUCKET)
    told = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*"]
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [{"Id": "queue", "QueueArn": arns["moto-sqs"], "Events": told}],
            "TopicConfigurations": [{"Id": "topic", "TopicArn": topic, "Events": told}],
            "EventBridgeConfiguration": {},
        },
    )
    record(s3, {way: lambda url=url: drain(url) for way, url in urls.items()})  # type: ignore[misc]
    server.stop()


@contextmanager
def webhook() -> Iterator[tuple[str, Drain]]:
    """A server that stores the requests that clients post to it."""
    bodies: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    def drain() -> list[str]:
        taken = bodies.copy()
        bodies.clear()
        return taken

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", drain
        server.shutdown()


def record_ceph() -> None:
    with TemporaryDirectory() as folder, ceph_rgw(Path(folder)) as rgw, webhook() as (url, drain):
        client = clients(rgw.url)
        s3 = client("s3")
        topic = client("sns").create_topic(Name="topic", Attributes={"push-endpoint": url})["TopicArn"]
        s3.create_bucket(Bucket=BUCKET)
        told = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET,
            NotificationConfiguration={
                "TopicConfigurations": [{"Id": "topic", "TopicArn": topic, "Events": told}]
            },
        )
        record(s3, {"ceph": drain})


if __name__ == "__main__":
    record_moto()
    record_ceph()
