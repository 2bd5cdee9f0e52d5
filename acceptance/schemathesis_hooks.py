"""What schemathesis does not know by itself: how a mail is sent (acceptance/tests/contract.rs)."""

import schemathesis


@schemathesis.serializer("message/rfc822")
def mail(_context, value):
    return value if isinstance(value, bytes) else str(value).encode()
