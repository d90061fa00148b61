"""The fast parser of listings: it has the results of botocore's parser, and leaves unusual pages to it."""

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from hypothesis import example, given
from hypothesis import strategies as st

from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_listing import parse_objects

TIME = "<LastModified>2026-05-01T12:00:00.000Z</LastModified>"
REST = f"{TIME}<ETag>&quot;e&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass>"
USUAL = f"<Contents><Key>a</Key>{REST}</Contents>"
RESTORED = (
    "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
    "<RestoreExpiryDate>2026-06-01T00:00:00.000Z</RestoreExpiryDate></RestoreStatus>"
)
ADDRESS = re.compile(" at 0x[0-9a-f]+")
#: What Keyhole reads of an entry.
FIELDS = ("Key", "LastModified", "ETag", "Size", "StorageClass", "RestoreStatus")


class Pages:
    """Two clients that parse a document without sending a request: Keyhole's, and one with only botocore."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        self._fast, self._plain = (
            S3Access(endpoint_url="http://127.0.0.1:9", region="us-east-1", connections=1).client
            for _ in range(2)
        )
        self._plain.meta.events.unregister("before-parse.*.ListObjectsV2", parse_objects)
        self.body = b""
        #: The body that botocore's own parser receives from Keyhole's.
        self.left = b""
        for client in (self._fast, self._plain):
            client.meta.events.register("before-send.s3", self._answer)
        self._fast.meta.events.register_first("before-parse.s3.*", self._keep)

    def both(self, xml: str) -> tuple[Any, Any]:
        """The results of both clients, or their errors."""
        self.body = f"<ListBucketResult>{xml}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
        return self._listed(self._fast), self._listed(self._plain)

    def is_fast(self) -> bool:
        """Whether the fast parser has taken the objects of the last page."""
        return b"<Contents>" not in self.left

    def _answer(self, request: AWSRequest, **_: object) -> AWSResponse:
        response = AWSResponse(str(request.url), 200, HTTPHeaders(), None)
        response._content = self.body
        return response

    def _keep(self, response_dict: Mapping[str, Any], **_: object) -> None:
        self.left = response_dict["body"]

    @staticmethod
    def _listed(client: Any) -> Any:
        try:
            answer = client.list_objects_v2(Bucket="images", EncodingType="url")
        except (ClientError, ResponseParserError, ValueError, RuntimeError) as error:
            return type(error), str(error)
        contents = [{name: one[name] for name in FIELDS if name in one} for one in answer.pop("Contents", [])]
        answer.pop("ResponseMetadata")
        # botocore returns elements of the document if a name is repeated in an entry.
        return ADDRESS.sub("", repr(contents)), answer


@pytest.fixture(scope="module")
def pages() -> Any:
    """The clients, which all tests share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Pages(monkeypatch)


@pytest.mark.parametrize(
    "xml",
    [
        USUAL,
        USUAL * 3,
        f"<Contents>{REST}<Key>a%20b</Key></Contents>",
        f"<Contents><Size>0</Size><StorageClass>X</StorageClass><ETag>e</ETag>{TIME}<Key>a</Key></Contents>",
        f"<Contents><Key>a</Key>{REST}<Owner><ID>1</ID><DisplayName>x</DisplayName></Owner></Contents>",
        f"<Contents><Key>a</Key>{REST}<Type>Normal</Type></Contents>",
        f"<Contents><Key>a</Key><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>{REST}</Contents>",
    ],
)
def test_the_form_of_common_servers_is_parsed_fast_and_alike(pages: Pages, xml: str) -> None:
    fast, plain = pages.both(xml)

    assert fast == plain
    assert pages.is_fast()


@pytest.mark.parametrize(
    "xml",
    [
        USUAL + f"<Contents><Key>b</Key>{REST}{RESTORED}</Contents>",
        USUAL.replace("<Key>", " <Key>"),
        USUAL + "\n" + USUAL,
        USUAL + "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>" + USUAL,
        USUAL.replace("<Key>a", "<Key>a&amp;b"),
        USUAL.replace("<Key>a", "<Key>caf\u00e9"),
        USUAL.replace("<Key>a", "<Key>a\rb"),
        USUAL.replace("<Key>a", "<Key>a\x01b"),
        USUAL.replace("<Key>a", "<Key>a]]>b"),
        USUAL.replace("<Key>a</Key>", ""),
        USUAL.replace("<Key>a</Key>", "<Key></Key>"),
        USUAL.replace(TIME, ""),
        USUAL.replace("05-01", "55-01"),
        USUAL.replace("05-01T12:00:00.000Z", "05-01T12:00:00.000+02:00"),
        USUAL.replace("<Size>1", "<Size>-1"),
        USUAL.replace("<Size>1", "<Size>x"),
        USUAL.replace("<Size>1", "<Size>" + "1" * 5000),
        USUAL.replace("<Key>", "<Key>b</Key><Key>"),
        USUAL.replace("<StorageClass>STANDARD</StorageClass>", ""),
        USUAL.replace("</Contents>", ""),
        "<Contents>" + USUAL,
        f"<!-- {USUAL} -->",
        f"<Name><![CDATA[{USUAL}]]></Name>",
        "</Contents><Contents>",
        "<Contents></Contents>",
    ],
)
def test_all_else_is_left_to_botocore(pages: Pages, xml: str) -> None:
    fast, plain = pages.both(xml)

    assert fast == plain
    assert pages.left == pages.body


WORDS = "<Contents> </Contents> <Key>a</Key> <Size>1</Size> <Owner> </Owner> <ID>i</ID> <!-- --> &quot; x"
PIECES = st.lists(
    st.sampled_from([*WORDS.split(), " ", TIME, USUAL, REST, RESTORED]) | st.text(max_size=3).map(escape),
    max_size=12,
)


@given(PIECES)
@example(["<Contents>", "<Key>a</Key>", "<Key>b</Key>", REST, "</Contents>"])
@example([USUAL, "<!-- ", USUAL, " -->"])
def test_every_document_has_the_same_result(pages: Pages, pieces: list[str]) -> None:
    fast, plain = pages.both("".join(pieces))

    assert fast == plain
