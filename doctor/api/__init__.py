"""The HTTP API: orders and questions as JSON over a Unix socket, for the CLI and whatever else people write.

The socket stands in a 0700 directory beside a token file; a request needs both. Every POST and DELETE takes an
`Idempotency-Key`: a retry with the same key gets the first answer and changes nothing. `/schema/openapi.json` describes it all.
"""
