// npm's `ws`. Prints a line of JSON when it connects and for each message, and echoes small messages.
// Arguments: URL, `compress` or `plain`, subprotocols. NODE_MODULES is the folder with `ws`.
"use strict";
const { createHash } = require("node:crypto");
const { WebSocket } = require(require.resolve("ws", { paths: [process.env.NODE_MODULES] }));

const ECHOED = 100000;  // bytes; larger messages are not echoed
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
