// npm's `ws`. It says, a line of JSON each, that it is connected and what it gets, and sends back what is small.
// Arguments: URL, `compress` or `plain`, subprotocols. NODE_MODULES is the folder that `ws` is in.
"use strict";
const { createHash } = require("node:crypto");
const { WebSocket } = require(require.resolve("ws", { paths: [process.env.NODE_MODULES] }));

const ECHOED = 100000;  // bytes; larger messages are not sent back
const [, , url, compression, ...subprotocols] = process.argv;
const options = { followRedirects: true, perMessageDeflate: compression === "compress" };
const socket = new WebSocket(url, subprotocols, options);
const say = (...values) => process.stdout.write(JSON.stringify(values) + "\n");
socket.on("open", () => say("open", socket.protocol, socket.extensions));
socket.on("message", (data, binary) => {
  say(binary ? "binary" : "text", data.length, createHash("sha256").update(data).digest("hex"));
  if (data.length <= ECHOED) socket.send(data, { binary });
});
socket.on("close", code => say("closed", code));
socket.on("unexpected-response", (_request, response) => { say("refused", response.statusCode); process.exit(1); });
socket.on("error", error => say("error", error.message));
