"""Typed client of the guest agent (Kata's agent protocol), and the ways to reach it.

Glossary:

- *agent URL*: where the agent of one VM is reached, such as `serial:///run/kata/x/agent` (`agent_client.address`).
- *handshake*: what is said on a fresh stream before ttrpc: our preamble on a virtio-serial port, `CONNECT` on hybrid
  vsock, nothing on vsock (`agent_client.handshake`).
- *dial*: connect and shake hands, within one deadline (`agent_client.dial`).
- *line*: one connection at a time, and another in its place when it is lost (`agent_client.line`); the *keeper* makes
  it (`agent_client.keeper`).
- *client*: a method per RPC, over the line (`agent_client.client`).
- *streams*: a process' input and outputs from first byte to last, over however many connections
  (`agent_client.streams`).

The guest is hostile by assumption: whatever it answers is bounded by the transport (4 MiB), checked where it could
mislead the caller (lengths, status), and folded to one printable line where it is text for people.
"""
