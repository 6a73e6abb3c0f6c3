"""JSON-RPC 2.0, one JSON object a line, over a Unix socket: messages, framing, server and client."""
