"""Receives webhooks, verifies their signatures, and prints a line for each: `receiver.py HOST PORT`.

KEYHOLE_WEBHOOK_SECRET is the secret that the sender uses. The program uses only Python's standard library, so
that it also serves as an example of a receiver.
"""

import base64
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

KEY = base64.b64decode(os.environ["KEYHOLE_WEBHOOK_SECRET"].removeprefix("whsec_"))
#: A request whose signature is older than this, in seconds, can be a copy of an earlier request.
OLDEST = 300


class Receiver(BaseHTTPRequestHandler):
    """Accepts requests with a valid signature."""

    def do_POST(self) -> None:
        """Print one line of JSON about the event, and answer 204, or 401 if the signature is wrong."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        event_id, sent = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        signed = base64.b64encode(hmac.digest(KEY, f"{event_id}.{sent}.".encode() + body, "sha256")).decode()
        given = self.headers["webhook-signature"].split()
        valid = abs(time.time() - int(sent)) < OLDEST and any(
            hmac.compare_digest(one, f"v1,{signed}") for one in given
        )
        event = json.loads(body)
        line = {"signed": valid, "subject": event["subject"], "status": event["data"]["status"]}
        print(json.dumps(line), flush=True)
        self.send_response(204 if valid else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing else."""


if __name__ == "__main__":
    # One request at a time, so that no two lines mix.
    HTTPServer((sys.argv[1], int(sys.argv[2])), Receiver).serve_forever()
