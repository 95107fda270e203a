// Connects with npm's `ws` and prints what comes, one JSON object a line: [kind, length, text]. Arguments: URL, then the options of
// `ws` as JSON. Ends after the close, which it prints as ["close", code, reason].
"use strict";
const { WebSocket } = require(require.resolve("ws", { paths: [process.env.NODE_MODULES] }));

const socket = new WebSocket(process.argv[2], JSON.parse(process.argv[3] || "{}"));
const say = (...values) => process.stdout.write(JSON.stringify(values) + "\n");
socket.on("open", () => say("open", 0, socket.extensions));
socket.on("message", (data, binary) => say(binary ? "binary" : "text", data.length, binary ? "" : data.toString().slice(0, 200)));
socket.on("close", (code, reason) => say("close", code, reason.toString()));
socket.on("unexpected-response", (_request, response) => { say("refused", response.statusCode, ""); process.exit(0); });
socket.on("error", error => say("error", 0, error.message));
