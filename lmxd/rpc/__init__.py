"""JSON-RPC 2.0 over a Unix socket, one JSON object a line: messages, framing, server and client."""
